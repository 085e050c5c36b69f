"""The encoding of a table's rows as numbers, which depends on no examples but those of calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.tables.columns import CATEGORIES, KINDS, Column
from pactl_cli.errors import PactlError, quoted
from pactl_cli.models.inputs import Inputs

MOST_COLUMNS, _MOST_CATEGORIES = 1 << 16, 1 << 20
_CODES = 2
"""The code of a text is so many 64-bit integers: the beginning of its sha256."""

Codes = tuple[int, ...]


@dataclass(frozen=True)
class Field:
    """A column that is read.

    Attributes:
        kind: one of `KINDS`.
        categories: in the order of their features; None while they are unknown.
    """

    name: str
    kind: str
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Encoding:
    """The columns of a table, and how its rows become numbers.

    Attributes:
        fields: in the order of their features.
        fills: whether missing values are allowed. A missing number becomes 0, marked by a second feature. For a missing
            category all features are 0.
        texts: all texts of the tables that were read, by code. Only those in `fields` become features.
    """

    fields: tuple[Field, ...]
    fills: bool = False
    texts: Mapping[Codes, str] = field(default_factory=dict, compare=False, repr=False)

    def calibrated(self, inputs: Inputs) -> Encoding:
        """Return the encoding with unknown categories taken, sorted, from the raw inputs of calibration examples.

        Raises:
            PactlError: if there are no calibration examples.
        """
        fields = []
        for place, known in enumerate(self.fields):
            if known.kind == CATEGORIES and known.categories is None:
                codes = self._raw(inputs, place)
                if not len(codes):
                    raise PactlError(
                        f"the categories of column {quoted(known.name)} are those of calibration examples, and there "
                        "are none",
                        "list them with --categories FILE, or give --calibration-examples",
                    )
                found = (self.texts.get(tuple(code)) for code in np.unique(codes, axis=0).tolist())
                known = replace(known, categories=tuple(sorted(text for text in found if text is not None)))
            fields.append(known)
        return replace(self, fields=tuple(fields))

    def encode(self, inputs: Inputs) -> Tensor:
        """Return raw inputs as features, shape (n, F), in single precision. Each row is encoded by itself.

        Raises:
            PactlError: if no column gives a feature.
        """
        features: list[NDArray[np.float32]] = []
        for place, known in enumerate(self.fields):
            raw = self._raw(inputs, place)
            if known.kind == CATEGORIES:
                features += [(raw == _code(text)).all(axis=1).astype(np.float32) for text in known.categories or ()]
                continue
            is_missing = np.isnan(raw)
            features.append(np.where(is_missing, 0.0, raw).astype(np.float32))
            if self.fills:
                features.append(is_missing.astype(np.float32))
        if not features:
            raise PactlError("the table has no values to learn from", "list categories with --categories FILE")
        return torch.from_numpy(np.stack(features, axis=1))

    def _raw(self, inputs: Inputs, place: int) -> NDArray[Any]:
        """Return the raw values of one column."""
        known = self.fields[place]
        assert isinstance(inputs, Mapping)
        key, names = _group(self.fields, known.kind == CATEGORIES)
        values: NDArray[Any] = inputs[key][:, names.index(known.name)].cpu().numpy()
        return values

    def difference(self, other: Encoding) -> str:
        """Return in words why rows of this encoding cannot be read by another; "" if they can.

        Categories that are unknown here match any.
        """
        there = {known.name: known for known in other.fields}
        if alone := {known.name for known in self.fields} ^ there.keys():
            return f"the column {quoted(min(alone))} is in one of the tables only"
        for own in self.fields:
            its = there[own.name]
            if own.kind != its.kind:
                return f"the column {quoted(own.name)} holds {own.kind} in one table and {its.kind} in the other"
            if own.categories not in (None, its.categories):
                return f"the categories of column {quoted(own.name)} differ"
        return "" if self.fills == other.fills else "missing values are refused in one table and filled in the other"

    def as_dict(self) -> dict[str, Any]:
        """Return the encoding as plain values."""
        return {"fields": [asdict(known) for known in self.fields], "fills": self.fills}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Return the encoding that `as_dict` wrote, or that a stranger forged.

        Raises:
            KeyError, TypeError, ValueError: if it is malformed or too large.
        """
        fields = tuple(_field(**row) for row in values["fields"])
        names = {known.name for known in fields}
        many = sum(len(known.categories or ()) for known in fields)
        if len(names) != len(fields) or len(fields) > MOST_COLUMNS or many > _MOST_CATEGORIES:
            raise ValueError("its table has two columns of one name, or too many columns or categories")
        return cls(fields, bool(values["fills"]))


def raw_inputs(fields: Sequence[Field], columns: Mapping[str, Column]) -> dict[str, Tensor]:
    """Return the columns of a table as raw inputs: a tensor of all numbers, and one of the codes of all texts.

    The tensors' names contain the sorted names of the columns, so that a fingerprint covers these too.
    """
    inputs: dict[str, Tensor] = {}
    for is_text in (False, True):
        key, names = _group(fields, is_text)
        if names:
            values = [_coded(columns[name]) if is_text else np.asarray(columns[name].values) for name in names]
            inputs[key] = torch.from_numpy(np.stack(values, axis=1))
    return inputs


def texts_of(columns: Sequence[Column]) -> dict[Codes, str]:
    """Return all texts of columns by their codes."""
    found = {text for column in columns if isinstance(column.values, list) for text in column.values}
    return {tuple(_code(text).tolist()): text for text in found if text is not None}


def _group(fields: Sequence[Field], is_text: bool) -> tuple[str, list[str]]:
    """Return the name of the tensor of all texts, or of all numbers, and the columns in it."""
    names = sorted(known.name for known in fields if (known.kind == CATEGORIES) == is_text)
    return f"{'texts' if is_text else 'numbers'} of {names!r}", names


def _coded(column: Column) -> NDArray[np.int64]:
    """Return the codes of texts, shape (n, 2), with zeros for missing ones."""
    places: dict[str | None, int] = {}
    values = [places.setdefault(text, len(places)) for text in column.values]
    codes = [np.zeros(_CODES, dtype=np.int64) if text is None else _code(text) for text in places]
    return np.stack(codes)[values]


def _code(text: str) -> NDArray[np.int64]:
    digest = sha256(text.encode("utf-8", "surrogateescape")).digest()
    return np.frombuffer(digest[: 8 * _CODES], dtype="<i8").astype(np.int64)


def _field(name: Any, kind: Any, categories: Any) -> Field:
    """Return a field from a stranger's values.

    Raises:
        TypeError, ValueError: if they are malformed.
    """
    texts = [name, *(categories or ())]
    if kind not in KINDS or not all(isinstance(text, str) for text in texts) or (kind != CATEGORIES and categories):
        raise ValueError("its table has a malformed column")
    return Field(name, kind, None if categories is None else tuple(categories))
