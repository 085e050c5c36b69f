"""Columns of a table: the kind and the values of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from pactl_cli.errors import PactlError, quoted

NUMBERS, TRUTH_VALUES, CATEGORIES = "numbers", "truth values", "categories"
KINDS = (NUMBERS, TRUTH_VALUES, CATEGORIES)
_MISSING = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "?"))
"""Spellings of a missing value in text files, in any case."""
_THOUSANDS = re.compile(r"[-+]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?")
_TRUTH = {"true": 1.0, "false": 0.0}
_LARGEST = float(np.finfo(np.float32).max)
_FEW, _MOST_SHARE = 20, 0.9
"""Texts are refused as categories if more than so many different ones, and more than such a share, are numbers."""

Numbers = NDArray[np.float64]
Texts = list[str | None]


@dataclass(frozen=True)
class Column:
    """The values of one column.

    Attributes:
        kind: one of `KINDS`; None for texts whose kind is not inferred yet.
        values: numbers, shape (n,), with NaN for missing and 1 for true; or n texts, with None for missing.
    """

    kind: str | None
    values: Numbers | Texts

    def missing(self) -> NDArray[np.int64]:
        """Return the indices of the missing values, ascending."""
        if isinstance(self.values, list):
            return np.array([place for place, value in enumerate(self.values) if value is None], dtype=np.int64)
        return np.flatnonzero(np.isnan(self.values))


@dataclass(frozen=True)
class Part:
    """The table in one file.

    Attributes:
        where: the table's name for messages.
        columns: by name, in the order of the file, each as long as `rows`.
        rows: the number of each row in the file, counted from 1.
        notes: sentences that tell the user how the file was interpreted.
    """

    where: str
    columns: dict[str, Column]
    rows: Sequence[int]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, row: int, name: str) -> str:
        """Return the place of a cell in words."""
        return f"{self.where}: row {self.rows[row]:,}, column {quoted(name)}"

    def read(self, name: str, kind: str | None) -> Column:
        """Return a column read as `kind`; None infers the kind from the values.

        Raises:
            PactlError: naming the first cell of another kind.
        """
        column = self.columns[name]
        if column.kind is not None:
            return self._as_kind(name, column, kind or column.kind)
        given = [str(text) for text in column.values]
        texts: Texts = [None if text.casefold() in _MISSING else text for text in given]
        if kind is None and (kind := _inferred_kind(texts)) == CATEGORIES:
            self._require_no_numbers(name, texts)
        if kind == CATEGORIES:
            return Column(kind, texts)
        found = [np.nan if text is None else _value(str(kind), text) for text in texts]
        if None in found:
            row = found.index(None)
            raise PactlError(
                f"{self.place(row, name)} has {quoted(str(texts[row]))}, but the training set has {kind} there",
                "correct the value",
            )
        return self._within_range(name, Column(kind, np.array(found, dtype=np.float64)))

    def _as_kind(self, name: str, column: Column, kind: str) -> Column:
        """Return a column of a known kind as one of another."""
        if kind == CATEGORIES and not isinstance(column.values, list):
            return Column(kind, [None if np.isnan(value) else f"{value:.17g}" for value in column.values.tolist()])
        if kind != column.kind:
            raise PactlError(f"{self.where}: column {quoted(name)} holds {column.kind}, but {kind} in the training set")
        return self._within_range(name, column)

    def _within_range(self, name: str, column: Column) -> Column:
        """Return a column after checking that single precision can hold its numbers."""
        if isinstance(column.values, list):
            return column
        if (odd := np.flatnonzero(np.abs(column.values) > _LARGEST)).size:
            value = column.values[odd[0]]
            raise PactlError(f"{self.place(int(odd[0]), name)} has {value:g}, too large for single precision")
        # one bit pattern for every missing value, and for both zeros
        return Column(column.kind, np.where(np.isnan(column.values), np.nan, column.values) + 0.0)

    def _require_no_numbers(self, name: str, texts: Texts) -> None:
        """Raise PactlError if texts look like numbers rather than categories: with commas, or almost all of them."""
        present = [text for text in texts if text is not None]
        numbers = {text for text in present if _value(NUMBERS, text) is not None}
        count = sum(text in numbers for text in present)
        with_commas = all(text in numbers or _has_commas(text) for text in present)
        if with_commas or (len(numbers) > _FEW and count > _MOST_SHARE * len(present)):
            row = next(place for place, text in enumerate(texts) if text is not None and text not in numbers)
            why = ": is it a number with a comma?" if with_commas else f"; {count:,} of {len(present):,} are numbers"
            raise PactlError(
                f"{self.place(row, name)} has {quoted(str(texts[row]))}{why}",
                "write numbers with a decimal point and without separators of thousands, and leave missing values "
                "empty; if they are categories, list them with --categories",
            )


def _inferred_kind(texts: Texts) -> str:
    """Return the kind that fits all values that are not missing; numbers if all are missing."""
    present = [text for text in texts if text is not None]
    for kind in (NUMBERS, TRUTH_VALUES):
        if all(_value(kind, text) is not None for text in present):
            return kind
    return CATEGORIES


def _has_commas(text: str) -> bool:
    """Return whether a text is a number with a decimal comma, or with commas between thousands."""
    return bool(_THOUSANDS.fullmatch(text)) or _value(NUMBERS, text.replace(",", ".")) is not None


def _value(kind: str, text: str) -> float | None:
    """Return the number or truth value that a text spells; None if it is not of that kind."""
    if kind == TRUTH_VALUES:
        return _TRUTH.get(text.casefold())
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) and "_" not in text else None
