"""Texts become tokens, counts, or tokens with a mask, the same whether they fit into memory or not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from hashlib import blake2b, sha256
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pactl_cli.data import texts as texts_module
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files import tokenizing
from pactl_cli.data.files.tokenizing import Tokenizer
from pactl_cli.data.labels import Labels
from pactl_cli.data.lazy_examples import LazyExamples
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.reading import Reading
from pactl_cli.data.texts import text_dataset
from pactl_cli.errors import MissingError, PactlError

TEXTS = ["ab", "é", "", "abcdef"]
WORDS = {"[UNK]": 0, "good": 1, "bad": 2, "film": 3}


def folder(root: Path, texts: dict[str, str | bytes]) -> str:
    """Write files with these contents, and return the data set's name."""
    for place, text in texts.items():
        path = root / "texts" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return f"folder:{root / 'texts'}"


REVIEWS: dict[str, str | bytes] = {
    "train/bad/1.txt": "bad film",
    "train/bad/2.txt": "bad",
    "train/good/1.TXT": "good film, good",
    "train/good/notes.md": "no text",
    "test/bad/1.txt": "bad bad",
    "test/good/1.txt": "good",
}


def written(path: Path, **changes: Any) -> str:
    """Write a tokenizer's file that splits at spaces, with some parts replaced, and return its path."""
    content: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": WORDS, "unk_token": "[UNK]"},
    }
    path.write_text(json.dumps(content | changes))
    return str(path)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Dataset]:
    def call(name: str, **reading: Any) -> Dataset:
        return load_dataset(name, tmp_path / "data", reading=Reading(**reading))

    return call


def made(reading: Reading) -> Dataset:
    """Return a data set of the texts above, two in each class, in both parts."""
    labels = Labels(2, torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1, 0, 1]), None)
    return text_dataset("folder:x", labels, [TEXTS, TEXTS[::-1]], reading)


def inputs(dataset: Dataset) -> Tensor:
    found = dataset.train.resident().inputs
    assert isinstance(found, Tensor)
    return found


def test_padded_bytes_are_their_numbers_and_one() -> None:
    dataset = made(Reading(sequence_length=4))
    assert inputs(dataset).tolist() == [[98, 99, 0, 0], [0xC4, 0xAA, 0, 0], [0, 0, 0, 0], [98, 99, 100, 101]]
    assert dataset.spec.vocabulary == 257
    assert str(dataset.spec) == "sequences of 4 integers"
    assert dataset.notes == (
        "2 of 8 texts are longer than 4 bytes and are cut: --sequence-length N reads more",
        "2 of 8 texts are empty: they are kept",
    )


def test_words_have_numbers_by_their_hashes_whatever_their_case() -> None:
    """The numbers define the inputs, so they must never change."""
    tokens = Tokenizer.named("words").split(["The film, THE film!", "", "naïve 1_2"], length=4)
    the, film, comma = 7794, 2386, 1279
    assert tokens.ids[:4].tolist() == [the, film, comma, the]
    assert tokens.ends.tolist() == [4, 4, 6]
    assert (tokens.vocabulary, tokens.cut) == (8192, 1)
    assert tokens.ids[0] == int.from_bytes(blake2b(b"the", digest_size=4).digest(), "little") % 8192
    assert Tokenizer.named("words").sha256 is None


def test_bagged_bytes_are_roots_of_their_shares() -> None:
    counts = inputs(made(Reading(sequence_length=4, text_form="bagged")))
    assert counts.shape == (4, 256)
    assert counts.dtype == torch.float32
    assert counts[0].nonzero().flatten().tolist() == [97, 98]
    assert counts[0, 97].item() == pytest.approx(16 * sqrt(1 / 2))
    assert counts[3, 97:101].tolist() == [8.0] * 4
    assert not counts[2].any()


