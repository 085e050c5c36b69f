"""The data sets of drawn letters and digits."""

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
from pactl_cli.data.glyphs.fonts import Mask, glyph_masks
from pactl_cli.data.glyphs.handwriting import DIGITS
from pactl_cli.data.glyphs.outlines import SIDE, Fields, Images, draw_outlines, fields_of
from pactl_cli.data.glyphs.strokes import Form, Forms, draw_strokes, scribbles
from pactl_cli.data.published.digits import load_digits as load_small_digits
from pactl_cli.data.reading import Reading

_TRAIN, _TEST = 60_000, 10_000
_SCRIBBLES = 60
_MARGIN, _ENLARGED, _INK = 2, 8, 112
"""For a small picture: the margin in pixels, the factor of enlargement, and the grey above which a pixel is ink."""

Labels = NDArray[np.int64]


def load_digits(name: str, data_dir: DataDirectory, progress: Progress, *, reading: Reading) -> Dataset:
    """Draw handwritten digits in ten classes, and half of them in the fonts of a folder if one is named."""
    forms = tuple(tuple(Form.of(*form) for form in forms) for forms in DIGITS)
    masks = glyph_masks(string.digits, reading.fonts) if reading.fonts else []
    return _Drawer(name, forms, fields_of(masks), progress).dataset()


def load_letters(name: str, data_dir: DataDirectory, progress: Progress, *, reading: Reading) -> Dataset:
    """Draw lower- and upper-case letters in the available fonts, and scribbles, in 112 classes."""
    masks = glyph_masks(string.ascii_letters, reading.fonts)
    forms = ((),) * len(string.ascii_letters) + scribbles(_SCRIBBLES)
    return _Drawer(name, forms, fields_of(masks), progress).dataset()


def load_digits_anew(name: str, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Draw scikit-learn's digits many times each. Either part is drawn from the same part there."""
    digits = load_small_digits("digits", data_dir, progress)

    def drawn(part: str, count: int, before: int) -> Examples:
        examples = digits.train if part == "train" else digits.test
        assert isinstance(examples, Examples)
        pictures = zip(examples.labels.tolist(), examples.images[:, 0].numpy(), strict=True)
        fields = fields_of([(label, _enlarged(picture)) for label, picture in pictures])
        drawer = _Drawer(name, ((),) * digits.classes, fields, progress)
        return drawer.part(part, count, before)

    return Dataset(name, digits.classes, drawn("train", _TRAIN, 0), drawn("test", _TEST, _TRAIN))


def _enlarged(picture: Images) -> Mask:
    """Return the ink of an enlarged small picture, cropped to it."""
    from PIL import Image

    framed = np.pad(picture, _MARGIN)
    side = _ENLARGED * len(framed)
    ink = np.asarray(Image.fromarray(framed).resize((side, side), Image.Resampling.BICUBIC)) > _INK
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return np.asarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


@dataclass(frozen=True)
class _Drawer:
    """The drawing of one data set.

    Attributes:
        forms: the forms of strokes of each class.
        outlines: fields and the class of each. If a class also has forms, half of its drawings are of either kind.
        progress: reports the drawings of both parts together.
    """

    name: str
    forms: Forms
    outlines: tuple[Fields, Labels]
    progress: Progress

    def dataset(self) -> Dataset:
        """Return the data set of both parts."""
        return Dataset(self.name, len(self.forms), self.part("train", _TRAIN, 0), self.part("test", _TEST, _TRAIN))

    def part(self, part: str, count: int, before: int) -> Examples:
        """Return one part, whose classes differ in size by at most one, after `before` other drawings."""
        stream, classes = f"{self.name}/{part}", len(self.forms)
        labels = randomness.permutation(DEFAULT_SEED, f"glyphs/{stream}/labels", count) % classes
        ways = np.stack([[len(several) > 0 for several in self.forms], np.isin(np.arange(classes), self.outlines[1])])
        is_written = Chance(stream, count).uniform("written", 0.0, 1.0) < (ways[0] / ways.sum(axis=0))[labels]
        images = np.empty((count, SIDE, SIDE), np.uint8)
        for draw, some in ((self._written, is_written), (self._printed, ~is_written)):
            if some.any():
                images[some] = draw(stream, labels[some], before)
            before += int(some.sum())
        return Examples(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels))

    def _written(self, stream: str, labels: Labels, before: int) -> Images:
        """Return drawings of strokes."""
        return draw_strokes(Chance(f"{stream}/strokes", len(labels)), self.forms, labels, self._after(before))

    def _printed(self, stream: str, labels: Labels, before: int) -> Images:
        """Return drawings of outlines, with equally likely fonts in each class."""
        chance, (fields, whose) = Chance(f"{stream}/outlines", len(labels)), self.outlines
        order, counts = np.argsort(whose, kind="stable"), np.bincount(whose, minlength=len(self.forms))
        place = (chance.uniform("font", 0.0, 1.0) * counts[labels]).astype(np.int64)
        chosen = order[(np.cumsum(counts) - counts)[labels] + place]
        return draw_outlines(chance, fields, chosen, self._after(before))

    def _after(self, before: int) -> Progress:
        return lambda done, _: self.progress(before + done, _TRAIN + _TEST)
