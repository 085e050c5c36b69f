"""Tables in text files, separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import gzip
import zlib
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import IO, cast

from pactl_cli.data.files.capacity import available_memory
from pactl_cli.data.files.checked_files import open_file
from pactl_cli.data.tables.columns import Column, Part
from pactl_cli.errors import MissingError, PactlError, quoted, reason

_MEMORY_FOR_EACH_BYTE, _MEMORY_FOR_EACH_ROW, _MEMORY_FOR_EACH_VALUE = 16, 256, 72
_LONGEST_VALUE = 1 << 24
"""Limit in characters, the same as for a text in its own file. Python's default limit, for all users, is 131,072."""
_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}

_Rows = list[tuple[int, list[str]]]


def read_csv(path: Path) -> Part:
    """Read the table of a file, which may be gzipped and whose first row names the columns.

    Space around values is removed, and blank lines are ignored.

    Raises:
        MissingError: if there is no such file.
        PactlError: if it cannot be read, is not UTF-8, is too large for memory, or is not a table.
    """
    try:
        with open_file(path) as file:
            content = _content(file, path)
        text, is_whole = _decoded(content)
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_VALUE))
        separator = "\t" if ".tsv" in path.suffixes else _separator(text)
        reader = csv.reader(StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
        rows = [(number, [value.strip() for value in row]) for number, row in enumerate(reader, 1) if row]
    except FileNotFoundError as error:
        raise MissingError(f"{path} cannot be read: there is no such file") from error
    except csv.Error as error:
        raise PactlError(f"{path} cannot be read: line {reader.line_num:,}: {error}", "correct the line") from error
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise PactlError(f"{path} cannot be read: {reason(error)}") from error
    part = _part(path, rows)
    if separator == "\t":
        _refuse_swallowed_rows(path, rows)
    if not is_whole:
        _refuse_foreign_text(part)
    is_usual = separator == "," or path.name.endswith((".tsv", ".tsv.gz"))
    return part if is_usual else replace(part, notes=(f"its columns are separated by {_SEPARATORS[separator]}",))


def _content(file: IO[bytes], path: Path) -> bytes:
    """Return the content of a file, decompressed if it is gzipped."""
    is_packed = file.read(2) == _GZIP
    file.seek(0)
    stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if is_packed else file
    most, pieces, size = available_memory() // _MEMORY_FOR_EACH_BYTE, [], 0
    while piece := stream.read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise _too_large(path)
    content = b"".join(pieces)
    rows, values = (max(map(content.count, kinds)) for kinds in ((b"\n", b"\r"), map(str.encode, _SEPARATORS)))
    if _MEMORY_FOR_EACH_ROW * rows + _MEMORY_FOR_EACH_VALUE * values > available_memory():
        raise _too_large(path)
    return content


def _too_large(path: Path) -> PactlError:
    return PactlError(f"{path} is too large to be read as text in the memory that is available", "write it as parquet")


def _decoded(content: bytes) -> tuple[str, bool]:
    """Return the text, and whether all of it is valid UTF-8."""
    if content.startswith(_UTF16):
        raise ValueError("it is in UTF-16: save it as UTF-8")
    if b"\0" in content:
        raise ValueError("it is not text: it has zero bytes; unpack it, or save it as CSV in UTF-8")
    try:
        return content.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        return content.decode("utf-8-sig", "surrogateescape"), False


def _separator(text: str) -> str:
    """Return the separator that divides the first row, which may have line breaks in quotation marks, most often."""

    def count(separator: str) -> int:
        rows = csv.reader(StringIO(text[:_LONGEST_VALUE], newline=""), delimiter=separator, skipinitialspace=True)
        return len(next((row for row in rows if any(map(str.strip, row))), ()))

    return max(_SEPARATORS, key=count)


def _part(path: Path, rows: _Rows) -> Part:
    """Return rows as a table.

    Raises:
        PactlError: if they do not form a table.
    """
    if not rows:
        raise PactlError(f"{path} is empty", "its first row has the names of the columns")
    (_, names), *body = rows
    seen: set[str] = set()
    for place, name in enumerate(names, 1):
        if not name:
            if names[0].lower().startswith("sep="):
                raise PactlError(f"{path}: its first row, {quoted(names[0])}, is for Excel alone", "delete this row")
            raise PactlError(
                f"{path}: column {place:,} has no name",
                "name it in the first row; if pandas wrote its index there: to_csv(PATH, index=False)",
            )
        if name in seen:
            raise PactlError(f"{path} has two columns with the name {quoted(name)}", "give each a name of its own")
        seen.add(name)
    for number, row in body:
        if len(row) != len(names):
            raise PactlError(
                f"{path}: row {number:,} has {len(row):,} values, but the first row names {len(names):,} columns",
                "put quotation marks around values that contain a separator",
            )
    if not body:
        raise PactlError(f"{path} has no rows below the names of its columns")
    columns = zip(*(row for _, row in body), strict=True)
    named = {name: Column(None, list(column)) for name, column in zip(names, columns, strict=True)}
    return Part(str(path), named, [number for number, _ in body])


def _refuse_swallowed_rows(path: Path, rows: _Rows) -> None:
    """Raise PactlError if a value has the tabs and line breaks of whole rows: its quotation mark was left open.

    Many programs write tabs without quotation marks, so that one at the start of a text is a letter.
    """
    for number, row in rows:
        for value in row:
            breaks = value.count("\n")
            if 0 < breaks * (len(row) - 1) == value.count("\t"):
                raise PactlError(
                    f"{path}: row {number:,} has a value of {breaks + 1:,} lines that look like rows",
                    "if a value begins with a quotation mark, double all in it, and put it in quotation marks",
                )


def _refuse_foreign_text(part: Part) -> None:
    """Raise PactlError naming the first value that is not UTF-8."""
    hint = "save it as UTF-8; in a spreadsheet: CSV UTF-8"
    for name in part.columns:
        if not _is_text(name):
            raise PactlError(f"{part.where}: the name of column {quoted(name)} is not UTF-8", hint)
    for row in range(len(part)):
        for name, column in part.columns.items():
            if not _is_text(str(column.values[row])):
                raise PactlError(f"{part.place(row, name)} is not UTF-8", hint)


def _is_text(value: str) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in value)
