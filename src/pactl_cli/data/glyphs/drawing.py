"""The data sets `glyphs` and `glyphs:digits`."""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pactl_cli import randomness
from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.progress import Progress
from pactl_cli.data.glyphs.chance import Chance
from pactl_cli.data.glyphs.fonts import glyph_masks
from pactl_cli.data.glyphs.handwriting import DIGITS
from pactl_cli.data.glyphs.outlines import SIDE, Fields, Images, draw_outlines, fields_of
from pactl_cli.data.glyphs.strokes import Form, Forms, draw_strokes, scribbles
from pactl_cli.data.reading import Reading

_TRAIN, _TEST = 60_000, 10_000
_SCRIBBLES = 60
_WRITTEN = 0.75
"""The share of digits that are strokes of a hand, not outlines of a font."""

Labels = NDArray[np.int64]


def load_digits(name: str, data_dir: DataDirectory, progress: Progress, *, reading: Reading) -> Dataset:
    """Digits, written by hand or in the fonts at hand: ten classes."""
    forms = tuple(tuple(Form.of(*form) for form in forms) for forms in DIGITS)
    outlines = fields_of(glyph_masks(string.digits, reading.fonts))
    return _Drawer(name, 10, *outlines, forms, progress).dataset()


def load_letters(name: str, data_dir: DataDirectory, progress: Progress, *, reading: Reading) -> Dataset:
    """Letters in the fonts at hand, small ones and capitals, and scribbles: 112 classes."""
    outlines = fields_of(glyph_masks(string.ascii_letters, reading.fonts))
    forms = ((),) * len(string.ascii_letters) + scribbles(_SCRIBBLES)
    return _Drawer(name, len(forms), *outlines, forms, progress).dataset()


@dataclass(frozen=True)
class _Drawer:
    """Draws a data set.

    Attributes:
        fields, whose: outlines, and the class of each.
        forms: of strokes, by class.
        progress: told of drawings of both parts.
    """

    name: str
    classes: int
    fields: Fields
    whose: Labels
    forms: Forms
    progress: Progress

    def dataset(self) -> Dataset:
        """Return both parts."""
        return Dataset(self.name, self.classes, self._part("train", _TRAIN, 0), self._part("test", _TEST, _TRAIN))

    def _part(self, part: str, count: int, before: int) -> Examples:
        """Return one part, as many of each class, up to one, once others are drawn."""
        stream = f"{self.name}/{part}"
        labels = randomness.permutation(DEFAULT_SEED, f"glyphs/{stream}/labels", count) % self.classes
        has_outlines, has_forms = np.isin(np.arange(self.classes), self.whose), np.array([bool(f) for f in self.forms])
        share = np.where(has_outlines & has_forms, _WRITTEN, has_forms)[labels]
        is_written = Chance(stream, count).uniform("written", 0.0, 1.0) < share
        images = np.empty((count, SIDE, SIDE), np.uint8)
        for draw, some in ((self._written, is_written), (self._printed, ~is_written)):
            images[some] = draw(stream, labels[some], before)
            before += int(some.sum())
        return Examples(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels))

    def _written(self, stream: str, labels: Labels, before: int) -> Images:
        """Return drawings of strokes."""
        return draw_strokes(Chance(f"{stream}/strokes", len(labels)), self.forms, labels, self._after(before))

    def _printed(self, stream: str, labels: Labels, before: int) -> Images:
        """Return drawings of outlines, each font of a class as likely as the others."""
        chance = Chance(f"{stream}/outlines", len(labels))
        order, counts = np.argsort(self.whose, kind="stable"), np.bincount(self.whose, minlength=self.classes)
        place = (chance.uniform("font", 0.0, 1.0) * counts[labels]).astype(np.int64)
        chosen = order[(np.cumsum(counts) - counts)[labels] + place]
        return draw_outlines(chance, self.fields, chosen, self._after(before))

    def _after(self, before: int) -> Progress:
        return lambda done, _: self.progress(before + done, _TRAIN + _TEST)
