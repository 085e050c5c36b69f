"""Values of the user's arrays: where they are stored, which are valid, and how they become inputs of a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.files.stored_array import PIECE_BYTES
from pactl_cli.errors import PactlError
from pactl_cli.models.inputs import InputSpec

Values = NDArray[Any]

_MOST_INTEGER = np.iinfo(np.int64).max
_HINTS = {
    "c": "take its real part, its size (numpy.abs), or both as columns",
    "O": 'Python objects are not read: save numbers, as x.astype("float32")',
    **dict.fromkeys("US", 'for numbers that are written as text: x.astype("float32")'),
    "V": "save its fields as columns, in one array of numbers",
    "M": 'save times as numbers: x.astype("datetime64[s]").astype("float64"), from some start',
    "m": 'save spans of time as numbers: x / numpy.timedelta64(1, "s")',
}
"""What to do with arrays that do not hold numbers, by numpy's kind of type."""


class Stored(Protocol):
    """The rows of an array, wherever they are stored."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole array."""

    def read(self, rows: NDArray[np.int64]) -> Values:
        """Return some rows."""


@dataclass(frozen=True)
class Held:
    """An array in memory."""

    array: Values

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.array.shape

    def read(self, rows: NDArray[np.int64]) -> Values:
        """Return some rows."""
        found: Values = self.array[rows]
        return found

    def pieces(self) -> Iterator[tuple[int, Values]]:
        """Yield views of all rows in order, a few at a time, each with the index of its first row."""
        step = max(1, PIECE_BYTES * len(self.array) // max(1, self.array.nbytes))
        for start in range(0, len(self.array), step):
            yield start, self.array[start : start + step]


@dataclass(frozen=True)
class Form:
    """The form in which a network gets the rows of an array.

    Attributes:
        shape: of one input.
        dtype: of its numbers.
        channels_last: whether the last axis of the array counts the channels.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    channels_last: bool = False

    @property
    def size_bytes(self) -> int:
        """The size of one input in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def tensor(self, rows: Values) -> Tensor:
        """Return rows in this form; a view if nothing has to change."""
        with np.errstate(over="ignore", invalid="ignore"):
            rows = rows.astype(self.dtype, copy=False)
        if self.channels_last:
            rows = np.moveaxis(rows, -1, 1)
        return torch.from_numpy(np.require(rows.reshape(len(rows), *self.shape), requirements=("C", "W")))


@dataclass(frozen=True)
class ArrayRows:
    """The rows of an array as inputs."""

    stored: Stored
    form: Form

    @property
    def spec(self) -> InputSpec:
        """The kind, shape and type of one input."""
        return InputSpec.of(self.form.tensor(np.empty((0, *self.stored.shape[1:]), self.form.dtype)))

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the inputs of some rows."""
        return self.form.tensor(self.stored.read(rows))


def input_type(what: str, dtype: np.dtype[Any], *, keeps: str = "") -> np.dtype[Any]:
    """Return the type in which a network gets numbers: bytes, 64-bit integers, or single precision.

    Args:
        what: the array's name for messages.
        keeps: numpy's kinds of types that stay as they are.

    Raises:
        PactlError: if the type is not one of numbers.
    """
    if dtype.kind in keeps or dtype == np.uint8:
        return dtype
    if dtype.kind in "iu":
        return np.dtype(np.int64)
    if dtype.kind not in "fb":
        called = f"the fields {', '.join(dtype.names)}" if dtype.names else f"the type {dtype}"
        called = "Python objects" if dtype.kind == "O" else called
        hint = "" if dtype.kind == "V" and not dtype.names else _HINTS.get(dtype.kind, "")
        raise PactlError(f"{what} has {called}, not numbers", hint)
    return np.dtype(np.float32)


def require_finite(what: str, called: str, pieces: Iterable[tuple[int, Values]]) -> None:
    """Raise PactlError if numbers are not finite, or too large for the type in which a network gets them.

    Args:
        what: the array's name for messages.
        called: the name under which it was saved.
        pieces: all rows, a few at a time, each with the index of its first row.
    """
    odd, huge = _Faults(), _Faults()
    for start, piece in pieces:
        if piece.dtype.kind == "u" and piece.dtype.itemsize > 4:
            huge.note(start, piece, piece > _MOST_INTEGER)
        elif piece.dtype.kind == "f":
            with np.errstate(over="ignore", invalid="ignore"):
                is_wrong = ~np.isfinite(piece.astype(np.float32))
            if is_wrong.any():
                odd.note(start, piece, ~np.isfinite(piece))
                huge.note(start, piece, is_wrong & np.isfinite(piece))
    if odd.count:
        raise PactlError(
            f"{what} has values that are not finite numbers, {odd.in_words(called)}",
            "remove these examples, or put numbers in their place",
        )
    if huge.count and isinstance(huge.value, np.unsignedinteger):
        raise PactlError(f"{what} has integers of more than 63 bits, {huge.in_words(called)}", "use int64")
    if huge.count:
        raise PactlError(
            f"{what} has numbers too large for single precision, {huge.in_words(called)}",
            "scale them: at most 3.4e+38",
        )


@dataclass
class _Faults:
    """The number of invalid values, and the place of the first."""

    count: int = 0
    place: tuple[int, ...] = ()
    value: Any = None

    def note(self, start: int, piece: Values, is_wrong: NDArray[np.bool_]) -> None:
        """Count the invalid values of a piece, whose first row has the index `start`."""
        count = int(is_wrong.sum())
        if count and not self.count:
            row, *rest = (int(index) for index in np.unravel_index(is_wrong.argmax(), is_wrong.shape))
            self.place, self.value = (start + row, *rest), piece[(row, *rest)]
        self.count += count

    def in_words(self, called: str) -> str:
        """Return the number of invalid values, and the first of them, in words."""
        place = ", ".join(map(str, self.place))
        return f"{self.count:,} of them; the first is {called}[{place}] = {self.value}"
