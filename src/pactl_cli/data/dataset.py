"""Labelled examples, resident on one device as tensors or, behind the same interface, streamed from files."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli import randomness
from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.data.files.progress import Progress, unheard
from pactl_cli.data.tables.encoding import Encoding
from pactl_cli.data.views import Augmentation
from pactl_cli.errors import PactlError
from pactl_cli.models.inputs import FEATURES, IMAGE, Inputs, InputSpec, change, select

Origins = NDArray[np.uint64]
"""A fingerprint for each example, of the text that it was made from, shape (n,)."""


class LabelledExamples(Protocol):
    """n inputs and their labels, wherever the inputs are stored. Training and evaluation rely on nothing else."""

    @property
    def labels(self) -> Tensor:
        """The labels, shape (n,), int64, on the device where batches are wanted."""

    @property
    def spec(self) -> InputSpec:
        """The kind, shape and type of one input."""

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Sentences on what the fingerprint does not cover."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor) -> Self: ...

    def to(self, device: torch.device) -> Self:
        """Return the same examples, with their batches on `device`."""

    def with_labels(self, labels: Tensor) -> Self:
        """Return the same inputs with other labels."""

    def with_workers(self, count: int | None) -> Self:
        """Return the same examples. If they need decoding, `count` processes do it; None: as many as are useful."""

    def batches(
        self, parts: Sequence[Tensor], augmentation: Augmentation | None = None
    ) -> Generator[Examples, None, None]:
        """Yield the augmented examples of each index tensor in turn.

        Close the generator if you leave before its end, because worker processes may be running for it.
        """

    def resident(self) -> Examples:
        """Return all examples as tensors on their device."""

    def sha256(self, progress: Progress = unheard) -> str:
        """Return a fingerprint of every input and label, in order."""


@dataclass(frozen=True)
class Examples:
    """Resident examples: n inputs, a tensor or several by name, and labels, shape (n,), int64.

    Attributes:
        vocabulary: the number of tokens, if the inputs are tokens and it is known.
        origins: a fingerprint of each text, if the inputs were made from texts.
    """

    inputs: Inputs
    labels: Tensor
    vocabulary: int | None = None
    origins: Origins | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> Examples:
        origins = origins_at(self.origins, indices)
        return replace(self, inputs=select(self.inputs, indices), labels=self.labels[indices], origins=origins)

    @property
    def spec(self) -> InputSpec:
        """The kind, shape and type of one input."""
        return InputSpec.of(self.inputs, self.vocabulary)

    @property
    def images(self) -> Tensor:
        """The inputs as images, shape (n, C, H, W).

        Raises:
            TypeError: if they are not images.
        """
        if not isinstance(self.inputs, Tensor) or self.spec.kind != IMAGE:
            raise TypeError(f"{self.spec} are not images")
        return self.inputs

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Nothing, because the fingerprint covers every number."""
        return ()

    def to(self, device: torch.device) -> Examples:
        """Return the same examples on `device`."""
        moved = change(self.inputs, lambda tensor: tensor.to(device))
        return replace(self, inputs=moved, labels=self.labels.to(device))

    def with_labels(self, labels: Tensor) -> Examples:
        """Return the same inputs with other labels."""
        return replace(self, labels=labels)

    def with_workers(self, count: int | None) -> Examples:
        """Return these examples, which need no decoding."""
        return self

    def batches(
        self, parts: Sequence[Tensor], augmentation: Augmentation | None = None
    ) -> Generator[Examples, None, None]:
        """Yield the augmented examples of each index tensor in turn."""
        look = augmentation and augmentation.over(len(self), self.labels.device)
        for part in parts:
            batch = self[part]
            yield Examples(look(batch.images, part), batch.labels) if look else batch

    def resident(self) -> Examples:
        """Return these examples."""
        return self

    def sha256(self, progress: Progress = unheard) -> str:
        """Return a fingerprint of all numbers and labels with their types and shapes; tensors by name are sorted."""
        if isinstance(self.inputs, Tensor):
            return fingerprint(self.inputs.shape, [self.inputs.cpu().numpy()], self.labels)
        names = sorted(self.inputs)
        tensors = (_tensor_bytes(self.inputs[name]) for name in names)
        return _sha256([f"mapping{json.dumps(names)}".encode()], *tensors, _tensor_bytes(self.labels))


