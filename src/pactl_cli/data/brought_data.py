"""Data that the user has in Python: arrays, an iterable of labelled examples, or what a function returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

import numpy as np

from pactl_cli import catalogue
from pactl_cli.data.array_archive import HeldArrays
from pactl_cli.data.array_values import Values
from pactl_cli.data.dataset import Dataset
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.progress import Progress
from pactl_cli.data.given_arrays import read_archive
from pactl_cli.data.reading import Reading
from pactl_cli.data.spellings import TEST_PARTS
from pactl_cli.errors import PactlError, names_in_words
from pactl_cli.models.brought import described, find_code, user_code

_FORMS = "give (X, y), a Dataset of PyTorch or of Hugging Face, or pairs of an input and its label"
_LABELS = ("label", "labels", "target", "y")
"""Names of the column of labels, tried if no column has the type of class labels."""
_ODD_MODES = ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "La", "RGBa")
"""Pillow's modes whose numbers are places in a palette, or colours of another kind than red, green and blue."""


def load_brought(name: str, data_dir: DataDirectory, progress: Progress, *, reading: Reading) -> Dataset:
    """Load the data set that was handed over from Python under a name, or that the user's `module:function` returns.

    Raises:
        MissingError: if there is no such function.
        PactlError: if the function fails, or its result is not a data set.
    """
    given = catalogue.handed_over(name) if catalogue.is_handed(name) else None
    with user_code():
        function = find_code("--dataset", name) if given is None else None
        try:
            arrays = dict(_arrays(function() if function else given, progress))
        except PactlError as error:
            raise PactlError(f"--dataset {name}: {error.message}", error.hint or _FORMS) from error
        except (Exception, SystemExit) as error:
            raise PactlError(f"--dataset {name} fails: {described(error)}", _FORMS) from error
    return read_archive(name, HeldArrays.holding(name, arrays), progress, reading)


def _arrays(given: Any, progress: Progress) -> Iterator[tuple[str, Values]]:
    """Yield the arrays of a data set, named as in an `.npz` file."""
    if not isinstance(given, Mapping):
        given = {"train": given}
    if "train" not in given:  # the keys are the names of arrays
        for name, values in given.items():
            yield from _named(str(name), values)
        return
    columns: list[list[Any]] = []
    for part in ("train", *[part for part in TEST_PARTS if given.get(part) is not None][:1]):
        inputs, labels = _pair(given[part], progress)
        columns.append(list(getattr(inputs, "columns", ())))
        if all(columns) and columns[0] != columns[-1]:
            raise PactlError(f"the columns of {part} are not those of train in the same order", "select them by name")
        yield from _named(f"x_{part}", inputs)
        yield f"y_{part}", array_of(labels)


def _named(name: str, values: Any) -> Iterator[tuple[str, Values]]:
    """Yield one array, or the arrays of a mapping or a sparse matrix, by name."""
    if hasattr(values, "tocsr"):
        matrix = values.tocsr()
        parts = {key: getattr(matrix, key) for key in ("data", "indices", "indptr", "shape")}
        values = parts | {"format": np.array(b"csr")}
    if isinstance(values, Mapping):
        yield from ((f"{name}.{key}", array_of(each)) for key, each in values.items())
    else:
        yield name, array_of(values)


def _pair(given: Any, progress: Progress) -> tuple[Any, Any]:
    """Return the inputs and the labels of one part of a data set."""
    if isinstance(given, tuple) and len(given) == 2:
        return given
    if hasattr(given, "column_names") and hasattr(given, "features"):
        return _columns(given)
    is_iterable = isinstance(given, Iterable) or hasattr(given, "__getitem__")
    if not is_iterable or isinstance(given, Mapping) or hasattr(given, "dtype"):
        raise PactlError(f"a {type(given).__name__} is not a data set with labels")
    inputs, labels = [], []
    total = len(given) if isinstance(given, Sized) else 0
    for place, example in enumerate(_examples(given)):
        if not isinstance(example, tuple | list) or len(example) != 2:
            raise PactlError(f"example {place} of the {type(given).__name__} is not a pair of an input and a label")
        inputs.append(example[0])
        labels.append(array_of(example[1]))
        if labels[-1].size != 1:
            hint = "a DataLoader yields batches: hand over its dataset instead"
            raise PactlError(f"example {place} of the {type(given).__name__} has {labels[-1].size} labels", hint)
        progress(place + 1, max(total, place + 1))
    if not inputs:
        raise PactlError(f"the {type(given).__name__} has no examples", "a generator can be read only once")
    return _stacked(inputs), np.stack(labels).reshape(len(labels))


def _examples(given: Any) -> Iterator[Any]:
    """Yield the examples of an iterable, or of a sequence that is not iterable."""
    is_sequence = hasattr(given, "__getitem__") and hasattr(given, "__len__")
    yield from (given[place] for place in range(len(given))) if is_sequence else given


def _stacked(inputs: list[Any]) -> Any:
    """Return inputs as one array, or as one array for each name."""
    if isinstance(inputs[0], Mapping):
        return {key: _stacked([each[key] for each in inputs]) for key in inputs[0]}
    arrays = [array_of(each) for each in inputs]
    if len(shapes := dict.fromkeys(array.shape for array in arrays)) > 1:
        raise PactlError(f"the inputs have different shapes, {names_in_words(list(shapes))}", "bring them to one size")
    return np.stack(arrays)


def _columns(given: Any) -> tuple[Any, Any]:
    """Return the inputs and the labels of a `datasets.Dataset`, which may have several columns of inputs."""
    names = list(given.column_names)
    labels = [name for name in names if hasattr(given.features[name], "names")]
    labels = labels or [name for name in _LABELS if name in names][:1]
    if len(labels) != 1:
        raise PactlError(
            f"none of the columns {names_in_words(names)}, or several, look like labels",
            'name one "label", or give (X, y)',
        )
    inputs = {name: _stacked(list(given[name])) for name in names if name != labels[0]}
    return next(iter(inputs.values())) if len(inputs) == 1 else inputs, np.asarray(list(given[labels[0]]))


def array_of(values: Any) -> Values:
    """Return a tensor, a list, a column of a table, a picture, or anything else like an array as a numpy array."""
    if np.ma.is_masked(values):
        raise PactlError("an array has masked values", "fill them with values of your own, or remove these examples")
    if isinstance(mode := getattr(values, "mode", None), str) and mode in _ODD_MODES:
        raise PactlError(f"a picture has the mode {mode}: its numbers are not colours", 'give image.convert("RGB")')
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.numpy() if str(values.dtype) != "torch.bfloat16" else values.float().numpy()
    array = np.asarray(values)
    if array.dtype.hasobject and all(isinstance(value, str) for value in array.flat):
        return array.astype(np.str_)
    return array
