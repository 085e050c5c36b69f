"""Labelled examples: resident on one device as tensors, or, by the same interface, streamed from files."""

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
"""Fingerprints of what examples were made from."""


class LabelledExamples(Protocol):
    """n inputs and their labels, wherever the inputs are. What trains and counts knows no more than this."""

    @property
    def labels(self) -> Tensor:
        """Shape (n,), int64, on the device where batches are wanted."""

    @property
    def spec(self) -> InputSpec:
        """What an example is."""

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the fingerprint leaves open, in sentences."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor) -> Self: ...

    def to(self, device: torch.device) -> Self:
        """The same examples, their batches on `device`."""

    def with_labels(self, labels: Tensor) -> Self:
        """The same inputs with other labels."""

    def with_workers(self, count: int | None) -> Self:
        """The same examples, decoded by `count` processes where they must be decoded; None: as many as are useful."""

    def batches(
        self, parts: Sequence[Tensor], augmentation: Augmentation | None = None
    ) -> Generator[Examples, None, None]:
        """The examples of each index tensor, one after the other, seen as the augmentation says.

        Close the generator if you leave before its end: processes may be at work for it.
        """

    def resident(self) -> Examples:
        """All of them on their device."""

    def sha256(self, progress: Progress = unheard) -> str:
        """A fingerprint of every input and label, in order."""


@dataclass(frozen=True)
class Examples:
    """Resident examples: n inputs, a tensor or several by name, and labels, shape (n,), int64.

    Attributes:
        vocabulary: of inputs that are tokens: how many there are; None where that is not known.
        origins: of inputs that were made from texts: a fingerprint of each text, shape (n,).
    """

    inputs: Inputs
    labels: Tensor
    vocabulary: int | None = None
    origins: Origins | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> Examples:
        origins = chosen(self.origins, indices)
        return replace(self, inputs=select(self.inputs, indices), labels=self.labels[indices], origins=origins)

    @property
    def spec(self) -> InputSpec:
        """What an example is."""
        return InputSpec.of(self.inputs, self.vocabulary)

    @property
    def images(self) -> Tensor:
        """The inputs, where they are images: shape (n, C, H, W).

        Raises:
            TypeError: if they are not.
        """
        if not isinstance(self.inputs, Tensor) or self.spec.kind != IMAGE:
            raise TypeError(f"{self.spec} are no images")
        return self.inputs

    @property
    def assumptions(self) -> tuple[str, ...]:
        """None: every number is in the fingerprint."""
        return ()

    def to(self, device: torch.device) -> Examples:
        """The same examples on `device`."""
        moved = change(self.inputs, lambda tensor: tensor.to(device))
        return replace(self, inputs=moved, labels=self.labels.to(device))

    def with_labels(self, labels: Tensor) -> Examples:
        """The same inputs with other labels."""
        return replace(self, labels=labels)

    def with_workers(self, count: int | None) -> Examples:
        """Nothing is to be decoded."""
        return self

    def batches(
        self, parts: Sequence[Tensor], augmentation: Augmentation | None = None
    ) -> Generator[Examples, None, None]:
        """The examples of each index tensor, seen as the augmentation says."""
        look = augmentation and augmentation.over(len(self), self.labels.device)
        for part in parts:
            batch = self[part]
            yield Examples(look(batch.images, part), batch.labels) if look else batch

    def resident(self) -> Examples:
        """These."""
        return self

    def sha256(self, progress: Progress = unheard) -> str:
        """A fingerprint of every number and label, in order, with type and shape; of a mapping, in the order of its
        names, and with them.
        """
        if isinstance(self.inputs, Tensor):
            return fingerprint(self.inputs.shape, [self.inputs.cpu().numpy()], self.labels)
        names = sorted(self.inputs)
        tensors = (_spelled(self.inputs[name]) for name in names)
        return _sha256([f"mapping{json.dumps(names)}".encode()], *tensors, _spelled(self.labels))


