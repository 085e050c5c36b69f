"""Files that claim more than they hold, or would take too much time or memory."""

from __future__ import annotations

import gzip
import io
import os
import struct
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from pactl_cli.data.dataset import Dataset
from pactl_cli.data.files import picture_rules
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.reading import Reading
from pactl_cli.data.tables import csv_files, encoding, parquet_files
from pactl_cli.errors import PactlError, reason
from pactl_cli.runs.config_file import LARGEST, config_text, parse_config

TEN = [str(number % 2) for number in range(10)]


def load(name: str, place: Path, **told: Any) -> Dataset:
    return load_dataset(name, place, reading=Reading(**told))


def complaint(name: str, place: Path, **told: Any) -> str:
    with pytest.raises(PactlError) as caught:
        load(name, place, **told)
    assert caught.value.exit_code == 2
    return caught.value.one_line()


def of_csv(tmp_path: Path, content: str | bytes, label: str = "y", **told: Any) -> str:
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return complaint(f"csv:{path}", tmp_path, label=label, **told)


def column(values: list[str]) -> str:
    return "a,y\n" + "".join(f'"{value}",{place % 2}\n' for place, value in enumerate(values))


# --- Arrays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_shape_beyond_all_memory_is_refused_in_words(tmp_path: Path, kind: int) -> None:
    header = repr({"descr": "<f4", "fortran_order": False, "shape": (10, 10**4000)}).encode() + b"\n"
    labels = io.BytesIO()
    np.save(labels, np.arange(10) % 2)
    with zipfile.ZipFile(tmp_path / "t.npz", "w", kind) as archive:
        archive.writestr("x_train.npy", b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header)
        archive.writestr("y_train.npy", labels.getvalue())
    assert "x_train cannot be read: its header claims more numbers" in complaint(f"npz:{tmp_path}/t.npz", tmp_path)


# --- Tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ["1,234.5", "abc", "inf", "1e400", "9" * 400, "0x1f", "1_0"])
def test_number_that_is_none_does_not_make_categories_of_a_column_of_numbers(tmp_path: Path, odd: str) -> None:
    said = of_csv(tmp_path, column([f"{number}.5" for number in range(60)] + [odd]))
    assert 'row 62, column "a" has' in said
    assert odd[:20] in said


@pytest.mark.parametrize("values", [["1,234.5", "2,000"], ["1,5", "2"], ["-1,000,000", "12.5"]])
def test_numbers_with_commas_are_no_categories(tmp_path: Path, values: list[str]) -> None:
    assert "is it a number with a comma?" in of_csv(tmp_path, column(values * 10))


@pytest.mark.parametrize("values", [["0", "1", "2", "3+"], ["1,2", "1,2,3"], [f"id{k}" for k in range(40)]])
def test_categories_that_look_a_little_like_numbers_are_categories(tmp_path: Path, values: list[str]) -> None:
    (tmp_path / "t.csv").write_text(column(values * 10))
    dataset = load(f"csv:{tmp_path}/t.csv", tmp_path, label="y")
    assert dataset.encoding is not None
    assert [known.kind for known in dataset.encoding.fields] == ["categories"]


def test_long_text_of_a_table_is_read_and_a_long_label_is_not_taken_for_a_class(tmp_path: Path) -> None:
    rows = "".join(f"{'word ' * 40_000},{label}\n" for label in TEN)
    (tmp_path / "t.csv").write_text(f"a,y\n{rows}")
    assert len(load(f"csv:{tmp_path}/t.csv", tmp_path, label="y", text="a").train) == 10
    assert 'row 2, column "a" has a label of 199,999 letters' in complaint(f"csv:{tmp_path}/t.csv", tmp_path, label="a")


def test_tables_of_very_many_columns_are_refused_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ",".join(f"c{place}" for place in range(60_000))
    begun = time.process_time()
    assert "row 2 has 1 values" in of_csv(tmp_path, f"{names}\n1\n")
    assert time.process_time() - begun < 5
    monkeypatch.setattr("pactl_cli.data.tables.loading.MOST_COLUMNS", 2)
    assert encoding.MOST_COLUMNS > 2
    assert "has 3 columns beside the labels: at most 2" in of_csv(tmp_path, "a,b,c,y\n1,2,3,0\n1,2,3,1\n")


