"""The levels that symbols stand for, as 16-bit floating-point numbers.

A grid is one step; free levels are a set, whose order carries no information and is not
paid for: K levels cost log2 of the number of K-element sets of finite half-precision
numbers, which is about log2 K! bits less than K times sixteen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

from pactl_cli.certificate.codes import BitReader, BitWriter, DecodeError, read_gamma, write_gamma

MAX_LEVELS = 1 << 10

_LARGEST = int(np.array(np.finfo(np.float16).max).view(np.uint16))
"""The bits of the largest finite half; the bits of positive halves are ordered as their values are."""


def to_half(value: float) -> float:
    """The nearest half-precision number.

    Raises:
        ValueError: if it is not finite.
    """
    half = float(np.float16(value)) if abs(value) < 65520 else float("inf")
    if not np.isfinite(half):
        raise ValueError(f"{value} is not a finite half-precision number")
    return half + 0.0


def _rank(value: float) -> int:
    """The place of a half-precision number among all finite ones, -0 excepted, from 0."""
    if to_half(value) != value:
        raise ValueError(f"{value} is not a finite half-precision number")
    half = np.float16(value)
    magnitude = int(np.abs(half).view(np.uint16))
    return _LARGEST + (-magnitude if half < 0 else magnitude)


def _value(rank: int) -> float:
    magnitude = float(np.array(abs(rank - _LARGEST), dtype=np.uint16).view(np.float16))
    return -magnitude if rank < _LARGEST else magnitude


@dataclass(frozen=True)
class Grid:
    """Levels step * z for z in -radius .. radius; symbol z is written as z + radius.

    Attributes:
        step: a positive half-precision number.
        radius: R, at least 0.
    """

    step: float
    radius: int

    @property
    def size(self) -> int:
        """K = 2 R + 1."""
        return 2 * self.radius + 1

    def values(self) -> NDArray[np.float32]:
        """The levels, exact in single precision: shape (K,), ascending."""
        return np.float32(self.step) * np.arange(-self.radius, self.radius + 1, dtype=np.float32)

    def write(self, writer: BitWriter) -> None:
        """One bit for the kind, R + 1 in Elias gamma, fifteen bits of a positive half-precision step."""
        writer.write(0, 1)
        write_gamma(writer, self.radius + 1)
        if self.radius:
            writer.write(_rank(self.step) - _LARGEST, 15)


@dataclass(frozen=True)
class FreeLevels:
    """Any K >= 1 distinct half-precision levels, ascending; symbol k stands for `levels[k]`."""

    levels: tuple[float, ...]

    @property
    def size(self) -> int:
        """K."""
        return len(self.levels)

    def values(self) -> NDArray[np.float32]:
        """The levels: shape (K,), ascending."""
        return np.array(self.levels, dtype=np.float32)

    def write(self, writer: BitWriter) -> None:
        """One bit for the kind, K in Elias gamma, the set of levels by its number in the combinatorial system."""
        ranks = [_rank(level) for level in self.levels]
        if any(low >= high for low, high in pairwise(ranks)):
            raise ValueError("levels must be distinct and ascending")
        writer.write(1, 1)
        write_gamma(writer, self.size)
        writer.write(sum(comb(rank, place) for place, rank in enumerate(ranks, 1)), _set_bits(self.size))


Codebook = Grid | FreeLevels


def _set_bits(size: int) -> int:
    """Bits that number every set of `size` finite half-precision numbers."""
    return (comb(2 * _LARGEST + 1, size) - 1).bit_length()


def read_codebook(reader: BitReader) -> Codebook:
    """The codebook that `write` wrote.

    Raises:
        DecodeError: if the bits are not one.
    """
    if not reader.read(1):
        radius = read_gamma(reader) - 1
        if 2 * radius + 1 > MAX_LEVELS:
            raise DecodeError(f"more than {MAX_LEVELS} levels")
        step = _value(_LARGEST + reader.read(15)) if radius else 1.0
        if not 0 < step < np.inf:
            raise DecodeError("the step is not a positive number")
        return Grid(step, radius)
    size = read_gamma(reader)
    if size > MAX_LEVELS:
        raise DecodeError(f"more than {MAX_LEVELS} levels")
    number = reader.read(_set_bits(size))
    if number >= comb(2 * _LARGEST + 1, size):
        raise DecodeError("the levels are not a set of half-precision numbers")
    return FreeLevels(tuple(_value(rank) for rank in _members(number, size)))


def _members(number: int, size: int) -> list[int]:
    """The ranks of a set from its number: for each place the largest rank whose binomial still fits."""
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
