"""The data sets `glyphs` and `glyphs:digits`."""

from __future__ import annotations

import string
from collections.abc import Sequence

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
from pactl_cli.data.glyphs.outlines import draw_outlines, fields_of
from pactl_cli.data.reading import Reading

_PARTS = {"train": 60_000, "test": 10_000}


def load_digits(name: str, data_dir: DataDirectory, progress: Progress, *, reading: Reading) -> Dataset:
    """Digits in the fonts at hand: ten classes."""
    return _drawn(name, string.digits, reading, progress)


def load_letters(name: str, data_dir: DataDirectory, progress: Progress, *, reading: Reading) -> Dataset:
    """Letters in the fonts at hand, capitals and small ones."""
    return _drawn(name, string.ascii_letters, reading, progress)


def _drawn(name: str, characters: Sequence[str], reading: Reading, progress: Progress) -> Dataset:
    """Return characters in both parts, in the fonts that are read."""
    fields, whose = fields_of(glyph_masks(characters, reading.fonts))
    done, parts = 0, []
    for part, count in _PARTS.items():
        labels = _balanced(f"{name}/{part}", count, len(characters))
        chance = Chance(f"{name}/{part}", count)
        images = draw_outlines(
            chance, fields, _chosen(chance, whose, labels), lambda n, _: progress(done + n, sum(_PARTS.values()))
        )
        parts.append(Examples(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels)))
        done += count
    return Dataset(name, len(characters), *parts)


def _balanced(name: str, count: int, classes: int) -> NDArray[np.int64]:
    """Return as many labels of each class, up to one, in random order."""
    return randomness.permutation(DEFAULT_SEED, f"glyphs/{name}/labels", count) % classes


def _chosen(chance: Chance, whose: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one of the fields of each label."""
    order = np.argsort(whose, kind="stable")
    counts = np.bincount(whose)
    first = np.cumsum(counts) - counts
    share = chance.uniform("field", 0.0, 1.0)
    return order[first[labels] + (share * counts[labels]).astype(np.int64)]