def test_table_of_many_short_rows_counts_what_each_row_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = gzip.compress(b"a,y\n" + b"1,0\n2,1\n" * 5000)
    monkeypatch.setattr(csv_files, "available_memory", lambda: 3_000_000)
    assert "too large to be read as text" in of_csv(tmp_path, content)
    monkeypatch.setattr(csv_files, "available_memory", lambda: 5_000_000)
    assert len(load(f"csv:{tmp_path}/t.csv", tmp_path, label="y").train) == 10_000


def test_broken_gzip_is_refused_with_its_reason(tmp_path: Path) -> None:
    packed = gzip.compress(b"a,y\n1,0\n2,1\n")
    assert "cannot be read: Not a gzipped file" in of_csv(tmp_path, packed + b"junk")
    assert "cannot be read: Unknown compression method" in of_csv(tmp_path, b"\x1f\x8bjunk" * 9)


def test_reason_of_an_error_without_a_number() -> None:
    assert reason(OSError("all of it")) == "all of it"
    assert reason(FileNotFoundError(2, "No such file", "name")) == "No such file"


def test_text_that_rows_of_parquet_share_is_in_memory_once(tmp_path: Path) -> None:
    word = "x" * 50_000
    rows = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), [word])
    table = pa.table({"a": rows, "y": pa.array(np.arange(20_000) % 2)})
    parquet.write_table(table, tmp_path / "t.parquet", store_schema=False)
    assert parquet.read_schema(tmp_path / "t.parquet").field("a").type == pa.string()
    values = parquet_files.read_parquet(tmp_path / "t.parquet").columns["a"].values
    assert isinstance(values, list)
    assert (len(values), len(set(map(id, values))), values[0]) == (20_000, 1, word)


def test_parquet_of_more_rows_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.write_table(pa.table({"a": np.zeros(100_000), "y": np.arange(100_000) % 2}), tmp_path / "t.parquet")
    monkeypatch.setattr(parquet_files, "available_memory", lambda: 5_000_000)
    assert "more than the available memory" in complaint(f"parquet:{tmp_path}/t.parquet", tmp_path, label="y")


def test_parquet_with_texts_that_are_not_utf_8_is_refused(tmp_path: Path) -> None:
    raw = pa.array([b"\xff"] * 10)
    texts = pa.Array.from_buffers(pa.utf8(), 10, raw.buffers())
    parquet.write_table(pa.table({"a": texts, "y": pa.array(TEN)}), tmp_path / "t.parquet")
    assert 'column "a" has texts that are not UTF-8' in complaint(f"parquet:{tmp_path}/t.parquet", tmp_path, label="y")


# --- Pictures and folders ---------------------------------------------------------------------------------------------


def test_large_pictures_are_changed_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    alpha = Image.fromarray(random.integers(0, 256, (7, 5, 4), np.uint8))
    deep = Image.fromarray(random.integers(0, 65536, (7, 5)).astype(np.uint16))
    deep.info["transparency"] = int(np.asarray(deep)[3, 3])
    whole = [picture_rules.picture(image, mode).tobytes() for image, mode in ((alpha, "RGB"), (deep, "L"))]
    monkeypatch.setattr(picture_rules, "_VALUES_AT_ONCE", 8)
    assert [picture_rules.picture(image, mode).tobytes() for image, mode in ((alpha, "RGB"), (deep, "L"))] == whole


def test_small_file_of_a_large_picture_takes_no_memory_that_it_has_not(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
        )
    assert "cat/0.png is not a readable image" in complaint(f"folder:{tmp_path}", tmp_path, image_size=8)


def test_link_to_itself_among_the_classes_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.txt").write_text(name)
    os.symlink("self", tmp_path / "self")
    assert f"{tmp_path}/self" in complaint(f"folder:{tmp_path}", tmp_path)


def test_settings_that_could_not_be_read_again_are_refused_before_they_are_written(tmp_path: Path) -> None:
    names = [f"class {place:012d}" for place in range(20_000)]
    with pytest.raises(PactlError, match="with the names of all classes"):
        config_text({"class_names": names})
    fitting = {"class_names": names[:10_000]}
    assert len(config_text(fitting)) < LARGEST
    assert parse_config(config_text(fitting).encode(), tmp_path) == fitting
