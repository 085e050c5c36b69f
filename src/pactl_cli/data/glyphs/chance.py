"""Random numbers, waves and deformations of drawings, with the same bits on every machine.

The modules of this folder use only +, -, *, / and the square root of floating-point numbers, which every machine rounds
alike. So normal numbers are approximated by sums of uniform ones, sines by parabolas, and rotations by rational
functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from pactl_cli import randomness
from pactl_cli.certificate.format import DEFAULT_SEED

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Chance:
    """The random numbers of `count` drawings, with a stream for each quantity.

    Attributes:
        name: the prefix of the streams' names.
    """

    name: str
    count: int

    def uniform(self, what: str, low: float, high: float, *shape: int) -> Numbers:
        """Return numbers between `low` and `high`, shape (count, *shape)."""
        drawn = randomness.uniforms(DEFAULT_SEED, f"glyphs/{self.name}/{what}", self.count * prod(shape))
        return low + (high - low) * drawn.reshape(self.count, *shape)

    def bell(self, what: str, deviation: float, *shape: int) -> Numbers:
        """Return nearly normal numbers about 0, at most 3.5 deviations away, shape (count, *shape)."""
        drawn = self.uniform(what, 0.0, 1.0, 4, *shape)
        return deviation * sqrt(3.0) * (((drawn[:, 0] + drawn[:, 1]) + drawn[:, 2]) + drawn[:, 3] - 2.0)

    def factor(self, what: str, deviation: float, *shape: int) -> Numbers:
        """Return factors about 1, where x and 1 / x are equally likely, shape (count, *shape)."""
        half = self.bell(what, deviation, *shape) / 2.0
        return (1.0 + half) / (1.0 - half)

    def below(self, what: str, limit: int) -> NDArray[np.int64]:
        """Return integers in [0, limit), shape (count,)."""
        return randomness.integers(DEFAULT_SEED, f"glyphs/{self.name}/{what}", self.count, limit)


def wave(turns: Numbers) -> Numbers:
    """Return a wave of period 1 between -1 and 1, made of parabolas that approximate the sine.

    >>> print(wave(np.array([0.0, 0.25, 0.5, 0.75])) + 0.0)
    [ 0.  1.  0. -1.]
    """
    place = 2.0 * (turns - np.floor(turns)) - 1.0
    return 4.0 * place * (np.abs(place) - 1.0)


@dataclass(frozen=True)
class Deformation:
    """A deformation of each drawing: a rotation, a shear, a stretch and three waves, each number of shape (n, 1)."""

    turn: Numbers
    shear: Numbers
    stretch: Numbers
    waves: tuple[tuple[Numbers, ...], ...]

    @classmethod
    def drawn(cls, chance: Chance, turn: float, shear: float, stretch: float, waves: float) -> Deformation:
        """Return random deformations with these deviations. Waves have 0.3 to 1 periods in half a drawing."""
        several = []
        for number in range(3):
            toward, along = (chance.uniform(f"wave {number} {what}", 0, 1, 1) for what in ("toward", "along"))
            pitch, size = chance.uniform(f"wave {number} pitch", 0.3, 1.0, 1), chance.bell(f"wave {number}", waves, 1)
            directions = (
                pitch * wave(toward),
                pitch * wave(toward + 0.25),
                size * wave(along),
                size * wave(along + 0.25),
            )
            several.append((*directions, chance.uniform(f"wave {number} phase", 0, 1, 1)))
        half = chance.bell("turn", turn, 1) / 2.0
        return cls(half, chance.bell("slant", shear, 1), chance.factor("stretch", stretch, 1), tuple(several))

    def __getitem__(self, some: slice | NDArray[np.int64]) -> Deformation:
        waves = tuple(tuple(number[some] for number in each) for each in self.waves)
        return Deformation(self.turn[some], self.shear[some], self.stretch[some], waves)

    def __call__(self, x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
        """Return the deformed points, given and returned as distances from the middle, in halves of a drawing."""
        square = self.turn * self.turn
        cosine, sine = (1.0 - square) / (1.0 + square), 2.0 * self.turn / (1.0 + square)
        x, y = cosine * x - sine * y, sine * x + cosine * y
        x = (x + self.shear * y) * self.stretch
        for toward_x, toward_y, along_x, along_y, phase in self.waves:
            height = wave(toward_x * x + toward_y * y + phase)
            x, y = x + along_x * height, y + along_y * height
        return x, y
