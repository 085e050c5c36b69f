"""MNIST and Fashion-MNIST: four IDX files each."""

from __future__ import annotations

import gzip
import os
from math import prod
from pathlib import Path
from typing import Any

from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.downloads import Published, check_file
from pactl_cli.data.progress import Progress
from pactl_cli.errors import PactlError

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FASHION_HEADERS = {
    "train-images-idx3-ubyte": (0x803, 60_000, 28, 28),
    "train-labels-idx1-ubyte": (0x801, 60_000),
    "t10k-images-idx3-ubyte": (0x803, 10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (0x801, 10_000),
}
"""How each file of Fashion-MNIST begins: its type, and its shape."""


def load_mnist(name: str, data_dir: Path, progress: Progress) -> Dataset:
    """MNIST: 60,000 + 10,000 grey images of 28 x 28."""
    from torchvision.datasets import MNIST

    return _read(name, _published(name, MNIST, MNIST_SHA256).located(data_dir, progress))


def load_fmnist(name: str, data_dir: Path, progress: Progress) -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28.

    Checksums are known of its archives only. So a file is compared with its archive, where that lies beside it, as it
    does after a download; of a file alone only length, header and range of labels are checked.
    """
    from torchvision.datasets import FashionMNIST

    raw = _published(name, FashionMNIST, dict.fromkeys(FASHION_HEADERS, "")).located(data_dir, progress)
    for archive, md5 in FashionMNIST.resources:
        _check_idx(raw / archive.removesuffix(".gz"), raw / archive, md5)
    return _read(name, raw)


def _published(name: str, source: Any, checksums: dict[str, str]) -> Published:
    """torchvision's MNIST or its like."""
    folder = f"{source.__name__}/raw"
    return Published(
        name, folder, checksums, lambda place: source(place, download=True), origin=" or ".join(source.mirrors)
    )


def _check_idx(path: Path, archive: Path, md5: str) -> None:
    """Raises PactlError if the file is not what its archive holds or, without an archive, cannot be the right one."""
    remedy = f"restore the file, or delete {path.parent} to have it fetched again"
    content = path.read_bytes()
    kind, *shape = FASHION_HEADERS[path.name]
    header = b"".join(number.to_bytes(4, "big") for number in (kind, *shape))
    length = len(header) + prod(shape)
    if not content.startswith(header) or len(content) != length or (len(shape) == 1 and max(content[8:]) > 9):
        raise PactlError(f"{path} is truncated or altered", remedy)
    if os.path.lexists(archive):
        check_file(archive, md5, remedy)
        if gzip.decompress(archive.read_bytes()) != content:
            raise PactlError(f"{path} is truncated or altered: it is not what {archive.name} holds", remedy)


def _read(name: str, raw: Path) -> Dataset:
    """The data set of the four files in a folder."""
    from torchvision.datasets.mnist import read_image_file, read_label_file

    def part(prefix: str) -> Examples:
        images = read_image_file(str(raw / f"{prefix}-images-idx3-ubyte")).unsqueeze(1)
        return Examples(images, read_label_file(str(raw / f"{prefix}-labels-idx1-ubyte")).long())

    return Dataset(name, 10, part("train"), part("t10k"))
