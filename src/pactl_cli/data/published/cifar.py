"""CIFAR-10 and CIFAR-100, read from torchvision's pickled batches."""

from __future__ import annotations

import pickle
from io import BytesIO
from typing import Any

import numpy as np
import torch

from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.checked_files import CheckedFile
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.downloads import Published
from pactl_cli.data.files.progress import Progress

_SHAPE = (3, 32, 32)


def load_cifar10(name: str, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Load CIFAR-10: 50,000 + 10,000 colour images of 32 x 32 in ten classes."""
    from torchvision.datasets import CIFAR10

    return _load(name, CIFAR10, 10, data_dir, progress)


def load_cifar100(name: str, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Load CIFAR-100 with its hundred fine classes: 50,000 + 10,000 colour images of 32 x 32."""
    from torchvision.datasets import CIFAR100

    return _load(name, CIFAR100, 100, data_dir, progress)


def _load(name: str, source: Any, classes: int, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Load either data set. Each file must have torchvision's checksum, and even then cannot run code."""
    meta = (source.meta["filename"], source.meta["md5"])
    checksums = dict((*source.train_list, *source.test_list, meta))
    published = Published(
        name, source.base_folder, checksums, lambda place: source(place, download=True), origin=source.url
    )
    files = published.read(data_dir, progress)

    def part(batches: list[tuple[str, str]]) -> Examples:
        read = [_examples(files.pop(batch), classes) for batch, _ in batches]
        return Examples(torch.cat([each.images for each in read]), torch.cat([each.labels for each in read]))

    return Dataset(name, classes, part(source.train_list), part(source.test_list))


def _examples(batch: CheckedFile, classes: int) -> Examples:
    """Return the images and labels of one batch.

    Raises:
        PactlError: if it is not a pickle of them.
    """
    try:
        content = _Batch(BytesIO(batch.content), encoding="latin1").load()
        labels = content["labels"] if "labels" in content else content["fine_labels"]
        images = content["data"].pixels(len(labels))
    except Exception as error:  # a hostile pickle makes Python raise almost anything
        raise batch.refused(error if isinstance(error, pickle.UnpicklingError) else "it is not a batch") from error
    if not all(type(label) is int and 0 <= label < classes for label in labels):
        raise batch.refused(f"its labels are not all in 0 .. {classes - 1}")
    return Examples(torch.from_numpy(images), torch.tensor(labels))


class _Type:
    """The stand-in for numpy.dtype in a pickle."""

    def __init__(self, name: str, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and alignment, which have no meaning for bytes."""


class _Array:
    """The stand-in for numpy.ndarray in a pickle: numpy's own would trust a pickle's types and pointers."""

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Type, bool, str | bytes]) -> None:
        _, self._shape, self._type, self._columns_first, self._data = state

    def pixels(self, count: int) -> Any:
        """Return the array as images, shape (count, 3, 32, 32), uint8.

        Raises:
            ValueError: if it is something else.
        """
        if self._type.name not in ("u1", "|u1", "uint8") or self._shape != (count, 3 * 32 * 32) or self._columns_first:
            raise ValueError("not images")
        data = self._data.encode("latin1") if isinstance(self._data, str) else self._data
        return np.frombuffer(data, np.uint8).reshape(count, *_SHAPE).copy()


def _reconstruct(*_: object) -> _Array:
    """Return an array, in place of the numpy function that a pickle names."""
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """Return the bytes that Python 3 put as text into a pickle that Python 2 can read."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}
"""The stand-in for each name that a batch needs."""


class _Batch(pickle.Unpickler):
    """A reader of pickles of numbers, text and byte arrays, which refuses to look up, and so to run, anything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name in a pickle."""
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs")
        return _KNOWN[module, name]
