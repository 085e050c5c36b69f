"""Tables as users have them: what is read, the kind of each column, and clear errors for the rest."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from pactl_cli.data.dataset import Dataset
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.reading import Reading
from pactl_cli.data.tables import parquet_files
from pactl_cli.data.tables.loading import count_rows
from pactl_cli.errors import MissingError, PactlError

PEOPLE = "age,member,town,y\n31,true,Bonn,yes\n44.5,false,Ulm,no\n18,TRUE,Bonn,yes\n70,False,Köln,no\n"


def load(path: Path, label: str | None = "y", **told: Any) -> Dataset:
    kind = "parquet" if path.suffix == ".parquet" or (path / "train.parquet").exists() else "csv"
    return load_dataset(f"{kind}:{path}", path.parent, reading=Reading(label=label, **told))


def kinds(dataset: Dataset) -> dict[str, str]:
    assert dataset.encoding is not None
    return {known.name: known.kind for known in dataset.encoding.fields}


def features(dataset: Dataset, rows: slice = slice(None)) -> list[list[float]]:
    """Return the features of a data set whose calibration examples are some of its rows."""
    assert dataset.encoding is not None
    examples = dataset.train[torch.arange(len(dataset.train))[rows]]
    found = dataset.encoded(dataset.encoding.calibrated(examples.resident().inputs)).train.resident().inputs
    assert isinstance(found, torch.Tensor)
    return found.tolist()


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    def write(content: str | bytes = PEOPLE, name: str = "people.csv") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def complaint(path: Path, label: str | None = "y", **told: Any) -> str:
    with pytest.raises(PactlError) as caught:
        load(path, label, **told)
    return caught.value.one_line()


# --- What is read -----------------------------------------------------------------------------------------------------


def test_columns_are_numbers_truth_values_and_categories(table: Callable[..., Path]) -> None:
    people = load(table())
    assert kinds(people) == {"age": "numbers", "member": "truth values", "town": "categories"}
    assert (people.classes, people.class_names, people.train.labels.tolist()) == (2, ("no", "yes"), [1, 0, 1, 0])
    assert people.notes == ("its columns are 1 of numbers, 1 of truth values, 1 of categories (town)",)
    assert features(people) == [[31, 1, 1, 0, 0], [44.5, 0, 0, 0, 1], [18, 1, 1, 0, 0], [70, 0, 0, 1, 0]]
    assert features(people, slice(2)) == [[31, 1, 1, 0], [44.5, 0, 0, 1], [18, 1, 1, 0], [70, 0, 0, 0]]


def test_a_column_of_texts_or_of_names_is_pointed_out(table: Callable[..., Path]) -> None:
    rows = [f"{number},customer {number},{'ab'[number % 2]},{'no' if number % 3 else 'yes'}" for number in range(60)]
    [_, said] = load(table("\n".join(["age,who,plan,y", *rows]))).notes
    assert said.startswith('most values of column "who" occur once: ')
    assert "--text" in said


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (PEOPLE.encode("utf-8-sig"), "marked.csv"),
        (gzip.compress(PEOPLE.encode(), mtime=0), "packed.csv.gz"),
        (PEOPLE.replace(",", ";"), "semicolons.csv"),
        (PEOPLE.replace(",", "\t"), "tabs.tsv"),
        (PEOPLE.replace(",", "\t"), "tabs.csv"),
        (PEOPLE.replace(",", " , ").replace("\n", "\r\n\r\n"), "spaces.csv"),
        (PEOPLE.replace("Bonn", '"Bonn"').replace("age", '"age"'), "quoted.csv"),
    ],
)
def test_the_same_table_in_other_files(table: Callable[..., Path], content: str | bytes, name: str) -> None:
    people, other = load(table()), load(table(content, name))
    assert other.train.sha256() == people.train.sha256()
    assert features(other) == features(people)
    said = [note for note in other.notes if "separated" in note]
    assert said == ([f"its columns are separated by {name[:-4]}"] if name in ("semicolons.csv", "tabs.csv") else [])


def test_a_parquet_file_says_what_its_columns_hold(tmp_path: Path, table: Callable[..., Path]) -> None:
    columns = {
        "age": pa.array([31, 44.5, 18, 70]),
        "member": pa.array([True, False, True, False]),
        "town": pa.array(["Bonn", "Ulm", "Bonn", "Köln"]).dictionary_encode(),
        "y": ["yes", "no", "yes", "no"],
    }
    parquet.write_table(pa.table(columns), tmp_path / "people.parquet")
    people = load(tmp_path / "people.parquet")
    assert people.train.sha256() == load(table()).train.sha256()
    assert features(people) == features(load(table()))
    written = pa.table({"zip": ["01", "02"], "whole": pa.array([1, None], pa.int16()), "y": [False, True]})
    parquet.write_table(written, tmp_path / "other.parquet")
    other = load(tmp_path / "other.parquet", missing="constant")
    assert kinds(other) == {"zip": "categories", "whole": "numbers"}
    assert (other.class_names, features(other)) == (("False", "True"), [[1, 0, 1, 0], [0, 1, 0, 1]])


def test_a_directory_has_a_training_and_a_test_set_whose_columns_may_be_in_another_order(
    table: Callable[..., Path],
) -> None:
    table(PEOPLE, "both/train.csv")
    both = load(table("town,y,age,member\nAachen,no,3,false\n", "both/val.csv").parent)
    assert both.test is not None
    assert both.encoding is not None
    assert both.test.labels.tolist() == [0]
    assert both.encoded(both.encoding.calibrated(both.train.resident().inputs)).test.resident().inputs.tolist() == [  # type: ignore[union-attr]
        [3, 0, 0, 0, 0]
    ]
    table("town,y,age,member\nAachen,no,old,false\n", "both/test.csv")
    assert 'test.csv: row 2, column "age" has "old", but the training set has numbers there' in complaint(
        both_path(both)
    )
    table("town,y,age\nAachen,no,3\n", "both/test.csv")
    assert 'test.csv has no column "member", which is in' in complaint(both_path(both))
    with pytest.raises(MissingError, match=r"there is no file .*train\.csv"):
        load(table("", "none/other.csv").parent)


def both_path(dataset: Dataset) -> Path:
    return Path(dataset.name.partition(":")[2])


def test_labels_of_numbers_and_of_names(table: Callable[..., Path]) -> None:
    for column, names, numbers in (
        ("0 1 1", None, [0, 1, 1]),
        ("1.0 0.0 1.0", None, [1, 0, 1]),
        ("2 1 2", ("1", "2"), [1, 0, 1]),
        ("b a b", ("a", "b"), [1, 0, 1]),
        ("True False True", ("False", "True"), [1, 0, 1]),
    ):
        rows = "".join(f"1,{label}\n" for label in column.split())
        found = load(table(f"x,y\n{rows}"))
        assert (found.class_names, found.train.labels.tolist()) == (names, numbers)


def test_given_categories_are_taken_as_they_are(table: Callable[..., Path]) -> None:
    path = table("zip,x,y\n01,a,0\n1,b,1\n02,a,1\n")
    given = {"zip": ("02", "01"), "x": ("b",)}
    assert features(load(path, categories=given), slice(0)) == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert 'names "zap": there are zip, x' in complaint(path, categories={"zap": ("a",)})
    assert 'no values for "x", or one of them twice' in complaint(path, categories={"x": ("a", "a")})


def test_missing_values_are_refused_by_name_or_marked(table: Callable[..., Path]) -> None:
    path = table("n,m,c,y\n1,5,a,0\nNA,6,,1\n3,?,b,1\n")
    assert 'row 3, column "n" has no value, the only one there (fill it in, or let --missing constant' in complaint(
        path
    )
    found = features(load(path, missing="constant"))
    assert found == [[1, 0, 5, 0, 1, 0], [0, 1, 6, 0, 0, 0], [3, 0, 0, 1, 0, 1]]
    assert len(features(load(table("n,y\n1,0\n2,1\n"), missing="constant"))[0]) == 2


def test_rows_are_counted_without_a_label(table: Callable[..., Path]) -> None:
    assert count_rows(f"csv:{table()}") == 4


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty (its first row has the names"),
        ("\n\n", "is empty"),
        ("x,y\n", "has no rows below the names"),
        ("x,x,y\n1,2,0\n", 'two columns with the name "x"'),
        (",x,y\n0,1,0\n", "column 1 has no name (name it in the first row; if pandas wrote its index"),
        ("x,y\n1,0\n2,3,1\n", "row 3 has 3 values, but the first row names 2 columns"),
        ("x,y\n1\n", "row 2 has 1 values"),
        ("y\n0\n1\n", 'has only the column "y"'),
        ("x,y\n1,0\n2,\n", 'row 3, column "y" has no label'),
        ("x,y\n1,0\n1e300,1\n", 'row 3, column "x" has 1e+300, too large for single precision'),
        ("x;y\n1,5;0\n2,5;1\n", 'row 2, column "x" has "1,5": is it a number with a comma?'),
        (b"x,y\na,0\nK\xf6ln,1\n", 'row 3, column "x" is not UTF-8 (save it as UTF-8'),
        (b"\xf6,y\na,0\n", "the name of column"),
        ("x,y\n1,0\n".encode("utf-16"), "UTF-16: save it as UTF-8"),
        (b"x,y\n\0,0\n", "it is not text: it has zero bytes"),
        ('x,y\n"a"b,0\n', "line 2: "),
        ("sep=;\nx;y\n1;0\n2;1\n", 'its first row, "sep=", is for Excel alone (delete this row)'),
        ('x\ty\n"a\t1\nb\t0\nc"\t1\nd\t0\n', "row 2 has a value of 3 lines that look like rows"),
        (gzip.compress(b"x,y\n1,0\n", mtime=0)[:-9], "cannot be read"),
        ("x,y\n1,0\n2,0\n", "a single class"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(table: Callable[..., Path], content: str | bytes, says: str) -> None:
    assert says in complaint(table(content))


def test_the_columns_that_there_are_are_named_the_nearest_first(table: Callable[..., Path]) -> None:
    assert "which column holds the labels? There are age, member, town, y (name it: --label" in complaint(table(), None)
    assert 'there is no column "Towm". There are town, ' in complaint(table(), "Towm")
    assert "no such file" in complaint(table().with_name("absent.csv"))


def test_a_column_that_single_precision_does_not_tell_apart_is_said(table: Callable[..., Path]) -> None:
    rows = "".join(f"{1_700_000_000 + place},{place},{place % 2}\n" for place in range(9))
    (note,) = [note for note in load(table(f"time,x,y\n{rows}")).notes if "single" in note]
    assert note.startswith('the numbers of column "time" differ by less than single precision resolves')


def test_a_first_row_may_go_on_for_several_lines(table: Callable[..., Path]) -> None:
    found = load(table('"x, in\nkg, or so";y\n1;0\n2;1\n'))
    assert (kinds(found), len(found.train)) == ({"x, in\nkg, or so": "numbers"}, 2)


def test_texts_with_tabs_or_with_line_breaks_are_no_rows(table: Callable[..., Path]) -> None:
    found = load(table('x\ty\n"a\nb"\t1\n"a\tb"\t0\n"a\tb\tc\nd"\t1\n', "texts.tsv"))
    assert len(found.train) == 3


@pytest.mark.parametrize("name", ["val", "valid", "validation", "testing"])
def test_a_test_set_has_one_of_several_names(table: Callable[..., Path], name: str) -> None:
    table(PEOPLE, "all/train.csv")
    assert load(table(PEOPLE, f"all/{name}.csv").parent).test is not None


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array([1, 2], pa.timestamp("ms")), 'column "x" holds timestamp[ms], not numbers or texts'),
        (pa.array([[1], [2]]), "list"),
        (pa.array([1.0, np.inf]), "an infinite value"),
    ],
)
def test_a_parquet_column_of_another_kind_is_refused(tmp_path: Path, column: Any, says: str) -> None:
    parquet.write_table(pa.table({"x": column, "y": [0, 1]}), tmp_path / "odd.parquet")
    assert says in complaint(tmp_path / "odd.parquet")


def test_odd_parquet_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "odd.parquet"
    path.write_bytes(b"PAR1 and nothing more")
    assert "cannot be read: it is not a parquet file, or is truncated or altered" in complaint(path)
    parquet.write_table(pa.table({"x": [1, 2], "__index_level_0__": [0, 1], "y": [0, 1]}), path)
    assert "index that pandas wrote" in complaint(path)
    named = pa.table({"x": [1, 2], "id": [7, 8], "y": [0, 1]})
    for told, refused in (
        ('{"index_columns": ["id"]}', True),
        ("[]", False),
        ("{", False),
        ('{"index_columns": 3}', False),
    ):
        parquet.write_table(named.replace_schema_metadata({"pandas": told}), path)
        assert ('the column "id", which is an index' in complaint(path)) if refused else (len(load(path).train) == 2)
    parquet.write_table(pa.table({"x": [1, 2], "y": pa.array([0, None])}), path)
    assert 'row 2, column "y" has no label' in complaint(path)
    parquet.write_table(pa.table({"x": [], "y": []}), path)
    assert "has no rows" in complaint(path)
    parquet.write_table(pa.table({"x": [1, 2], "y": [0, 1]}), path)
    monkeypatch.setattr(parquet_files, "available_memory", lambda: 1)
    assert "more than the available memory" in complaint(path)


def test_without_pyarrow_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"")
    assert "needs pyarrow, which is not installed (pip install 'pactl[table]')" in complaint(tmp_path / "x.parquet")
