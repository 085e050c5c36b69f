"""Labels in the forms that users write: whole numbers from 0 or 1, names, truth values, one-hot rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pactl_cli.data.array_values import Values
from pactl_cli.errors import PactlError, names_in_words, quoted

MOST_CLASSES = 100_000
_FEW_CLASSES = 20
"""So many different labels are accepted as classes, however few examples there are."""
LONGEST_NAME = 200
_WHOLE_NUMBER = re.compile("0|-?[1-9][0-9]{0,16}")
"""A whole number in its usual spelling. Others stay strings, because 01 and 1 may be two classes."""
_MISSING = ("nan", "NaN", "<NA>", "NaT")
"""The strings that missing values become."""
_DOUBTFUL = frozenset(("na", "n/a", "#n/a", "null", "none", "?"))
"""Names, in lower case, that a class may have, and that mark a missing label elsewhere."""


@dataclass(frozen=True)
class Labels:
    """Labels of a training set, and of a test set if there is one, as numbers 0 .. classes - 1.

    Attributes:
        train, test: shape (n,), int64.
        names: of the classes, in the order of their numbers; None if the classes have no names.
        notes: sentences that tell the user how the labels were interpreted.
    """

    classes: int
    train: Tensor
    test: Tensor | None
    names: tuple[str, ...] | None
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The labels of the training set, and of the test set if there is one."""
        return (self.train,) if self.test is None else (self.train, self.test)


def read_labels(
    name: str, train: Values, test: Values | None = None, *, called: tuple[str, str] = ("y_train", "y_test")
) -> Labels:
    """Return the labels that values stand for, if their meaning is certain.

    Whole numbers from 0, most of which occur, are kept. Other whole numbers are names, numbered in ascending order, if
    they leave few gaps or are only two, such as -1 and 1. So are strings and truth values. A row with a single 1 stands
    for the place of the 1.

    Args:
        name: of the data set, for messages.
        train, test: arrays with one value, or one row, for each example.
        called: the names of both arrays for messages.

    Raises:
        PactlError: if they are not labels, or the test set has a label that the training set lacks.
    """
    notes: list[str] = []
    parts = [train] if test is None else [train, test]
    whats = [f"--dataset {name}: {part}" for part in called]
    columns = [_column(what, values, notes) for what, values in zip(whats, parts, strict=False)]
    if len({column.dtype.kind for column in columns}) > 1:
        columns = [column.astype(np.str_) for column in columns]
    width = _width(name, parts)
    are_strings = train.dtype.kind in "US"
    classes = np.arange(width) if width else _classes(whats[0], columns[0], notes, are_strings=are_strings)
    if len(columns) > 1 and len(others := np.setdiff1d(columns[1], classes)):
        raise PactlError(
            f"{whats[1]} has classes that the training set lacks: {_listed(others)}",
            "remove their examples, or add examples of them to the training set",
        )
    numbers = [torch.from_numpy(np.searchsorted(classes, column).astype(np.int64)) for column in columns]
    is_numbered = classes.dtype.kind in "iu" and classes[0] == 0 and classes[-1] == len(classes) - 1
    names = None if is_numbered else tuple(str(value) for value in classes)
    for doubtful in (name for name in names or () if name.casefold() in _DOUBTFUL):
        notes.append(f"{quoted(doubtful)} is taken for a class: if it marks missing labels, remove these examples")
    return Labels(
        len(classes), numbers[0], numbers[1] if len(numbers) > 1 else None, names, tuple(dict.fromkeys(notes))
    )


def _listed(values: Values) -> str:
    return names_in_words(values.tolist())


