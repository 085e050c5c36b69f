"""Examples that are made batch by batch: read from a file, expanded from a sparse matrix, or resized."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.dataset import Examples, LabelledExamples, Origins, fingerprint, origins_at
from pactl_cli.data.files.capacity import available_memory
from pactl_cli.data.files.progress import Progress, unheard
from pactl_cli.data.views import Augmentation
from pactl_cli.models.inputs import InputSpec

_VALUES_AT_ONCE = 1 << 24
_AT_ONCE = 256


class Rows(Protocol):
    """All inputs of one part of a data set, wherever they are stored."""

    @property
    def spec(self) -> InputSpec:
        """The kind, shape and type of one input, which is one tensor."""

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the inputs of some rows, shape (m, ...), on the CPU."""


@dataclass(frozen=True)
class LazyExamples:
    """Examples whose inputs are made batch by batch: input i from row `places[i]`. Labels are resident.

    Attributes:
        vocabulary, origins: as in `Examples`.
    """

    rows: Rows
    places: NDArray[np.int64]
    labels: Tensor
    vocabulary: int | None = None
    origins: Origins | None = None

    @classmethod
    def of(cls, rows: Rows, labels: Tensor) -> LazyExamples:
        """Return all rows as examples with these labels."""
        return cls(rows, np.arange(len(labels)), labels)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, indices: Tensor) -> LazyExamples:
        places, origins = self.places[indices.cpu().numpy()], origins_at(self.origins, indices)
        return replace(self, places=places, labels=self.labels[indices], origins=origins)

    @property
    def spec(self) -> InputSpec:
        """The kind, shape and type of one input."""
        return replace(self.rows.spec, vocabulary=self.vocabulary)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Nothing, because the fingerprint covers every number."""
        return ()

    def to(self, device: torch.device) -> LazyExamples:
        """Return the same examples, with their batches on `device`."""
        return replace(self, labels=self.labels.to(device))

    def with_labels(self, labels: Tensor) -> LazyExamples:
        """Return the same inputs with other labels."""
        return replace(self, labels=labels)

    def with_workers(self, count: int | None) -> LazyExamples:
        """Return these examples, which need no decoding."""
        return self

    def batches(
        self, parts: Sequence[Tensor], augmentation: Augmentation | None = None
    ) -> Generator[Examples, None, None]:
        """Make and yield the augmented examples of each index tensor in turn."""
        look = augmentation.over(len(self), self.labels.device) if augmentation else None
        for part in parts:
            made = self.rows.read(self.places[part.cpu().numpy()]).to(self.labels.device)
            yield Examples(look(made, part) if look else made, self.labels[part])

    def _in_order(self) -> tuple[Tensor, ...]:
        parts: tuple[Tensor, ...] = torch.arange(len(self)).split(max(1, _VALUES_AT_ONCE // self.spec.values))
        return parts

    def resident(self) -> Examples:
        """Make and return all examples on their device."""
        made = torch.cat([batch.inputs for batch in self.batches(self._in_order())])  # type: ignore[misc]
        return Examples(made, self.labels, self.vocabulary, self.origins)

    def sha256(self, progress: Progress = unheard) -> str:
        """Return the fingerprint that the examples would have if they were resident."""
        shape = next(iter(dict(self.spec.tensors).values())).shape

        def pieces() -> Generator[NDArray[np.generic], None, None]:
            done = 0
            for part in self._in_order():
                yield self.rows.read(self.places[part.numpy()]).numpy()
                done += len(part)
                progress(done, len(self))

        return fingerprint((len(self), *shape), pieces(), self.labels)


@dataclass(frozen=True)
class _Resident:
    """Inputs in memory."""

    inputs: Tensor

    @property
    def spec(self) -> InputSpec:
        return InputSpec.of(self.inputs)

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        return self.inputs[torch.from_numpy(rows)]


def with_rows(
    examples: LabelledExamples, change: Callable[[Rows], Rows], progress: Progress = unheard
) -> Examples | LazyExamples:
    """Return images with changed rows: resident if they fit into half of the available memory, else made by batch.

    Raises:
        TypeError: if the images are files, which are decoded in their frame.
    """
    if isinstance(examples, Examples):
        examples = LazyExamples.of(_Resident(examples.images), examples.labels)
    if not isinstance(examples, LazyExamples):
        raise TypeError(f"{type(examples).__name__} have no rows")
    made = replace(examples, rows=change(examples.rows))
    spec, count = made.rows.spec, len(made)
    if count * spec.size_bytes > available_memory() // 2:
        return made
    (_, tensor), *_ = spec.tensors
    inputs = torch.empty((count, *tensor.shape), dtype=tensor.dtype)
    for start in range(0, count, _AT_ONCE):
        some = made.places[start : start + _AT_ONCE]
        inputs[start : start + len(some)] = made.rows.read(some)
        progress(start + len(some), count)
    return Examples(inputs, made.labels)
