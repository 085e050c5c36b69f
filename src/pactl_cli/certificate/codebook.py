"""The levels that symbols stand for, as 16-bit floating-point numbers.

A grid is written as one step. Free levels are written as a set: their order carries no information and is not paid
for, so K levels cost log2 of the number of K-element sets of finite half-precision numbers, which is about log2 K! bits
less than 16 K. A tag says which form follows: its place among the distinct forms of the catalogue's codebooks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from math import comb
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pactl_cli.catalogue import imported
from pactl_cli.certificate.codes import BitReader, BitWriter, DecodeError, read_gamma, write_gamma
from pactl_cli.certificate.format import MAX_LEVELS, codebook_forms
from pactl_cli.certificate.symbols import Symbols

_LARGEST = int(np.array(np.finfo(np.float16).max).view(np.uint16))
"""The bits of the largest finite half, read as an integer: positive halves are in the same order as their bits."""


def to_half(value: float) -> float:
    """Return the nearest half-precision number.

    Raises:
        ValueError: if that is not finite.
    """
    half = float(np.float16(value)) if abs(value) < 65520 else float("inf")
    if not np.isfinite(half):
        raise ValueError(f"{value} is not a finite half-precision number")
    return half + 0.0


def _rank(value: float) -> int:
    """Return the place of a half-precision number among all finite ones, from 0; -0 counts as 0."""
    if to_half(value) != value:
        raise ValueError(f"{value} is not a finite half-precision number")
    half = np.float16(value)
    magnitude = int(np.abs(half).view(np.uint16))
    return _LARGEST + (-magnitude if half < 0 else magnitude)


def _value(rank: int) -> float:
    magnitude = float(np.array(abs(rank - _LARGEST), dtype=np.uint16).view(np.float16))
    return -magnitude if rank < _LARGEST else magnitude


class Codebook(ABC):
    """The K levels that symbols 0 .. K-1 stand for, in a form that a message can carry."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of levels, K."""

    @abstractmethod
    def values(self) -> NDArray[np.float32]:
        """Return the levels, exact in single precision: shape (K,), ascending."""

    @abstractmethod
    def write(self, writer: BitWriter) -> None:
        """Append the levels, without the tag of their form."""

    @classmethod
    @abstractmethod
    def read(cls, reader: BitReader) -> Self:
        """Return the codebook that `write` wrote.

        Raises:
            DecodeError: if the bits are not a codebook.
        """

    @abstractmethod
    def trimmed(self, symbols: Symbols) -> tuple[Self, Symbols]:
        """Return the codebook of the levels in use, and the symbols of the same coordinates in it."""


@dataclass(frozen=True)
class Grid(Codebook):
    """Levels step * z for z in -radius .. radius; symbol z is written as z + radius.

    Attributes:
        step: a positive half-precision number.
        radius: R, at least 0.
    """

    step: float
    radius: int

    @property
    def size(self) -> int:
        """The number of levels, K = 2 R + 1."""
        return 2 * self.radius + 1

    def values(self) -> NDArray[np.float32]:
        return np.float32(self.step) * np.arange(-self.radius, self.radius + 1, dtype=np.float32)

    def write(self, writer: BitWriter) -> None:
        """Append R + 1 in Elias gamma, and the fifteen bits of a positive half-precision step unless R is 0."""
        write_gamma(writer, self.radius + 1)
        if self.radius:
            writer.write(_rank(self.step) - _LARGEST, 15)

    @classmethod
    def read(cls, reader: BitReader) -> Grid:
        radius = read_gamma(reader) - 1
        if 2 * radius + 1 > MAX_LEVELS:
            raise DecodeError(f"more than {MAX_LEVELS} levels")
        step = _value(_LARGEST + reader.read(15)) if radius else 1.0
        if not 0 < step < np.inf:
            raise DecodeError("the step is not a positive number")
        return cls(step, radius)

    def trimmed(self, symbols: Symbols) -> tuple[Grid, Symbols]:
        offsets = symbols - self.radius
        radius = int(np.abs(offsets).max())
        return Grid(self.step, radius), offsets + radius


@dataclass(frozen=True)
class FreeLevels(Codebook):
    """Any K >= 1 distinct half-precision levels, ascending; symbol k stands for `levels[k]`."""

    levels: tuple[float, ...]

    @property
    def size(self) -> int:
        """The number of levels, K."""
        return len(self.levels)

    def values(self) -> NDArray[np.float32]:
        return np.array(self.levels, dtype=np.float32)

    def write(self, writer: BitWriter) -> None:
        """Append K in Elias gamma, and the number of the set of levels in the combinatorial number system."""
        ranks = [_rank(level) for level in self.levels]
        if any(low >= high for low, high in pairwise(ranks)):
            raise ValueError("levels must be distinct and ascending")
        write_gamma(writer, self.size)
        writer.write(sum(comb(rank, place) for place, rank in enumerate(ranks, 1)), _set_bits(self.size))

    @classmethod
    def read(cls, reader: BitReader) -> FreeLevels:
        size = read_gamma(reader)
        if size > MAX_LEVELS:
            raise DecodeError(f"more than {MAX_LEVELS} levels")
        number = reader.read(_set_bits(size))
        if number >= comb(2 * _LARGEST + 1, size):
            raise DecodeError("the levels are not a set of half-precision numbers")
        return cls(tuple(_value(rank) for rank in _members(number, size)))

    def trimmed(self, symbols: Symbols) -> tuple[FreeLevels, Symbols]:
        levels, symbols = np.unique(np.array(self.levels)[symbols], return_inverse=True)
        return FreeLevels(tuple(levels.tolist())), symbols.astype(np.int64)


def write_codebook(writer: BitWriter, codebook: Codebook) -> None:
    """Append the tag of a codebook's form, then the codebook. Tag 0 is the bit 0, others are a 1 and Elias gamma.

    Raises:
        ValueError: if no row of the catalogue has its form.
    """
    tag = [imported(form) for form in codebook_forms()].index(type(codebook))
    writer.write(min(tag, 1), 1)
    if tag:
        write_gamma(writer, tag)
    codebook.write(writer)


def read_codebook(reader: BitReader) -> Codebook:
    """Return the codebook that `write_codebook` wrote.

    Raises:
        DecodeError: if the bits are not a codebook.
    """
    tag, forms = read_gamma(reader) if reader.read(1) else 0, codebook_forms()
    if tag >= len(forms):
        raise DecodeError("the levels have a form that this version's catalogue lacks")
    form: type[Codebook] = imported(forms[tag])
    return form.read(reader)


def _set_bits(size: int) -> int:
    """Return the number of bits that number every set of `size` finite half-precision numbers."""
    return (comb(2 * _LARGEST + 1, size) - 1).bit_length()


def _members(number: int, size: int) -> list[int]:
    """Return the ranks of a set from its number: for each place the largest rank whose binomial coefficient fits."""
    ranks: list[int] = []
    above = 2 * _LARGEST + 1
    for place in range(size, 0, -1):
        low, high = place - 1, above - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if comb(middle, place) <= number else (low, middle - 1)
        number -= comb(low, place)
        ranks.append(low)
        above = low
    return ranks[::-1]
