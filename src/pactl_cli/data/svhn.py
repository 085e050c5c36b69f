"""Street View House Numbers, cropped digits, without the `extra` part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pactl_cli.data.adaptation import grey
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.downloads import Published
from pactl_cli.data.progress import Progress

_PARTS = ("train", "test")


def load_svhn(name: str, data_dir: Path, progress: Progress) -> Dataset:
    """73,257 + 26,032 colour images of 32 x 32; the label of a digit is the digit."""
    from torchvision.datasets import SVHN
    from torchvision.datasets.utils import download_url

    sources = [SVHN.split_list[part] for part in _PARTS]

    def fetch(place: Path) -> None:
        for url, file, md5 in sources:
            download_url(url, place / "svhn", file, md5)

    published = Published(name, "svhn", {file: md5 for _, file, md5 in sources}, fetch, origin=sources[0][0])
    if published.lie_in(data_dir) and not published.lie_in(data_dir / "svhn"):
        published = replace(published, folder="")
    folder = published.located(data_dir, progress)

    def read(part: str) -> Examples:
        content = SVHN(folder, split=part)
        return Examples(torch.from_numpy(np.ascontiguousarray(content.data)), torch.from_numpy(content.labels))

    train, test = map(read, _PARTS)
    return Dataset(name, 10, train, test)


def load_svhn28(name: str, data_dir: Path, progress: Progress) -> Dataset:
    """SVHN as MNIST's shape, a source for transfers to it: grey, the inner 28 x 28 of the 32 x 32 pixels."""
    colour = load_svhn(name, data_dir, progress)
    return colour.with_images(lambda images: grey(images[:, :, 2:30, 2:30]))
