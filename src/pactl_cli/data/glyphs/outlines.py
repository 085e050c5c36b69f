"""Drawings of outlines: each is a field of distances from the edge, which is deformed, thickened and sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pactl_cli.data.files.progress import Progress
from pactl_cli.data.glyphs.chance import Chance, Deformation, Numbers
from pactl_cli.data.glyphs.fonts import Mask

SIDE, BOX = 28, 20
"""The side of a drawing, and of the box in its middle that the larger side of a glyph fills, in pixels."""
_FIELD, _FILLED = 64, 44
"""The side of a field, and of the glyph in it, in steps."""
AT_ONCE = 32
_SEEN = 1.25
"""The part of a field that is sampled first, in halves of its side: all of it and a margin."""

Fields = NDArray[np.float32]
Images = NDArray[np.uint8]


def distance_field(mask: Mask) -> Fields:
    """Return distances from the edge of the ink, positive inside, in steps of the field, shape (64, 64).

    They are shifted so that the middle of a stroke is at 0, which makes the width of the pen independent of the font's.
    """
    from scipy.ndimage import distance_transform_edt

    height, width = mask.shape
    side = max(mask.shape)
    margin = -(-side * (_FIELD - _FILLED) // (2 * _FILLED))
    whole = side + 2 * margin
    square = np.zeros((whole, whole), np.bool_)
    top, left = (whole - height) // 2, (whole - width) // 2
    square[top : top + height, left : left + width] = mask
    inside = distance_transform_edt(square)
    depths = np.sort(inside[square])
    middle = depths[len(depths) * 9 // 10] / 0.9
    signed = (inside - distance_transform_edt(~square) - middle) * (_FILLED / side)
    places = ((np.arange(_FIELD) + 0.5) * (whole / _FIELD)).astype(np.int64)
    return np.ascontiguousarray(signed[places][:, places], dtype=np.float32)


@dataclass(frozen=True)
class _Pens:
    """The random choices for each of several drawings."""

    field: NDArray[np.int64]
    deformation: Deformation
    radius: Numbers
    softness: Numbers
    size: Numbers
    shift_x: Numbers
    shift_y: Numbers

    def __getitem__(self, some: slice) -> _Pens:
        return _Pens(*(getattr(self, name)[some] for name in self.__dataclass_fields__))


def draw_outlines(chance: Chance, fields: Fields, chosen: NDArray[np.int64], progress: Progress) -> Images:
    """Return a drawing of each chosen field, shape (n, 28, 28)."""
    pens = _Pens(
        chosen,
        Deformation.drawn(chance, turn=0.12, shear=0.22, stretch=0.2, waves=0.07),
        chance.uniform("radius", 1.3, 5.0, 1),
        chance.uniform("softness", 2.0, 4.0, 1),
        chance.factor("size", 0.03, 1),
        chance.bell("shift x", 0.35, 1),
        chance.bell("shift y", 0.35, 1),
    )
    drawn = np.empty((len(chosen), SIDE, SIDE), np.uint8)
    for start in range(0, len(chosen), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        drawn[some] = _draw(fields, pens[some])
        progress(min(start + AT_ONCE, len(chosen)), len(chosen))
    return drawn


_ROWS, _COLUMNS = (axis.reshape(1, -1).astype(np.float64) for axis in np.indices((SIDE, SIDE)))
_MIDDLE = (SIDE - 1) / 2


def _draw(fields: Fields, pens: _Pens) -> Images:
    """Return drawings. A first sampling finds the box and the centre of mass of each, the second centres it."""
    step = 2 * _SEEN / SIDE
    first = _sample(fields, pens, (_COLUMNS - _MIDDLE) * step, (_ROWS - _MIDDLE) * step).astype(np.int64)
    ink = first.reshape(-1, SIDE, SIDE) > 127
    side = np.clip(np.maximum(_extent(ink, 2), _extent(ink, 1)), 6, SIDE)[:, None]
    mass = np.maximum(first.sum(axis=1), 1)[:, None]
    centre_x, centre_y = ((first * axis.astype(np.int64)).sum(axis=1)[:, None] / mass for axis in (_COLUMNS, _ROWS))
    scale = side / BOX * pens.size
    x = (centre_x - _MIDDLE + (_COLUMNS - _MIDDLE + pens.shift_x) * scale) * step
    y = (centre_y - _MIDDLE + (_ROWS - _MIDDLE + pens.shift_y) * scale) * step
    return _sample(fields, pens, x, y).reshape(-1, SIDE, SIDE)


def _extent(ink: Mask, axis: int) -> NDArray[np.int64]:
    """Return the number of lines along an axis from the first with ink to the last."""
    lines = np.asarray(ink.any(axis=axis))
    return np.where(lines.any(axis=1), SIDE - lines.argmax(axis=1) - lines[:, ::-1].argmax(axis=1), 0)


def _sample(fields: Fields, pens: _Pens, x: Numbers, y: Numbers) -> Images:
    """Return the grey at places of deformed fields, given in halves of their side from the middle."""
    x, y = (np.clip((axis + 1.0) * (_FIELD / 2) - 0.5, 0.0, _FIELD - 1.001) for axis in pens.deformation(x, y))
    column, row = x.astype(np.int64), y.astype(np.int64)
    x, y = x - column, y - row
    corner = (pens.field[:, None] * _FIELD + row) * _FIELD + column
    flat = fields.reshape(-1)
    upper, lower = (_between(flat[corner + down], flat[corner + (down + 1)], x) for down in (0, _FIELD))
    return shade((_between(upper, lower, y) + pens.radius) / pens.softness)


def _between(one: Any, other: Any, share: Numbers) -> Numbers:
    """Return the linear interpolation between two arrays."""
    return np.asarray(one + (other - one) * share)


def shade(depth: Numbers) -> Images:
    """Return the grey of points from their depths in the ink, in widths of the edge."""
    return np.rint(np.clip(depth + 0.5, 0.0, 1.0) * 255.0).astype(np.uint8)


def fields_of(masks: Sequence[tuple[int, Mask]]) -> tuple[Fields, NDArray[np.int64]]:
    """Return the field of each mask, shape (k, 64, 64), and its class, shape (k,)."""
    fields = np.array([distance_field(mask) for _, mask in masks], np.float32).reshape(-1, _FIELD, _FIELD)
    return fields, np.array([place for place, _ in masks], np.int64)
