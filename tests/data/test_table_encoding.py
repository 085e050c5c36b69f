"""A row of a table becomes numbers that depend only on the row, and on calibration examples or given categories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pactl_cli.data.dataset import Dataset
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.reading import Reading
from pactl_cli.data.tables.encoding import Encoding, Field
from pactl_cli.errors import PactlError

ROWS = [["1.5", "red", "true"], ["2", "blue", "false"], ["", "green", "true"], ["4", "", ""], ["5", "red", "false"]]


def write(path: Path, rows: list[list[str]], names: str = "size,colour,new") -> Dataset:
    lines = [f"{','.join(row)},{place % 2}" for place, row in enumerate(rows)]
    path.write_text("\n".join([f"{names},y", *lines]))
    return load_dataset(f"csv:{path}", path.parent, reading=Reading(label="y", missing="constant"))


def encoding_of(dataset: Dataset, calibration: list[int]) -> Encoding:
    assert dataset.encoding is not None
    return dataset.encoding.calibrated(dataset.train[torch.tensor(calibration, dtype=torch.int64)].resident().inputs)


def rows_of(dataset: Dataset, calibration: list[int]) -> torch.Tensor:
    encoded = dataset.encoded(encoding_of(dataset, calibration)).train.resident().inputs
    assert isinstance(encoded, torch.Tensor)
    return encoded


@pytest.mark.parametrize("changed", [2, 3, 4])
@pytest.mark.parametrize(("column", "value"), [(0, "-9e9"), (0, ""), (1, "violet"), (1, "blue"), (2, "")])
def test_a_value_outside_calibration_changes_its_own_row_alone(
    tmp_path: Path, changed: int, column: int, value: str
) -> None:
    calibration, others = [0, 1], [row for row in range(len(ROWS)) if row != changed]
    before = rows_of(write(tmp_path / "a.csv", ROWS), calibration)
    rows = [list(row) for row in ROWS]
    rows[changed][column] = value
    after = rows_of(write(tmp_path / "b.csv", rows), calibration)
    assert after[others].numpy().tobytes() == before[others].numpy().tobytes()


def test_a_calibration_examples_category_does_change_other_rows(tmp_path: Path) -> None:
    rows = [list(row) for row in ROWS]
    rows[0][1] = "green"
    before, after = rows_of(write(tmp_path / "a.csv", ROWS), [0, 1]), rows_of(write(tmp_path / "b.csv", rows), [0, 1])
    assert before[2].tolist() != after[2].tolist()


def test_the_categories_are_those_of_calibration_examples_in_order(tmp_path: Path) -> None:
    dataset = write(tmp_path / "a.csv", ROWS)
    assert encoding_of(dataset, [0, 1, 3, 4]).fields[1] == Field("colour", "categories", ("blue", "red"))
    assert encoding_of(dataset, [4, 3, 1, 0]) == encoding_of(dataset, [0, 1, 3, 4])
    with pytest.raises(PactlError, match=r'categories of column "colour" are those of calibration examples, and there'):
        encoding_of(dataset, [])


def test_the_fingerprint_is_of_names_and_raw_values(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", ROWS).train.sha256()
    assert write(tmp_path / "b.csv", [list(row) for row in ROWS]).train.sha256() == first
    assert write(tmp_path / "c.csv", ROWS, "length,colour,new").train.sha256() != first
    for row, column, value in ((0, 0, "1.25"), (4, 1, "rose"), (2, 0, "0"), (3, 1, "red")):
        rows = [list(row) for row in ROWS]
        rows[row][column] = value
        assert write(tmp_path / "d.csv", rows).train.sha256() != first


def test_an_encoding_comes_back_from_json_and_a_strangers_is_checked(tmp_path: Path) -> None:
    encoding = encoding_of(write(tmp_path / "a.csv", ROWS), [0, 1])
    plain = json.loads(json.dumps(encoding.as_dict()))
    assert Encoding.from_dict(plain) == encoding
    field: dict[str, Any] = plain["fields"][1]
    for wrong in (
        {"kind": "pictures"},
        {"name": 3},
        {"categories": [1]},
        {"kind": "numbers"},
        {"name": "size"},
        {"unknown": 1},
    ):
        with pytest.raises((TypeError, ValueError)):
            Encoding.from_dict(plain | {"fields": [*plain["fields"][:1], field | wrong, *plain["fields"][2:]]})


def test_what_keeps_two_tables_apart_is_said(tmp_path: Path) -> None:
    own = write(tmp_path / "a.csv", ROWS).encoding
    assert own is not None
    source = encoding_of(write(tmp_path / "a.csv", ROWS), [0, 1])
    assert own.difference(source) == ""
    assert encoding_of(write(tmp_path / "a.csv", ROWS), [0, 2]).difference(source).startswith("the categories of")
    renamed = write(tmp_path / "b.csv", ROWS, "length,colour,new").encoding
    assert renamed is not None
    assert renamed.difference(source) == 'the column "length" is in one of the tables only'
    assert Encoding(own.fields).difference(source).startswith("missing values are refused")
    other = Encoding((Field("size", "truth values"), *own.fields[1:]), fills=True)
    assert 'the column "size" holds truth values in one table and numbers in the other' in other.difference(source)


def test_columns_are_found_by_name_in_whatever_order(tmp_path: Path) -> None:
    source = encoding_of(write(tmp_path / "a.csv", ROWS), [0, 1])
    turned = write(tmp_path / "b.csv", [[row[1], row[2], row[0]] for row in ROWS], "colour,new,size")
    there = turned.encoded(source).train.resident().inputs
    assert isinstance(there, torch.Tensor)
    assert np.array_equal(there, rows_of(write(tmp_path / "a.csv", ROWS), [0, 1]))
