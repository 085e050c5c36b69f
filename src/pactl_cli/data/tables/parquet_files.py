"""Tables in parquet files, read by pyarrow."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pactl_cli.data.files.capacity import available_memory
from pactl_cli.data.files.checked_files import open_file
from pactl_cli.data.tables.columns import CATEGORIES, NUMBERS, TRUTH_VALUES, Column, Part
from pactl_cli.errors import MissingError, PactlError, quoted, reason

_MEMORY_FOR_EACH_BYTE, _MEMORY_FOR_EACH_VALUE = 4, 32
_PANDAS_INDEX = "__index_level_"


def read_parquet(path: Path) -> Part:
    """Read the table of a file, whose schema gives the kinds of its columns.

    Raises:
        MissingError: if there is no such file.
        PactlError: if pyarrow is not installed, or the file cannot be read, is too large for memory, or has a column
            of an unsupported type.
    """
    table = _table(path)
    if not table.num_rows:
        raise PactlError(f"{path} has no rows")
    names = table.column_names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise PactlError(f"{path} has two columns with the name {quoted(twice)}", "give each a name of its own")
    written = _written_index(table)
    if index := [name for name in names if not name or name.startswith(_PANDAS_INDEX) or name in written]:
        raise PactlError(
            f"{path} has the column {quoted(index[0])}, which is an index that pandas wrote",
            "save it with to_parquet(PATH, index=False), or after reset_index() if it is data",
        )
    columns = {name: _column(f"{path}: column {quoted(name)}", table.column(name)) for name in names}
    return Part(str(path), columns, range(1, table.num_rows + 1))


def _table(path: Path) -> Any:
    """Return the arrow table of a file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise PactlError(
            f"--dataset parquet:{path} needs pyarrow, which is not installed", "pip install 'pactl[table]'"
        ) from error
    try:
        with open_file(path) as file:
            # read a text that many rows share only once: otherwise a small file could fill the memory
            texts = [field.name for field in parquet.read_schema(file) if _is_text(field.type)]
            file.seek(0)
            found = parquet.ParquetFile(file, read_dictionary=texts)
            groups = (found.metadata.row_group(place) for place in range(found.metadata.num_row_groups))
            size = sum(group.total_byte_size for group in groups)
            values = found.metadata.num_rows * found.metadata.num_columns
            need = max(size * _MEMORY_FOR_EACH_BYTE, values * _MEMORY_FOR_EACH_VALUE)
            if need > available_memory():
                raise ValueError(f"it takes {need / 1e6:,.0f} MB, more than the available memory")
            return found.read()
    except FileNotFoundError as error:
        raise MissingError(f"{path} cannot be read: there is no such file") from error
    except pyarrow.ArrowException as error:
        raise PactlError(f"{path} cannot be read: it is not a parquet file, or is truncated or altered") from error
    except (OSError, ValueError) as error:
        raise PactlError(f"{path} cannot be read: {reason(error) or 'it is truncated or altered'}") from error


def _written_index(table: Any) -> list[Any]:
    """Return the names of the columns that pandas reads as the index of rows; they may be numbers of examples."""
    with suppress(ValueError, TypeError, AttributeError):  # anybody may write anything there
        return list(table.schema.pandas_metadata.get("index_columns", ()))
    return []


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _texts(column: Any) -> list[str | None]:
    """Return the values of a dictionary-encoded column, with one Python object for each distinct value."""
    texts: list[str | None] = []
    for chunk in column.chunks:
        known = [None if value is None else str(value).strip() for value in chunk.dictionary.to_pylist()]
        texts += [None if place is None else known[place] for place in chunk.indices.to_pylist()]
    return texts


def _column(what: str, column: Any) -> Column:
    """Return a column of an arrow table."""
    from pyarrow import float64, types, uint8

    kind = column.type
    if types.is_dictionary(kind) or _is_text(kind):
        try:
            return Column(CATEGORIES, _texts(column if types.is_dictionary(kind) else column.dictionary_encode()))
        except UnicodeDecodeError as error:
            raise PactlError(f"{what} has texts that are not UTF-8", "save them as strings") from error
    is_true = types.is_boolean(kind)
    if not (is_true or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
        raise PactlError(
            f"{what} holds {kind}, not numbers or texts", "convert it to numbers or texts, or leave it out"
        )
    numbers = (column.cast(uint8()) if is_true else column).cast(float64(), safe=False).to_numpy()
    if np.isinf(numbers).any():
        raise PactlError(f"{what} has an infinite value", "correct the value, or make it missing")
    return Column(TRUTH_VALUES if is_true else NUMBERS, np.asarray(numbers, dtype=np.float64))