def chosen(origins: Origins | None, indices: Tensor) -> Origins | None:
    """Return some of the origins, if there are any."""
    return None if origins is None else origins[indices.cpu().numpy()]


def fingerprint(shape: Sequence[int], pieces: Iterable[NDArray[Any]], labels: Tensor) -> str:
    """The sha256 of one tensor of inputs, its shape in all as given, which comes in pieces of one type, and of their
    labels.
    """
    return _sha256(_in_pieces(shape, pieces), _spelled(labels))


def _sha256(*parts: Iterable[bytes | memoryview]) -> str:
    digest = sha256()
    for piece in chain(*parts):
        digest.update(piece)
    return digest.hexdigest()


def _spelled(tensor: Tensor) -> Iterator[bytes | memoryview]:
    return _in_pieces(tensor.shape, [tensor.cpu().numpy()])


def _in_pieces(shape: Sequence[int], pieces: Iterable[NDArray[Any]]) -> Iterator[bytes | memoryview]:
    """A tensor that comes in pieces of one type: the type, its shape in all, and the numbers, in order."""
    for place, values in enumerate(pieces):
        little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
        if not place:
            yield f"{little.dtype.str}{tuple(shape)}".encode()
        yield little.data


@dataclass(frozen=True)
class Dataset:
    """A training set, and a test set where there is one.

    Attributes:
        class_names: in the order of their numbers; None where the numbers are all that is known.
        notes: what the reader made of what it found, in sentences for the user.
        encoding: of the rows of a table; None of anything else.
        tokenizer_sha256: of the file of what split the texts; None where there is none.
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
        """What an example is."""
        return self.train.spec

    @property
    def kind(self) -> str:
        """Of what a network is given."""
        return self.spec.kind if self.encoding is None else FEATURES

    def encoded(self, encoding: Encoding) -> Dataset:
        """The same rows of a table as features."""
        found = self.each(lambda raw: Examples(encoding.encode(raw.resident().inputs), raw.labels))
        return replace(found, encoding=encoding)

    @property
    def parts(self) -> tuple[LabelledExamples, ...]:
        """The training set, and the test set where there is one."""
        return (self.train,) if self.test is None else (self.train, self.test)

    def each(self, change: Callable[[LabelledExamples], LabelledExamples]) -> Dataset:
        """The same data set, training and test examples both changed."""
        return replace(self, train=change(self.train), test=None if self.test is None else change(self.test))

    def to(self, device: torch.device) -> Dataset:
        """The same data on `device`."""
        return self.each(lambda examples: examples.to(device))

    def with_workers(self, count: int | None) -> Dataset:
        """The same data, decoded by `count` processes where it must be decoded; None: as many as are useful."""
        return self.each(lambda examples: examples.with_workers(count))

    def with_images(self, change: Callable[[Tensor], Tensor]) -> Dataset:
        """The same labels with changed images."""

        def changed(examples: LabelledExamples) -> Examples:
            if not isinstance(examples, Examples):
                raise PactlError(f"--dataset {self.name}: images that do not fit into memory cannot be adapted")
            return Examples(change(examples.images), examples.labels)

        return self.each(changed)

    def with_label_noise(self, rate: float) -> Dataset:
        """Every label, of train and test alike, replaced by a uniform one with probability `rate`."""

        def noisy(part: str, examples: LabelledExamples) -> LabelledExamples:
            count = len(examples)
            chosen = randomness.uniforms(DEFAULT_SEED, f"label-noise/{part}/chosen", count) < rate
            label = randomness.integers(DEFAULT_SEED, f"label-noise/{part}/label", count, self.classes)
            return examples.with_labels(torch.where(torch.from_numpy(chosen), torch.from_numpy(label), examples.labels))

        if not rate:
            return self
        return replace(self, train=noisy("train", self.train), test=self.test and noisy("test", self.test))
