"""The user's own tables as data sets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

from pactl_cli.data.array_values import Values
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.progress import Progress
from pactl_cli.data.labels import LONGEST_NAME, read_labels
from pactl_cli.data.reading import OF_TEXTS, Reading
from pactl_cli.data.spellings import TEST_PARTS
from pactl_cli.data.tables.columns import CATEGORIES, KINDS, NUMBERS, Column, Part
from pactl_cli.data.tables.csv_files import read_csv
from pactl_cli.data.tables.encoding import MOST_COLUMNS, Encoding, Field, raw_inputs, texts_of
from pactl_cli.data.tables.parquet_files import read_parquet
from pactl_cli.data.texts import text_dataset
from pactl_cli.errors import MissingError, PactlError, names_in_words, quoted

_READERS = {"csv": read_csv, "parquet": read_parquet}
ENDINGS = {"csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"), "parquet": (".parquet",)}
_MANY = 50
"""A column with more categories, most of which occur once, may be a name or a text."""
_LEAST_PRECISION = 1e-3
"""The largest rounding error to single precision without a note, relative to the spread of a column's numbers."""


def load_table(name: str, data_dir: DataDirectory, progress: Progress, *, reading: Reading) -> Dataset:
    """Load the data set `csv:PATH` or `parquet:PATH`: a table, or a directory of the tables `train`, `test` or `val`.

    Its inputs are raw, because categories become numbers only once the calibration examples are known.

    Raises:
        PactlError: if a file cannot be read, or is not a table, or `reading` does not fit it.
    """
    read = _READERS[name.partition(":")[0]]
    parts = [read(path) for path in table_files(name)]
    label = _label(name, parts[0], reading.label)
    _require_same_columns(parts)
    values = [_label_values(part, label) for part in parts]
    labels = read_labels(name, *values, called=(f"column {quoted(label)}",) * 2)
    labels = replace(labels, notes=(*parts[0].notes, *labels.notes))
    if reading.text is not None:
        return text_dataset(name, labels, [text_values(part, reading) for part in parts], reading)
    reading.refuse(f"--dataset {name} has no texts", only=OF_TEXTS)
    given = reading.categories or {}
    own = {name: parts[0].read(name, kind) for name, kind in _kinds(parts[0], label, given).items()}
    fields = tuple(Field(name, str(own[name].kind), given.get(name)) for name in own)
    columns = [own, *({name: part.read(name, own[name].kind) for name in own} for part in parts[1:])]
    if reading.missing == "refuse":
        require_complete(parts, columns)
    texts = texts_of([column for part in columns for column in part.values()])
    encoding = Encoding(fields, reading.missing == "constant", texts)
    rows = [raw_inputs(fields, part) for part in columns]
    train, *tests = (Examples(inputs, numbers) for inputs, numbers in zip(rows, labels.parts, strict=True))
    notes = (*labels.notes, *_notes(columns[0]))
    return Dataset(name, labels.classes, train, tests[0] if tests else None, labels.names, notes, encoding)


def read_table(path: Path) -> Part:
    """Read the table in a file, whose name tells its format.

    Raises:
        PactlError: if it cannot be read.
    """
    return _READERS["parquet" if path.name.endswith(ENDINGS["parquet"]) else "csv"](path)


def count_rows(name: str) -> int:
    """Return the number of training examples of a table.

    Raises:
        PactlError: if it cannot be read.
    """
    return len(_READERS[name.partition(":")[0]](table_files(name)[0]))


def table_files(name: str) -> list[Path]:
    """Return the file of the training set, and that of the test set if there is one.

    Raises:
        MissingError: if a directory has no training set.
    """
    kind, _, path = name.partition(":")
    place = Path(os.path.expanduser(path))
    if not place.is_dir():
        return [place]
    found = [
        next((place / f"{part}{end}" for end in ENDINGS[kind] if (place / f"{part}{end}").exists()), None)
        for part in ("train", *TEST_PARTS)
    ]
    if found[0] is None:
        raise MissingError(f"--dataset {name}: there is no file {place / f'train{ENDINGS[kind][0]}'}")
    return [found[0], *list(filter(None, found[1:]))[:1]]


def _label(name: str, part: Part, label: str | None) -> str:
    """Return the name of the column of labels. Raise PactlError if it is not given or not there."""
    if label in part.columns:
        return str(label)
    there = names_in_words(list(part.columns) if label is None else _nearest_first(label, part.columns))
    said = "which column holds the labels?" if label is None else f"there is no column {quoted(label)}."
    raise PactlError(f"--dataset {name}: {said} There are {there}", "name it: --label COLUMN")


def _nearest_first(name: str, columns: Iterable[str]) -> list[str]:
    """Return columns sorted by the similarity of their names to a name, most similar first."""
    return sorted(columns, key=lambda column: -SequenceMatcher(None, column.lower(), name.lower()).ratio())


