"""Drawings of strokes: curves near given points, deformed and drawn with a round pen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pactl_cli.data.files.progress import Progress
from pactl_cli.data.glyphs.chance import Chance, Deformation, Numbers, wave
from pactl_cli.data.glyphs.outlines import AT_ONCE, BOX, SIDE, Images, shade

_SAMPLES = 88
"""The number of points on a drawing's curves."""
_MISS, _LONGER, _MIDDLE, _TAPER = 0.08, 0.3, 0.15, 0.3
"""Deviations of points, of the ends of strokes, of the height of the middle, and of the width towards the bottom, in
halves of a drawing."""
_THIN, _THICK = 0.7, 3.0
"""The radii of the pens, in pixels."""


@dataclass(frozen=True)
class Form:
    """One way to write something.

    Attributes:
        weight: its relative frequency among the forms of its class.
        points: the points that strokes pass through, shape (k, 2), between -1 and 1.
        ends: the loose ends of strokes, each with the point before it.
        between: the four points that each sample of the curves lies between, shape (88, 4).
        shares: the weights of these points in the sample, shape (88, 4).
    """

    weight: float
    points: Numbers
    ends: tuple[tuple[int, int], ...]
    between: NDArray[np.int64]
    shares: Numbers

    @classmethod
    def of(cls, weight: float, text: str) -> Form:
        """Return the form that a text in the notation of `handwriting` describes."""
        strokes = [stroke.split() for stroke in text.split("/")]
        names = list(dict.fromkeys(name for stroke in strokes for name in stroke))
        points = np.array([name.split(",") for name in names], np.float64) / 50.0 - 1.0
        chains = [[names.index(name) for name in stroke] for stroke in strokes]
        used = [place for chain in chains for place in chain]
        loose = [pair for chain in chains for pair in ((chain[0], chain[1]), (chain[-1], chain[-2]))]
        ends = tuple(pair for pair in loose if used.count(pair[0]) == 1)
        return cls(weight, points, ends, *_sampled(points, chains))

    def curves(self, points: Numbers) -> Numbers:
        """Return samples of the curves through moved points, shape (n, 88, 2)."""
        parts = [self.shares[:, place, None] * points[:, self.between[:, place]] for place in range(4)]
        return (parts[0] + parts[1]) + (parts[2] + parts[3])


def _sampled(points: Numbers, chains: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], Numbers]:
    """Return the samples of Catmull-Rom splines at equal distances, as four points each and their weights."""
    pieces = [(chain, place) for chain in chains for place in range(len(chain) - 1)]
    lengths = [np.sqrt(np.square(points[chain[at + 1]] - points[chain[at]]).sum()) for chain, at in pieces]
    ends = np.cumsum(lengths)
    places = (np.arange(_SAMPLES) + 0.5) / _SAMPLES * ends[-1]
    of = np.searchsorted(ends, places)
    way = 1.0 - (ends[of] - places) / np.array(lengths)[of]
    near = [[chain[max(0, min(at + step, len(chain) - 1))] for step in (-1, 0, 1, 2)] for chain, at in pieces]
    between = np.array(near)[of]
    square, cube = way * way, way * way * way
    shares = (2 * square - cube - way, 3 * cube - 5 * square + 2, 4 * square - 3 * cube + way, cube - square)
    return between, np.stack(shares, axis=1) / 2.0


Forms = Sequence[Sequence[Form]]
"""The forms of each class; none for a class of outlines alone."""


def draw_strokes(chance: Chance, forms: Forms, labels: NDArray[np.int64], progress: Progress) -> Images:
    """Return a drawing of each label, in one of its class's forms, shape (n, 28, 28)."""
    x, y = _written(chance, forms, labels)
    x = x * (1.0 + chance.bell("taper", _TAPER, 1) * y)
    y = y + chance.bell("middle", _MIDDLE, 1) * (1.0 - y * y)
    x, y = Deformation.drawn(chance, turn=0.14, shear=0.28, stretch=0.35, waves=0.05)(x, y)
    share = chance.uniform("radius", 0.0, 1.0, 1)
    radius = _THIN + (_THICK - _THIN) * (share * share)
    width, height = (axis.max(axis=1, keepdims=True) - axis.min(axis=1, keepdims=True) for axis in (x, y))
    scale = (BOX + 0.5 - 2.0 * radius) / np.maximum(np.maximum(width, height), 0.2) * chance.factor("size", 0.03, 1)
    middle_x, middle_y = _mass(x, y)
    x = (x - middle_x) * scale + (SIDE - 1) / 2 + chance.bell("shift x", 0.35, 1)
    y = (y - middle_y) * scale + (SIDE - 1) / 2 + chance.bell("shift y", 0.35, 1)
    turns = chance.uniform("pressure", 0.3, 1.4, 1) * np.arange(_SAMPLES) / _SAMPLES
    press = 1.0 + 0.15 * wave(turns + chance.uniform("press", 0.0, 1.0, 1))
    return _inked((x, y), radius * press, chance.uniform("softness", 0.6, 3.0, 1), progress)