def test_masked_bytes_are_a_mapping() -> None:
    found = made(Reading(sequence_length=3, text_form="masked")).train.resident().inputs
    assert isinstance(found, dict)
    assert found["input_ids"].tolist() == [[97, 98, 0], [0xC3, 0xA9, 0], [0, 0, 0], [97, 98, 99]]
    assert found["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert {tensor.dtype for tensor in found.values()} == {torch.int64}


@pytest.mark.parametrize("form", ["padded", "bagged"])
def test_what_does_not_fit_into_memory_is_the_same_data(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    reading = Reading(sequence_length=4, text_form=form)
    resident = made(reading)
    monkeypatch.setattr(texts_module, "available_memory", lambda: 0)
    by_batch = made(reading)
    assert isinstance(resident.train, Examples)
    assert isinstance(by_batch.train, LazyExamples)
    assert by_batch.test is not None
    assert resident.test is not None
    assert by_batch.spec == resident.spec == by_batch.test.spec
    assert by_batch.train.sha256() == resident.train.sha256()
    assert by_batch.test.sha256() == resident.test.sha256() != resident.train.sha256()
    batch = next(by_batch.train.batches([torch.tensor([3, 0])])).inputs
    assert isinstance(batch, Tensor)
    assert torch.equal(batch, inputs(resident)[[3, 0]])
    assert by_batch.train.resident().spec == resident.spec


def test_a_mapping_that_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts_module, "available_memory", lambda: 0)
    with pytest.raises(PactlError, match="4 texts of 4 tokens with their masks do not fit into memory"):
        made(Reading(sequence_length=4, text_form="masked"))


def test_a_folder_of_texts_is_read_by_class(tmp_path: Path, read: Callable[..., Dataset]) -> None:
    dataset = read(folder(tmp_path, REVIEWS), sequence_length=8)
    assert dataset.class_names == ("bad", "good")
    assert dataset.train.labels.tolist() == [0, 0, 1]
    assert bytes((inputs(dataset)[1] - 1)[:3].tolist()) == b"bad"
    assert dataset.test is not None
    assert dataset.test.labels.tolist() == [0, 1]
    assert dataset.tokenizer_sha256 is None


def test_a_column_of_a_table_is_the_same_texts(tmp_path: Path, read: Callable[..., Dataset]) -> None:
    files = read(folder(tmp_path, REVIEWS), sequence_length=8)
    (tmp_path / "table").mkdir()
    for part, rows in {
        "train": 'bad film,bad\nbad,bad\n"good film, good",good\n',
        "test": "bad bad,bad\ngood,good\n",
    }.items():
        (tmp_path / "table" / f"{part}.csv").write_text(f"review,verdict\n{rows}")
    table = read(f"csv:{tmp_path / 'table'}", label="verdict", text="review", sequence_length=8)
    assert table.test is not None
    assert files.test is not None
    assert (table.train.sha256(), table.test.sha256()) == (files.train.sha256(), files.test.sha256())
    assert (table.class_names, table.encoding) == (files.class_names, None)


@pytest.mark.parametrize(
    ("reading", "complaint"),
    [
        ({"text": "reviews"}, 'has no column "reviews" beside the labels: it has review, verdict, stars'),
        ({"text": "verdict"}, 'has no column "verdict" beside the labels'),
        ({"text": "stars"}, 'column "stars" holds numbers, not texts'),
        ({"text": "review"}, 'row 2, column "review" has no text'),
        ({"text": "review", "categories": {"stars": ("1",)}}, "--categories and --text exclude each other"),
        ({"sequence_length": 8}, "--sequence-length 8: --dataset parquet:.* has no texts"),
    ],
)
def test_a_column_that_holds_no_texts(
    tmp_path: Path, read: Callable[..., Dataset], reading: dict[str, Any], complaint: str
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    columns = {"review": ["bad", None, "good"], "verdict": ["no", "no", "yes"], "stars": [1, 2, 5]}
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    with pytest.raises(PactlError, match=complaint):
        read(f"parquet:{tmp_path / 'x.parquet'}", label="verdict", **reading)
    table = read(f"parquet:{tmp_path / 'x.parquet'}", label="verdict", text="review", missing="constant")
    assert int((inputs(table)[1] > 0).sum()) == 0


def test_a_folder_without_a_test_part(tmp_path: Path, read: Callable[..., Dataset]) -> None:
    name = folder(tmp_path, {place: text for place, text in REVIEWS.items() if place.startswith("train")})
    assert read(name).test is None


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path, read: Callable[..., Dataset]) -> None:
    name = folder(tmp_path, REVIEWS | {"train/bad/1.txt": b"\xef\xbb\xbfbad film"})
    assert bytes((inputs(read(name, sequence_length=3))[0] - 1).tolist()) == b"bad"


@pytest.mark.parametrize(
    ("changed", "reading", "says"),
    [
        ({"train/bad/2.txt": "café".encode("latin1")}, {}, "bad/2.txt is not UTF-8: byte 0xe9 at place 3"),
        ({"train/bad/2.txt": b"\xff\xfeb\x00"}, {}, "bad/2.txt is not UTF-8: byte 0xff at place 0"),
        ({"train/empty/x.md": ""}, {}, "empty"),
        ({"test/other/1.txt": "x"}, {}, "has classes that the training set lacks: other"),
        ({}, {"image_size": 32}, "--image-size 32: --dataset folder:.* has texts"),
        ({}, {"text": "review"}, "--text review: it has no meaning"),
        ({}, {"tokenizer": "absent.json"}, "--tokenizer absent.json: there is no such file"),
        ({}, {"tokenizer": "/dev/null"}, "--tokenizer /dev/null cannot be read: it is not a plain file"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path,
    read: Callable[..., Dataset],
    changed: dict[str, str | bytes],
    reading: dict[str, Any],
    says: str,
) -> None:
    with pytest.raises(PactlError, match=says):
        read(folder(tmp_path, REVIEWS | changed), **reading)


def test_a_text_that_is_larger_than_any_is_named(
    tmp_path: Path, read: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts_module, "_LARGEST_TEXT", 8)
    with pytest.raises(PactlError, match=r"good/1.TXT has more than .* MB"):
        read(folder(tmp_path, REVIEWS))


def test_images_win_over_texts_which_are_said(tmp_path: Path, read: Callable[..., Dataset]) -> None:
    from PIL import Image

    name = folder(tmp_path, REVIEWS)
    for part in ("train/bad", "train/good", "test/bad", "test/good"):
        Image.new("L", (8, 8), 7).save(tmp_path / "texts" / part / "1.png")
    dataset = read(name)
    assert dataset.spec.kind == "image"
    assert dataset.notes[-1] == "3 text files beside the images are not read"
    with pytest.raises(PactlError, match=r"--text-form bagged: --dataset .* has no texts"):
        read(name, text_form="bagged")


# --- A tokenizer's file -----------------------------------------------------------------------------------------------


def test_a_folder_is_read_by_words(read: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = read(folder(tmp_path, REVIEWS), tokenizer="words", sequence_length=3)
    assert inputs(dataset)[2].tolist() == [697, 2387, 1280]
    assert dataset.notes == ("1 of 5 texts are longer than 3 words and are cut: --sequence-length N reads more",)


def test_a_tokenizer_gives_its_own_ids(tmp_path: Path, read: Callable[..., Dataset]) -> None:
    path = written(tmp_path / "tokenizer.json")
    name = folder(tmp_path, REVIEWS)
    dataset = read(name, tokenizer=path, sequence_length=3)
    assert inputs(dataset).tolist() == [[3, 4, 0], [3, 0, 0], [2, 4, 1]]
    assert dataset.spec.vocabulary == len(WORDS) + 1
    assert dataset.tokenizer_sha256 == sha256(Path(path).read_bytes()).hexdigest()
    assert dataset.notes == ("1 of 5 texts are longer than 3 tokens and are cut: --sequence-length N reads more",)
    masked = read(name, tokenizer=path, sequence_length=3, text_form="masked").train.resident().inputs
    assert isinstance(masked, dict)
    assert masked["input_ids"].tolist() == [[2, 3, 0], [2, 0, 0], [1, 3, 0]]
    assert masked["attention_mask"].tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    bagged = inputs(read(name, tokenizer=path, text_form="bagged"))
    assert bagged[0].tolist() == pytest.approx([0, 0, sqrt(2), sqrt(2)])


SPECIAL = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [101], "tokens": ["[CLS]"]}},
}
DOUBLING = {
    "type": "Sequence",
    "normalizers": [{"type": "Replace", "pattern": {"String": "o"}, "content": "oo"}] * 60,
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"type": "WordLevel", "vocab": WORDS, "unk_token": "absent"}}, "cannot split these texts: "),
        ({"model": {"type": "Pickle"}}, "cannot split these texts: "),
        ({"post_processor": SPECIAL}, "it gives the id 101, and its vocabulary ends at 3"),
        ({"normalizer": DOUBLING}, "it took too much memory or time, or crashed"),
        (
            {"model": {"type": "WordLevel", "vocab": {"[UNK]": 1 << 23}, "unk_token": "[UNK]"}},
            "its ids go up to 8,388,608",
        ),
        (
            {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}},
            "split",
        ),
    ],
)
def test_a_tokenizer_that_does_not_work_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], says: str
) -> None:
    monkeypatch.setattr(tokenizing, "_MEMORY", 1 << 29)
    tokenizer = Tokenizer.named(written(tmp_path / "tokenizer.json", **changes))
    with pytest.raises(PactlError, match=says) as caught:
        tokenizer.split(["good film", "other"], 8)
    assert len(caught.value.one_line()) < 500


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff", b"not json", b'{"model": null}'])
def test_a_file_that_is_no_tokenizer(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(PactlError, match=r"tokenizer\.json cannot split these texts: "):
        Tokenizer.named(str(path)).split(["good"], 8)


def test_a_tokenizer_that_takes_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizing, "_BASE_SECONDS", 1)
    monkeypatch.setattr(tokenizing, "_BYTES_FOR_EACH_SECOND", 1 << 30)
    pattern = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}
    tokenizer = Tokenizer.named(written(tmp_path / "tokenizer.json", pre_tokenizer=pattern))
    with pytest.raises(PactlError, match="cannot split these texts"):
        tokenizer.split(["x" * 20_000] * 200, 8)


def test_a_file_that_is_larger_than_any_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizing, "_LARGEST_FILE", 10)
    with pytest.raises(PactlError, match=r"tokenizer.json has more than 0 MB"):
        Tokenizer.named(written(tmp_path / "tokenizer.json"))


def test_without_the_library_the_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.setattr(tokenizing, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match="needs the package tokenizers") as caught:
        Tokenizer.named(written(tmp_path / "tokenizer.json"))
    assert caught.value.hint == "pip install 'pactl[text]'"


def test_nothing_is_imported_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tokenizers", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text("open('here', 'w')")
    tokens = Tokenizer.named(written(tmp_path / "tokenizer.json")).split(["good film", ""], 8)
    assert tokens.ids.tolist() == [1, 3]
    assert tokens.ends.tolist() == [2, 2]
    assert not (tmp_path / "here").exists()
