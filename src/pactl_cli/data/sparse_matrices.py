"""Sparse matrices as scipy saves them: their arrays are checked, and rows are made dense on demand."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pactl_cli.data.array_values import Held, Values, input_type, require_finite
from pactl_cli.errors import PactlError

_COMPRESSED, _PLACES = {"data", "indices", "indptr", "shape"}, {"data", "row", "col", "shape"}
_MORE = {"format", "_is_array"}
_BY_ROWS, _BY_COLUMNS = "csr", "csc"
_LINES = {_BY_ROWS: "rows", _BY_COLUMNS: "columns"}


@dataclass(frozen=True)
class SparseRows:
    """A scipy.sparse.csr_matrix in single precision, whose rows are read as dense arrays."""

    matrix: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the matrix."""
        rows, columns = self.matrix.shape
        return rows, columns

    def read(self, rows: NDArray[np.int64]) -> Values:
        """Return some rows, shape (m, columns)."""
        found: Values = self.matrix[rows].toarray()
        return found


def is_sparse(keys: Set[str]) -> bool:
    """Return whether these are exactly the names of the arrays of a sparse matrix."""
    return keys - _MORE in (_COMPRESSED, _PLACES)


def sparse_rows(what: str, called: str, arrays: Mapping[str, Values], examples: int) -> SparseRows:
    """Return the matrix of which scipy.sparse.save_npz, or code like it, has saved the arrays.

    Args:
        what: the matrix's name for messages.
        called: the name under which it was saved.
        arrays: its arrays by name.
        examples: the number of rows that it must have. Without it, a few bytes could claim any number.

    Raises:
        PactlError: if its arrays do not fit together, an index lies outside, or one place has two values.
    """
    numbers = arrays["data"]
    input_type(f"{what}.data", numbers.dtype)
    require_finite(f"{what}.data", f"{called}.data", Held(numbers).pieces())
    shape = _shape(what, arrays["shape"], examples)
    if "row" in arrays:
        places = {name: _integers(f"{what}.{name}", arrays[name]) for name in ("row", "col")}
        _require_same_length(what, numbers, **places)
        for (name, indices), side in zip(places.items(), shape, strict=True):
            _require_within(f"{what}.{name}", indices, side)
        return _dense_by_row(what, "coo", (numbers, (places["row"], places["col"])), shape)
    indices, starts = (_integers(f"{what}.{name}", arrays[name]) for name in ("indices", "indptr"))
    _require_same_length(what, numbers, indices=indices)
    kind = _kind(what, arrays.get("format"), len(starts), shape)
    major, minor = shape if kind == _BY_ROWS else shape[::-1]
    if len(starts) != major + 1 or starts[0] != 0 or starts[-1] != len(indices) or (np.diff(starts) < 0).any():
        raise PactlError(f"{what}.indptr does not divide {len(indices):,} values among {major:,} {_LINES[kind]}")
    _require_within(f"{what}.indices", indices, minor)
    return _dense_by_row(what, kind, (numbers, indices, starts), shape)


def _dense_by_row(what: str, kind: str, parts: tuple[Any, ...], shape: tuple[int, int]) -> SparseRows:
    from scipy import sparse

    make = {"coo": sparse.coo_matrix, _BY_ROWS: sparse.csr_matrix, _BY_COLUMNS: sparse.csc_matrix}[kind]
    matrix = make((parts[0].astype(np.float32), *parts[1:]), shape=shape).tocsr()
    matrix.sum_duplicates()
    if matrix.nnz != len(parts[0]):
        raise PactlError(f"{what} has several values for one place", "call its sum_duplicates() before saving it")
    return SparseRows(matrix)


def _shape(what: str, values: Values, examples: int) -> tuple[int, int]:
    sides = _integers(f"{what}.shape", values).tolist()
    if len(sides) != 2 or min(sides) < 1:
        raise PactlError(f"{what}.shape is {sides}, not rows and columns")
    if sides[0] != examples:
        raise PactlError(f"{what} has {sides[0]:,} rows, and there are {examples:,} labels", "one label for each row")
    return sides[0], sides[1]


def _kind(what: str, said: Values | None, starts: int, shape: tuple[int, int]) -> str:
    """Return the format of a compressed matrix, `csr` or `csc`: as it says, else as the number of starts implies."""
    if said is not None:
        word = said.item() if said.size == 1 else None
        kind = word.decode("ascii", "replace") if isinstance(word, bytes) else word
        if kind not in (_BY_ROWS, _BY_COLUMNS):
            raise PactlError(f"{what}.format is {kind!r}", "save it as csr, csc or coo: x.tocsr()")
        return str(kind)
    if shape[0] == shape[1]:
        raise PactlError(
            f"{what} is square, and does not say whether it is stored by rows", f'add {what}.format: "csr"'
        )
    return _BY_COLUMNS if starts == shape[1] + 1 else _BY_ROWS


def _integers(what: str, values: Values) -> NDArray[np.int64]:
    if values.ndim != 1 or values.dtype.kind not in "iu" or not values.size:
        raise PactlError(f"{what} has the shape {values.shape} and the type {values.dtype}, not whole numbers in a row")
    return values.astype(np.int64)


def _require_same_length(what: str, numbers: Values, **places: Values) -> None:
    for name, indices in places.items():
        if numbers.shape != indices.shape:
            raise PactlError(f"{what}.data has the shape {numbers.shape}, and {what}.{name} {indices.shape}")


def _require_within(what: str, indices: NDArray[np.int64], side: int) -> None:
    if indices.min() < 0 or indices.max() >= side:
        wrong = indices[(indices < 0) | (indices >= side)]
        raise PactlError(f"{what} has the index {wrong[0]:,}, which is outside 0 .. {side - 1:,}")
