"""The files for guarantees: the group of each training example, and the costs of answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pactl_cli import catalogue
from pactl_cli.certificate.questions import MOST_EVENTS
from pactl_cli.data.brought_data import array_of
from pactl_cli.data.files.arrays import ArrayHeader, read_array
from pactl_cli.data.files.checked_files import open_file
from pactl_cli.errors import MissingError, PactlError, reason

_LARGEST = 1 << 28
"""Limit in bytes for a text file."""
MOST_COSTS = 128
"""The largest number of classes for which costs may be given, because a certificate holds all of them."""


def read_groups(path: Path, examples: int) -> NDArray[np.int64]:
    """Return the group of each training example as an integer, in order.

    The source is an .npy file, a text file with one integer on each line, or an array handed over from Python.

    Raises:
        PactlError: if the file cannot be read, or holds something else.
    """
    values = _read(path, "--groups", dims=1, most=examples)
    if values.dtype.kind not in "iu" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise PactlError(
            f"--groups {path} has values that are not integers", "give each example the number of its group"
        )
    if values.shape != (examples,):
        raise PactlError(
            f"--groups {path} has {values.size:,} groups, and there are {examples:,} training examples",
            "give one integer for each training example, in the order of the data set",
        )
    if len(members := np.unique(values)) > MOST_EVENTS or (np.abs(values.astype(np.float64)) > 2**53).any():
        raise PactlError(
            f"--groups {path} has {len(members):,} groups, more than {MOST_EVENTS:,}, or numbers that are too large"
        )
    return values.astype(np.int64)


def read_costs(path: Path, classes: int) -> NDArray[np.float64]:
    """Return the cost of each answer, shape (classes, classes), with true classes down and answers across.

    The source is an .npy file, a text file with a row on each line, or an array handed over from Python.

    Raises:
        PactlError: if the file cannot be read, or holds something else.
    """
    if classes > MOST_COSTS:
        raise PactlError(f"--cost {path}: there are {classes:,} classes, and costs are kept for at most {MOST_COSTS}")
    costs = _read(path, "--cost", dims=2, most=MOST_COSTS).astype(np.float64)
    if costs.shape != (classes, classes):
        shape = " x ".join(map(str, costs.shape))
        raise PactlError(
            f"--cost {path} is {shape}, and there are {classes} classes", f"give {classes} rows of {classes}"
        )
    if not ((costs >= 0) & (costs <= 1)).all():  # nor is NaN
        raise PactlError(f"--cost {path} has costs that are not in [0, 1]", "divide all by the largest")
    return costs


def _read(path: Path, option: str, *, dims: int, most: int) -> NDArray[Any]:
    """Return the numbers in a file, or in an array that was handed over."""
    try:
        if (given := catalogue.handed_over(str(path))) is not None:
            values = array_of(given)
            _require_numbers(path, ArrayHeader(values.shape, values.dtype), dims, most)
            return values
        if path.suffix == ".npy":
            return read_array(path, lambda header: _require_numbers(path, header, dims, most))
        with open_file(path) as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise PactlError(f"{path} is too large")
        rows = [line.replace(b",", b" ").split() for line in content.splitlines() if line.strip()]
        values = np.array([[_number(word) for word in row] for row in rows])
        if values.dtype.kind == "O":
            raise ValueError("integers of more than 64 bits")
        return values[:, 0] if dims == 1 and values.ndim == 2 and values.shape[1] == 1 else values
    except PactlError as error:
        raise type(error)(f"{option} {error.message}", error.hint) from error
    except FileNotFoundError as error:
        raise MissingError(f"{option} {path}: there is no such file") from error
    except (OSError, ValueError) as error:
        said = reason(error) if isinstance(error, OSError) else "not rows of numbers, all of one length"
        raise PactlError(f"{option} {path} cannot be read: {said}") from error


def _number(word: bytes) -> int | float:
    """Return the number that a word spells, as an integer if it is one."""
    try:
        return int(word)
    except ValueError:
        return float(word)


def _require_numbers(path: Path, header: ArrayHeader, dims: int, most: int) -> None:
    """Raise PactlError unless an array has real numbers, and not many more than are needed."""
    if len(header.shape) != dims or header.dtype.kind not in "biuf":
        raise PactlError(f"{path} is an array {header}, not numbers in {dims} dimension{'s' * (dims > 1)}")
    if max(header.shape, default=0) > 10 * most + 10:
        raise PactlError(f"{path} is an array {header}, which is much too large")
