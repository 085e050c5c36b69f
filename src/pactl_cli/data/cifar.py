"""CIFAR-10 and CIFAR-100, from torchvision's pickled batches."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.downloads import Published
from pactl_cli.data.progress import Progress


def load_cifar10(name: str, data_dir: Path, progress: Progress) -> Dataset:
    """CIFAR-10: 50,000 + 10,000 colour images of 32 x 32 in ten classes."""
    from torchvision.datasets import CIFAR10

    return _load(name, CIFAR10, 10, data_dir, progress)


def load_cifar100(name: str, data_dir: Path, progress: Progress) -> Dataset:
    """CIFAR-100 with its hundred fine classes: 50,000 + 10,000 colour images of 32 x 32."""
    from torchvision.datasets import CIFAR100

    return _load(name, CIFAR100, 100, data_dir, progress)


def _load(name: str, source: Any, classes: int, data_dir: Path, progress: Progress) -> Dataset:
    """Either one. Unpickling runs what a file says, so each file must first have torchvision's checksum."""

    def opened(place: Path, **choices: bool) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, of how the batches of 2009 spell a type
            return source(place, **choices)

    def read(train: bool) -> Examples:
        part = opened(folder.parent, train=train)
        images = np.ascontiguousarray(np.moveaxis(part.data, -1, 1))
        return Examples(torch.from_numpy(images), torch.tensor(part.targets))

    meta = (source.meta["filename"], source.meta["md5"])
    checksums = dict((*source.train_list, *source.test_list, meta))
    published = Published(
        name, source.base_folder, checksums, lambda place: opened(place, download=True), origin=source.url
    )
    folder = published.located(data_dir, progress)
    return Dataset(name, classes, read(train=True), read(train=False))
