"""Where data sets come from: each name or kind of the catalogue as a function to a `Dataset`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from hashlib import sha256
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli import catalogue
from pactl_cli.certificate import streams
from pactl_cli.data.arrays import read_arrays
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.imagenet import imagenet
from pactl_cli.data.streaming import exceeds_memory, streamed, view_of
from pactl_cli.errors import MissingError, PactlError

Progress = Callable[[int, int], None]
"""Called with (items read, items in all)."""

MOST_CLASSES = 100_000


def load_dataset(name: str, data_dir: Path, progress: Progress = lambda done, total: None) -> Dataset:
    """The data set `name`, on the CPU.

    Args:
        name: of the catalogue, or `npz:PATH`, or `folder:PATH`.
        data_dir: where named data sets lie, in torchvision's layout.
        progress: told of images read one by one.

    Raises:
        PactlError: if it is absent, truncated or altered, or not what a data set must be.
    """
    kind, _, path = name.partition(":")
    catalogue.dataset_entry(name)
    if kind == "npz":
        return _npz(name, Path(os.path.expanduser(path)))
    if kind == "folder":
        return _folder(name, Path(os.path.expanduser(path)), progress)
    return {"digits": _digits, "mnist": _mnist, "imagenet": imagenet}[kind](data_dir)


def _digits(_: Path) -> Dataset:
    """scikit-learn's digits, sixteen grey levels spread over a byte, split by one fixed permutation."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    order = torch.from_numpy(streams.permutation(catalogue.DEFAULT_SEED, "digits", len(labels)))
    train = catalogue.DATASETS["digits"].train_examples
    examples = Examples(images, labels)
    return Dataset("digits", 10, examples[order[:train]], examples[order[train:]])


MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def _mnist(data_dir: Path) -> Dataset:
    """MNIST from torchvision's own files, fetched first where they are absent."""
    from torchvision.datasets.mnist import read_image_file, read_label_file

    raw = data_dir / "MNIST" / "raw"
    if not any(os.path.exists(raw / name) for name in MNIST_SHA256):
        _download_mnist(data_dir)
    for name, expected in MNIST_SHA256.items():
        _check_file(raw / name, expected)

    def read(part: str) -> Examples:
        images = read_image_file(str(raw / f"{part}-images-idx3-ubyte")).unsqueeze(1)
        return Examples(images, read_label_file(str(raw / f"{part}-labels-idx1-ubyte")).long())

    return Dataset("mnist", 10, read("train"), read("t10k"))


def _download_mnist(data_dir: Path) -> None:
    """Fetches MNIST beside its place and moves it there whole."""
    from torchvision.datasets import MNIST

    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="pactl-download-", dir=data_dir) as scratch, redirect_stdout(StringIO()):
            MNIST(scratch, download=True)
            (data_dir / "MNIST").mkdir(exist_ok=True)
            (Path(scratch) / "MNIST" / "raw").rename(data_dir / "MNIST" / "raw")
    except (OSError, RuntimeError) as error:
        raise MissingError(
            f"mnist is not in {data_dir} and could not be downloaded: {error}",
            "put its four IDX files into MNIST/raw below a directory and name that directory with --data-dir",
        ) from error


def _check_file(path: Path, expected: str) -> None:
    """Raises PactlError unless the file has the given sha256."""
    try:
        with path.open("rb") as file:
            digest = sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        kind = MissingError if isinstance(error, FileNotFoundError) else PactlError
        raise kind(
            f"{path} cannot be read: {error.strerror}", "restore the file, or delete its folder to fetch it again"
        ) from error
    if digest.hexdigest() != expected:
        raise PactlError(f"{path} is truncated or altered", "restore the file, or delete its folder to fetch it again")