def _column(what: str, values: Values, notes: list[str]) -> Values:
    """Return one whole number, or one string, for each example."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2:
        values = _places_of_ones(what, values, notes)
    if values.ndim != 1:
        raise PactlError(
            f"{what} has the shape {values.shape}", "give one label for each example, or a row with a single 1"
        )
    if not len(values):
        raise PactlError(f"{what} has no labels")
    kind = values.dtype.kind
    if kind in "US":
        return _strings(what, values)
    if kind == "b":
        notes.append("the labels are truth values: False is class 0, True is class 1")
        return values.astype(np.str_)
    if kind == "f":
        values = _whole(what, values, notes)
    elif kind not in "iu":
        raise PactlError(f"{what} has the type {values.dtype}", "labels are whole numbers or strings: y.astype(str)")
    if values.dtype.kind == "u" and values.max() > np.iinfo(np.int64).max:
        raise PactlError(f"{what} has the label {values.max()}, which has more than 63 bits", "use int64")
    return values.astype(np.int64)


def _width(name: str, parts: Sequence[Values]) -> int:
    """Return the number of classes of one-hot rows; 0 if the labels are not rows."""
    widths = [values.shape[1] if values.ndim == 2 and values.shape[1] > 1 else 0 for values in parts]
    if len(set(widths)) > 1 and all(widths):
        raise PactlError(
            f"--dataset {name}: the labels of the training set are rows of {widths[0]}, and of the test set of "
            f"{widths[1]}",
            "they must have the same classes",
        )
    return widths[0]


def _places_of_ones(what: str, values: Values, notes: list[str]) -> Values:
    """Return the place of the 1 in each row."""
    if values.dtype.kind not in "biuf" or values.shape[1] > MOST_CLASSES:
        raise PactlError(f"{what} has the shape {values.shape}, and the type {values.dtype}", "give one label each")
    is_one = values == 1
    if (odd := np.flatnonzero((is_one.sum(axis=1) != 1) | ~(is_one | (values == 0)).all(axis=1))).size:
        row = names_in_words([f"{value:g}" for value in values[odd[0]]])
        raise PactlError(
            f"{what} has the shape {values.shape}, but not every row is a single 1 among zeros: the first other row is "
            f"[{row}]",
            "every example has one class: give its number",
        )
    notes.append(f"the labels are rows with a single 1: its place, 0 to {values.shape[1] - 1}, is the class")
    places: Values = is_one.argmax(axis=1)
    return places


def _strings(what: str, values: Values) -> Values:
    """Return names without space around them, or integers if all of them are whole numbers."""
    try:
        texts = np.char.strip(values if values.dtype.kind == "U" else np.char.decode(values, "utf-8"))
        found, places = np.unique(texts, return_inverse=True)
        names = found.tolist()
        "".join(names).encode()
    except (ValueError, SystemError) as error:  # numpy takes any four bytes for a letter
        raise PactlError(f"{what} has labels that are not UTF-8", "save them as strings") from error
    if empty := int((texts == "").sum()):
        raise PactlError(f"{what} lacks {empty:,} of its labels: they are empty", "remove these examples")
    if missing := [word for word in _MISSING if word in names]:
        count = int(np.isin(texts, missing).sum())
        raise PactlError(f"{what} lacks {count:,} of its labels: they are {missing[0]}", "remove these examples")
    if len(longest := max(names, key=len)) > LONGEST_NAME:
        raise PactlError(f"{what} has a label of {len(longest):,} letters, {longest[:20]}...", "give shorter names")
    if all(map(_WHOLE_NUMBER.fullmatch, names)):
        return found.astype(np.int64)[places]
    return texts


def _whole(what: str, values: Values, notes: list[str]) -> Values:
    """Return whole floating-point numbers as integers."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        values = values.astype(np.float64)
    if missing := int(np.isnan(values).sum()):
        raise PactlError(f"{what} lacks {missing:,} of its labels: they are NaN", "remove these examples")
    if (odd := values[(values != np.trunc(values)) | ~(np.abs(values) < 2**53)]).size:
        raise PactlError(
            f"{what} has the label {odd[0]:g}, which is not a whole number",
            "a certificate is about classes: for a number to predict, divide its range into classes",
        )
    notes.append("the labels are floating-point numbers, all of them whole: they are taken as integers")
    return values.astype(np.int64)


def _classes(what: str, labels: Values, notes: list[str], *, are_strings: bool) -> Values:
    """Return the label of each class, in order.

    Args:
        are_strings: whether the labels were strings, which are names even if they look like numbers.
    """
    found, examples = np.unique(labels), len(labels)
    if len(found) < 2:
        raise PactlError(f"{what} has a single class, {_listed(found)}", "at least two classes are needed")
    if len(found) > min(max(_FEW_CLASSES, examples // 2), MOST_CLASSES):
        raise PactlError(
            f"{what} has {len(found):,} different labels for {examples:,} examples: these do not look like classes",
            "a certificate is about classes: name the column or array that holds them",
        )
    if found.dtype.kind not in "iu":
        return found
    is_full = 2 * len(found) > int(found[-1]) - int(found[0])
    if found[0] == 0 and is_full:
        return _from_zero(what, int(found[-1]) + 1, found, notes)
    if not are_strings and found.tolist() != [-1, 1] and (found[0] < 0 or not (is_full or len(found) == 2)):
        raise PactlError(
            f"{what} has the labels {_listed(found)}, which may not all be classes",
            "number the classes from 0, or name them by strings, and remove examples without a class",
        )
    if found[0] == 1 and found[-1] == len(found):
        notes.append(f"the labels are 1 to {len(found)}: they are numbered from 0, and keep their names")
    else:
        notes.append(f"the {len(found)} classes are numbered from 0 and named {_listed(found)}")
    return found


def _from_zero(what: str, count: int, found: Values, notes: list[str]) -> Values:
    """Return 0 .. count - 1, and note those that do not occur."""
    if count > MOST_CLASSES:
        raise PactlError(f"{what} has the label {count - 1:,}", f"labels are at most {MOST_CLASSES - 1:,}")
    every: Values = np.arange(count)
    if len(absent := np.setdiff1d(every, found)):
        notes.append(f"no training example has the label {_listed(absent)}: there are still {count:,} classes")
    return every