def resident_parts(images: Tensor, train: Sequence[int], test: Sequence[int] = ()) -> list[Examples]:
    """Return the training and the test set, given their images in one tensor, training first, and their labels."""
    parts = (images[: len(train)], train), (images[len(train) :], test)
    return [Examples(some, torch.tensor(labels, dtype=torch.int64)) for some, labels in parts]


def origins_at(origins: Origins | None, indices: Tensor) -> Origins | None:
    """Return the origins of some examples, or None if there are no origins."""
    return None if origins is None else origins[indices.cpu().numpy()]


def fingerprint(shape: Sequence[int], pieces: Iterable[NDArray[Any]], labels: Tensor) -> str:
    """Return the sha256 of inputs and their labels.

    Args:
        shape: of the whole tensor of inputs.
        pieces: that tensor in pieces of one type, in order.
    """
    return _sha256(_piecewise_bytes(shape, pieces), _tensor_bytes(labels))


def _sha256(*parts: Iterable[bytes | memoryview]) -> str:
    digest = sha256()
    for piece in chain(*parts):
        digest.update(piece)
    return digest.hexdigest()


def _tensor_bytes(tensor: Tensor) -> Iterator[bytes | memoryview]:
    return _piecewise_bytes(tensor.shape, [tensor.cpu().numpy()])


def _piecewise_bytes(shape: Sequence[int], pieces: Iterable[NDArray[Any]]) -> Iterator[bytes | memoryview]:
    """Yield the type and shape of a whole tensor, and the numbers of its pieces."""
    for place, values in enumerate(pieces):
        little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
        if not place:
            yield f"{little.dtype.str}{tuple(shape)}".encode()
        yield little.data


@dataclass(frozen=True)
class Dataset:
    """A training set, and a test set if there is one.

    Attributes:
        class_names: in the order of the class numbers; None if the classes have no names.
        notes: sentences that tell the user how the data were interpreted.
        encoding: how the rows of a table become numbers; None for other data.
        tokenizer_sha256: of the tokenizer's file; None if there is no such file.
    """

    name: str
    classes: int
    train: LabelledExamples
    test: LabelledExamples | None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    encoding: Encoding | None = None
    tokenizer_sha256: str | None = None

    @property
    def spec(self) -> InputSpec:
        """The kind, shape and type of one input."""
        return self.train.spec

    @property
    def kind(self) -> str:
        """The kind of input that a network gets. The rows of a table become features first."""
        return self.spec.kind if self.encoding is None else FEATURES

    def encoded(self, encoding: Encoding) -> Dataset:
        """Return the rows of a table as features."""
        found = self.each(lambda raw: Examples(encoding.encode(raw.resident().inputs), raw.labels))
        return replace(found, encoding=encoding)

    @property
    def parts(self) -> tuple[LabelledExamples, ...]:
        """The training set, and the test set if there is one."""
        return (self.train,) if self.test is None else (self.train, self.test)

    def each(self, change: Callable[[LabelledExamples], LabelledExamples]) -> Dataset:
        """Return the data set with its training and test examples changed alike."""
        return replace(self, train=change(self.train), test=None if self.test is None else change(self.test))

    def to(self, device: torch.device) -> Dataset:
        """Return the same data on `device`."""
        return self.each(lambda examples: examples.to(device))

    def with_workers(self, count: int | None) -> Dataset:
        """Return the same data. If it needs decoding, `count` processes do it; None: as many as are useful."""
        return self.each(lambda examples: examples.with_workers(count))

    def with_images(self, change: Callable[[Tensor], Tensor]) -> Dataset:
        """Return the same labels with changed images.

        Raises:
            PactlError: if the images are not in memory.
        """

        def changed(examples: LabelledExamples) -> Examples:
            if not isinstance(examples, Examples):
                raise PactlError(f"--dataset {self.name}: images that do not fit into memory cannot be adapted")
            return Examples(change(examples.images), examples.labels)

        return self.each(changed)

    def with_label_noise(self, rate: float) -> Dataset:
        """Return the data with each label, in both parts, replaced by a uniform one with probability `rate`."""

        def noisy(part: str, examples: LabelledExamples) -> LabelledExamples:
            count = len(examples)
            chosen = randomness.uniforms(DEFAULT_SEED, f"label-noise/{part}/chosen", count) < rate
            label = randomness.integers(DEFAULT_SEED, f"label-noise/{part}/label", count, self.classes)
            return examples.with_labels(torch.where(torch.from_numpy(chosen), torch.from_numpy(label), examples.labels))

        if not rate:
            return self
        return replace(self, train=noisy("train", self.train), test=self.test and noisy("test", self.test))
