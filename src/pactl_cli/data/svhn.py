"""Street View House Numbers, cropped digits, without the `extra` part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.downloads import Published
from pactl_cli.data.progress import Progress

_PARTS = ("train", "test")
_LUMA = (19595, 38470, 7471)
"""ITU-R 601 weights of red, green and blue, in 65,536ths: those of Pillow's conversion to grey."""


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

    def reduced(examples: Examples) -> Examples:
        return Examples(grey(examples.images[:, :, 2:30, 2:30]), examples.labels)

    return replace(colour, train=reduced(colour.train), test=colour.test and reduced(colour.test))


def grey(images: Tensor) -> Tensor:
    """Colour bytes, shape (n, 3, H, W), as luma, shape (n, 1, H, W), rounded; integers throughout, so alike everywhere.

    >>> grey(torch.tensor([255, 0, 255], dtype=torch.uint8).view(1, 3, 1, 1)).item()
    105
    """
    out = torch.empty_like(images[:, :1])
    for start in range(0, len(images), 4096):  # a few at a time: in four bytes each they are large
        red, green, blue = images[start : start + 4096].int().unbind(1)
        luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
        out[start : start + 4096, 0] = (luma + 2**15) >> 16
    return out
