"""MNIST and Fashion-MNIST: four IDX files each."""

from __future__ import annotations

import os
from math import prod
from typing import Any

import numpy as np
import torch

from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.checked_files import CheckedFile, read_packed
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.downloads import Published
from pactl_cli.data.files.progress import Progress
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
"""The header of each file of Fashion-MNIST: its type and its shape."""


def load_mnist(name: str, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Load MNIST: 60,000 + 10,000 grey images of 28 x 28."""
    from torchvision.datasets import MNIST

    packed = dict.fromkeys(MNIST_SHA256, "")
    return _dataset(name, _published(name, MNIST, MNIST_SHA256, packed).read(data_dir, progress))


def load_fmnist(name: str, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Load Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28.

    Checksums are known only for its archives. So a file is compared with its archive if that is in the same folder, as
    after a download. For a file alone, only the length, the header and the range of labels are checked.
    """
    from torchvision.datasets import FashionMNIST

    packed = {archive.removesuffix(".gz"): md5 for archive, md5 in FashionMNIST.resources}
    files = _published(name, FashionMNIST, dict.fromkeys(FASHION_HEADERS, ""), packed).read(data_dir, progress)
    for file, md5 in packed.items():
        _check_idx(files[file], file, md5)
    return _dataset(name, files)


def _published(name: str, source: Any, checksums: dict[str, str], packed: dict[str, str]) -> Published:
    """Return the files of torchvision's MNIST or FashionMNIST."""
    folder, origin = f"{source.__name__}/raw", " or ".join(source.mirrors)
    return Published(name, folder, checksums, lambda place: source(place, download=True), origin, packed)


def _check_idx(file: CheckedFile, name: str, md5: str) -> None:
    """Raise PactlError if a file differs from its archive or, without an archive, cannot be the right one."""
    kind, *shape = FASHION_HEADERS[name]
    header = b"".join(number.to_bytes(4, "big") for number in (kind, *shape))
    content, length = file.content, len(header) + prod(shape)
    if not content.startswith(header) or len(content) != length or (len(shape) == 1 and max(content[8:]) > 9):
        raise PactlError(f"{file.path} is truncated or altered", file.remedy)
    archive = file.path.with_name(f"{name}.gz")
    if archive == file.path or not os.path.lexists(archive):
        return
    if read_packed(archive, md5, "", file.remedy).content != content:
        raise PactlError(f"{file.path} is truncated or altered: it is not what {archive.name} holds", file.remedy)


def _dataset(name: str, files: dict[str, CheckedFile]) -> Dataset:
    """Return the data set in the four files."""

    def part(prefix: str) -> Examples:
        images, labels = (_array(files[f"{prefix}-{kind}-ubyte"]) for kind in ("images-idx3", "labels-idx1"))
        return Examples(images.unsqueeze(1), labels.long())

    return Dataset(name, 10, part("train"), part("t10k"))


def _array(file: CheckedFile) -> torch.Tensor:
    """Return the array of bytes in a file in the IDX format: two zeros, type, dimensions, sizes, content."""
    content = file.content
    dimensions = content[3] if content.startswith(b"\0\0\x08") and len(content) > 3 else 0
    shape = np.frombuffer(content[4 : 4 + 4 * dimensions], ">u4").tolist()
    if not dimensions or len(content) != 4 + 4 * dimensions + prod(shape):
        raise file.refused("it is not an array of bytes in the IDX format")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy())