def _npz(name: str, path: Path) -> Dataset:
    """One's own arrays: images (n, H, W), (n, H, W, C), (n, C, H, W) or features (n, F), and integer labels."""
    hint = "save it with numpy.savez(PATH, x_train=..., y_train=..., x_test=..., y_test=...)"
    try:
        arrays = read_arrays(path, ("x_train", "y_train", "x_test", "y_test"))
    except PactlError as error:
        raise type(error)(f"--dataset {name}: {error.message}", hint) from error
    for part in ("train", "test") if {"x_test", "y_test"} & arrays.keys() else ("train",):
        if missing := {f"x_{part}", f"y_{part}"} - arrays.keys():
            raise PactlError(f"--dataset {name} has no array {min(missing)}", hint)
    train = _examples(name, "train", arrays["x_train"], arrays["y_train"])
    test = _examples(name, "test", arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    if test is not None and (test.images.shape[1:], test.images.dtype) != (train.images.shape[1:], train.images.dtype):
        raise PactlError(f"--dataset {name}: x_test and x_train differ in shape or type", hint)
    classes = 1 + max(int(part.labels.max()) for part in (train, test) if part is not None)
    if classes < 2:
        raise PactlError(
            f"--dataset {name} has a single class", "labels must be 0 .. classes - 1, at least two classes"
        )
    return Dataset(name, classes, train, test)


def _examples(name: str, part: str, x: NDArray[np.generic], y: NDArray[np.generic]) -> Examples:
    """Arrays of one part as checked tensors."""
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise PactlError(f"--dataset {name}: y_{part} must be a one-dimensional array of integers")
    if not x.ndim:
        raise PactlError(f"--dataset {name}: x_{part} is a single number, not images")
    if len(x) != len(y) or not len(y):
        raise PactlError(
            f"--dataset {name}: x_{part} has {len(x):,} examples and y_{part} {len(y):,}; need as many, and some"
        )
    if y.min() < 0 or y.max() >= MOST_CLASSES:
        raise PactlError(f"--dataset {name}: labels of y_{part} must lie in 0 .. {MOST_CLASSES - 1}")
    return Examples(_images(name, part, x), torch.from_numpy(y.astype(np.int64)))


def _images(name: str, part: str, x: NDArray[np.generic]) -> Tensor:
    """An array of images or features as (n, C, H, W), bytes or single precision."""
    if x.dtype != np.uint8:
        if x.dtype.kind not in "fiu":
            raise PactlError(f"--dataset {name}: x_{part} has type {x.dtype}", "use uint8 for images, or float32")
        with np.errstate(over="ignore"):
            x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise PactlError(f"--dataset {name}: x_{part} has values that are not finite numbers")
    if x.ndim == 4 and x.shape[-1] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        x = np.moveaxis(x, -1, 1)
    elif x.ndim in (2, 3):
        x = x[:, None] if x.ndim == 3 else x[:, None, None]
    elif x.ndim != 4:
        raise PactlError(f"--dataset {name}: x_{part} has {x.ndim} dimensions", "use (n, H, W), (n, H, W, C) or (n, F)")
    if not x.size:
        raise PactlError(f"--dataset {name}: x_{part} is empty")
    return torch.from_numpy(np.ascontiguousarray(x))


def _folder(name: str, path: Path, progress: Progress) -> Dataset:
    """Images of one size in train/CLASS/ and test/CLASS/ or val/CLASS/, as torchvision's ImageFolder orders them."""
    from torchvision.datasets import ImageFolder

    if not os.path.isdir(path / "train"):
        raise MissingError(f"--dataset {name}: there is no folder {path / 'train'}", "it needs train/CLASS/image files")
    test = next((part for part in ("test", "val") if os.path.isdir(path / part)), None)
    parts = {"train": "train"} | ({"test": test} if test else {})
    try:
        folders = {part: ImageFolder(str(path / place)) for part, place in parts.items()}
    except OSError as error:
        raise PactlError(f"--dataset {name}: {error}", "every class needs a folder with at least one image") from error
    classes = folders["train"].class_to_idx
    if len(classes) < 2:
        raise PactlError(f"--dataset {name} has a single class", "train/ needs at least two class folders")
    if "test" in folders and folders["test"].class_to_idx != classes:
        raise PactlError(f"--dataset {name}: {parts['test']}/ and train/ have different classes")
    total = sum(len(folder.samples) for folder in folders.values())
    view = view_of(folders["train"].samples[0][0])
    read = partial(streamed, view=view) if exceeds_memory(total, view) else _FolderReader(name, total, progress)
    examples = {part: read(folder.samples) for part, folder in folders.items()}
    return Dataset(name, len(classes), examples["train"], examples.get("test"))


class _FolderReader:
    """Reads image files of one size; all grey if the first one is, else all in colour."""

    def __init__(self, name: str, total: int, progress: Progress) -> None:
        self._name, self._total, self._progress = name, total, progress
        self._done = 0
        self._mode = ""
        self._size = (0, 0)

    def __call__(self, samples: list[tuple[str, int]]) -> Examples:
        images = np.stack([self._read(file) for file, _ in samples])
        images = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
        labels = torch.tensor([label for _, label in samples])
        return Examples(torch.from_numpy(np.ascontiguousarray(images)), labels)

    def _read(self, file: str) -> NDArray[np.uint8]:
        from PIL import Image

        try:
            with Image.open(file) as image:
                self._mode = self._mode or ("L" if image.mode in ("1", "L") else "RGB")
                pixels = np.asarray(image.convert(self._mode))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise PactlError(
                f"--dataset {self._name}: {file} is not a readable image: {error}", "remove or replace it"
            ) from error
        self._size = pixels.shape[:2] if self._size == (0, 0) else self._size
        if pixels.shape[:2] != self._size:
            raise PactlError(
                f"--dataset {self._name}: {file} has another size than the first image", "resize all to one size"
            )
        self._done += 1
        self._progress(self._done, self._total)
        return pixels
