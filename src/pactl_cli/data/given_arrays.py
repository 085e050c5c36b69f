"""Arrays that the user brings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.arrays import read_arrays
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.progress import Progress
from pactl_cli.data.labels import read_labels
from pactl_cli.data.reading import Reading
from pactl_cli.data.vocabulary import with_vocabulary
from pactl_cli.errors import PactlError


def load_npz(name: str, data_dir: DataDirectory, progress: Progress, *, reading: Reading) -> Dataset:
    """The data set `npz:PATH`: images (n, H, W), (n, H, W, C), (n, C, H, W), features (n, F) or, of integers that are
    no bytes, sequences (n, L); and integer labels.

    Raises:
        PactlError: if the file cannot be read, or its arrays are no data set.
    """
    path = Path(os.path.expanduser(name.partition(":")[2]))
    hint = "save it with numpy.savez(PATH, x_train=..., y_train=..., x_test=..., y_test=...)"
    try:
        arrays = read_arrays(path, ("x_train", "y_train", "x_test", "y_test"))
    except PactlError as error:
        raise type(error)(f"--dataset {name}: {error.message}", hint) from error
    for part in ("train", "test") if {"x_test", "y_test"} & arrays.keys() else ("train",):
        if missing := {f"x_{part}", f"y_{part}"} - arrays.keys():
            raise PactlError(f"--dataset {name} has no array {min(missing)}", hint)
    labels = read_labels(name, arrays["y_train"], arrays.get("y_test"))
    train = _examples(name, "train", arrays["x_train"], labels.train)
    test = None if labels.test is None else _examples(name, "test", arrays["x_test"], labels.test)
    if test is not None and test.spec != train.spec:
        raise PactlError(f"--dataset {name}: x_test and x_train differ in shape or type", hint)
    return with_vocabulary(Dataset(name, labels.classes, train, test, labels.names, labels.notes))


def _examples(name: str, part: str, x: NDArray[np.generic], labels: Tensor) -> Examples:
    """Arrays of one part as checked tensors."""
    if not x.ndim:
        raise PactlError(f"--dataset {name}: x_{part} is a single number, not examples")
    if len(x) != len(labels):
        raise PactlError(
            f"--dataset {name}: x_{part} has {len(x):,} examples and y_{part} {len(labels):,}",
            "give one label for each example",
        )
    return Examples(_inputs(name, part, x), labels)


def _inputs(name: str, part: str, x: NDArray[np.generic]) -> Tensor:
    """An array as images (n, C, H, W), or as features or sequences (n, F): bytes, single precision, or integers of 64
    bits.
    """
    if x.dtype.kind in "iu" and x.dtype != np.uint8:
        if x.size and x.max() > np.iinfo(np.int64).max:
            raise PactlError(f"--dataset {name}: x_{part} has integers of more than 63 bits", "use int64")
        x = x.astype(np.int64)
    elif x.dtype != np.uint8:
        if x.dtype.kind != "f":
            raise PactlError(
                f"--dataset {name}: x_{part} has type {x.dtype}", "use uint8 for images, float32, or int64"
            )
        with np.errstate(over="ignore"):
            x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise PactlError(f"--dataset {name}: x_{part} has values that are not finite numbers")
    if x.ndim == 4 and x.shape[-1] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        x = np.moveaxis(x, -1, 1)
    elif x.ndim == 3:
        x = x[:, None]
    elif x.ndim not in (2, 4):
        raise PactlError(
            f"--dataset {name}: x_{part} has {x.ndim} dimensions", "use (n, H, W), (n, H, W, C), (n, C, H, W) or (n, F)"
        )
    if not x.size:
        raise PactlError(f"--dataset {name}: x_{part} is empty")
    return torch.from_numpy(np.ascontiguousarray(x))