def _require_same_columns(parts: list[Part]) -> None:
    """Raise PactlError unless the test set has the columns of the training set, in any order."""
    train = parts[0]
    for part in parts[1:]:
        if alone := train.columns.keys() ^ part.columns.keys():
            lacks, other = (part, train) if min(alone) in train.columns else (train, part)
            raise PactlError(f"{lacks.where} has no column {quoted(min(alone))}, which is in {other.where}")


def _label_values(part: Part, label: str) -> Values:
    """Return the labels as an array of numbers or of strings."""
    column = part.columns[label]
    if column.kind not in (None, CATEGORIES):
        if (missing := column.missing()).size:
            raise PactlError(f"{part.place(int(missing[0]), label)} has no label", "remove the row")
        return np.asarray(column.values) if column.kind == NUMBERS else np.asarray(column.values).astype(bool)
    texts = ["" if text is None else text for text in column.values]
    if "" in texts:
        raise PactlError(f"{part.place(texts.index(''), label)} has no label", "remove the row")
    if len(longest := max(texts, key=len)) > LONGEST_NAME:
        raise PactlError(
            f"{part.place(texts.index(longest), label)} has a label of {len(longest):,} letters",
            "give shorter names; --text names a column of texts",
        )
    is_whole = all(text.lstrip("-").isdecimal() for text in texts)
    if column.kind is None and not is_whole and part.read(label, None).kind == NUMBERS:
        return np.asarray(part.read(label, NUMBERS).values)
    return np.array(texts, dtype=np.str_)


def text_values(part: Part, reading: Reading) -> list[str]:
    """Return the texts of a column. With `--missing constant`, a missing text is empty.

    Raises:
        PactlError: if there is no such column, or it does not hold texts, or a text is missing.
    """
    name = str(reading.text)
    if reading.categories:
        raise PactlError("--categories and --text exclude each other: beside the texts no column is read")
    if name not in part.columns or name == reading.label:
        raise PactlError(
            f"{part.where} has no column {quoted(name)} beside the labels: it has {names_in_words(list(part.columns))}",
            "name the column of texts: --text COLUMN",
        )
    values = part.columns[name].values
    if not isinstance(values, list):
        raise PactlError(f"{part.where}: column {quoted(name)} holds {part.columns[name].kind}, not texts")
    if reading.missing == "refuse" and None in values:
        raise PactlError(f"{part.place(values.index(None), name)} has no text", "--missing constant makes it empty")
    return [value or "" for value in values]


def _kinds(part: Part, label: str, given: Mapping[str, tuple[str, ...]]) -> dict[str, str | None]:
    """Return the kinds of the columns other than the labels, in their order; None if values are to decide.

    Args:
        given: the categories of some columns, which `--categories` lists.

    Raises:
        PactlError: if there are no such columns or too many, or `given` does not fit them.
    """
    names = [name for name in part.columns if name != label]
    if not names:
        raise PactlError(f"{part.where} has only the column {quoted(label)}: there is nothing to learn from")
    if len(names) > MOST_COLUMNS:
        raise PactlError(
            f"{part.where} has {len(names):,} columns beside the labels: at most {MOST_COLUMNS:,} are read"
        )
    for name, values in given.items():
        if name not in names:
            there = names_in_words(_nearest_first(name, names))
            raise PactlError(f"--categories names {quoted(name)}: there are {there}")
        if len(set(values)) < max(len(values), 1):
            raise PactlError(f"--categories has no values for {quoted(name)}, or one of them twice")
    return {name: CATEGORIES if name in given else None for name in names}


def require_complete(parts: Iterable[Part], columns: Iterable[Mapping[str, Column]]) -> None:
    """Raise PactlError if values are missing, and name the first, column by column."""
    for part, named in zip(parts, columns, strict=True):
        for name, column in named.items():
            if (missing := column.missing()).size:
                among = f"the first of {len(missing):,}" if len(missing) > 1 else "the only one"
                raise PactlError(
                    f"{part.place(int(missing[0]), name)} has no value, {among} there",
                    "fill it in, or let --missing constant mark it",
                )


def _notes(columns: Mapping[str, Column]) -> Iterable[str]:
    """Yield sentences that tell the user how the columns were interpreted."""
    counts = {kind: [name for name, column in columns.items() if column.kind == kind] for kind in KINDS}
    said = [f"{len(names):,} of {kind}" for kind, names in counts.items() if names]
    names = f" ({names_in_words(counts[CATEGORIES])})" if counts[CATEGORIES] else ""
    yield f"its columns are {', '.join(said)}{names}"
    for name, column in columns.items():
        if isinstance(column.values, list):
            if len(set(column.values)) > max(_MANY, len(column.values) / 2):
                yield f"most values of column {quoted(name)} occur once: is it a name or a text (--text)?"
        else:
            values = column.values[~np.isnan(column.values)]
            error = np.abs(values - values.astype(np.float32)).max(initial=0)
            if error > _LEAST_PRECISION * (values.std() if len(values) else 0):
                yield (
                    f"the numbers of column {quoted(name)} differ by less than single precision resolves: subtract a "
                    "constant that does not depend on the data"
                )