def _written(chance: Chance, forms: Forms, labels: NDArray[np.int64]) -> tuple[Numbers, Numbers]:
    """Return samples of the curves of each label, through points that are moved a little at random."""
    most = max(len(form.points) for several in forms for form in several)
    missed = chance.bell("miss", _MISS, most, 2) * chance.uniform("care", 0.3, 1.4, 1, 1)
    longer = chance.bell("ends", _LONGER, most, 1)
    share, curves = chance.uniform("form", 0.0, 1.0), np.empty((len(labels), _SAMPLES, 2))
    for label, several in enumerate(forms):
        weights = np.cumsum([form.weight for form in several])
        for place, form in enumerate(several):
            some = np.flatnonzero((labels == label) & (np.searchsorted(weights, share * weights[-1]) == place))
            points = form.points + missed[some, : len(form.points)]
            for end, before in form.ends:
                points[:, end] += longer[some, end] * (points[:, end] - points[:, before])
            curves[some] = form.curves(points)
    return curves[..., 0], curves[..., 1]


def _mass(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """Return the centre of mass of each drawing's curves, x and y of shape (n, 1)."""
    steps = np.sqrt(np.square(np.diff(x, axis=1)) + np.square(np.diff(y, axis=1)))
    steps = np.where(steps > 0.3, 0.0, steps)  # the gaps between strokes
    sums = np.zeros((3, len(x)))
    for place in range(_SAMPLES - 1):  # in a fixed order, which numpy's sum does not guarantee
        sums += steps[:, place] * np.stack([x[:, place], y[:, place], np.ones(len(x))])
    return (sums[0] / sums[2])[:, None], (sums[1] / sums[2])[:, None]


def _inked(curves: tuple[Numbers, Numbers], radius: Numbers, softness: Numbers, progress: Progress) -> Images:
    """Return drawings of curves with a pen whose radius is given at each sample."""
    drawn, pixels = np.empty((len(radius), SIDE, SIDE), np.uint8), np.arange(SIDE)
    for start in range(0, len(radius), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        pen = np.ascontiguousarray(radius[some].T)[:, :, None]
        across, down = (np.square((pixels - axis[some].T[:, :, None]) / pen) for axis in curves)
        nearest = np.full((len(radius[some]), SIDE, SIDE), np.inf)
        here = np.empty_like(nearest)
        for sample in range(_SAMPLES):
            np.add(down[sample, :, :, None], across[sample, :, None, :], out=here)
            np.minimum(nearest, here, out=nearest)
        drawn[some] = shade(radius[some, :1, None] * (1.0 - np.sqrt(nearest)) / softness[some, :, None])
        progress(min(start + AT_ONCE, len(radius)), len(radius))
    return drawn


def scribbles(classes: int) -> tuple[tuple[Form, ...], ...]:
    """Return classes of one form each: one to three strokes of two to six random points."""
    chance, most = Chance("scribbles", classes), (3, 6)
    strokes, points = chance.below("strokes", 3) + 1, chance.uniform("points", 2, 7, 3).astype(np.int64)
    heading = chance.uniform("heading", 0, 1, 3, 1) + np.cumsum(chance.uniform("turn", -0.3, 0.3, *most), axis=2)
    length = chance.uniform("length", 25, 55, *most)
    steps = np.stack([length * wave(heading), length * wave(heading + 0.25)], axis=-1)
    place, places = chance.uniform("start", 10, 90, 3, 2), []
    for point in range(most[1]):
        places.append(np.rint(place).astype(np.int64))
        place = np.clip(place + steps[:, :, point], 0.0, 100.0)

    def text(one: int, stroke: int) -> str:
        return " ".join(dict.fromkeys("{},{}".format(*places[at][one, stroke]) for at in range(points[one, stroke])))

    texts = ([text(one, stroke) for stroke in range(strokes[one])] for one in range(classes))
    return tuple((Form.of(1, "/".join(stroke for stroke in several if " " in stroke)),) for several in texts)
