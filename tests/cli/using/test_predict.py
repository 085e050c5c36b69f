"""`pactl predict`: a line for each input, however it is named, and a complaint for a hostile one."""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Silence
from pactl_cli.problem.reloading import reload_problem
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.stages.classifier import load

Call = Callable[..., Any]

QUICK = ("--intrinsic-dim", 20, "--epochs", 8, "--lr", 0.1)


@pytest.fixture
def night_and_day(pactl: Call, photographs: Path) -> Path:
    """Return a run about photographs and their place; they were moved, so the run does not lead to them."""
    options = ("--image-size", 8, "--model-name", "resnet20", "--base-width", 4, *QUICK)
    assert pactl("train", "--dataset", f"folder:{photographs}", *options, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 1).code == 0
    return photographs.rename(photographs.with_name("photos"))


@pytest.fixture
def images(arrays: dict[str, Any]) -> list[str]:
    """Return the tiny data set's test images as files."""
    for place, pixels in enumerate(arrays["x_test"]):
        Image.fromarray(pixels).save(f"{place}.png")
    return [f"{place}.png" for place in range(len(arrays["x_test"]))]


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_the_data_are_not_needed_and_every_way_in_says_the_same(pactl: Call, shell: Call, night_and_day: Path) -> None:
    by_folder = pactl("predict", "run", "photos")
    assert (by_folder.code, by_folder.err) == (0, "")
    found = {name: (label, margin) for label, margin, name in rows(by_folder.out)}
    paths = [str(path) for path in sorted(night_and_day.rglob("*.png"))]
    assert [str(night_and_day.parent / name) for name in found] == paths
    assert {label for label, _ in found.values()} == {"night", "day"}
    document = json.loads(Path("run/bound.json").read_text())
    wrong = sum(label not in name for name, (label, _) in found.items())
    assert abs(wrong - document["errors"]) <= 12  # those of S, and the calibration examples
    piped = pactl("predict", "run", "-", stdin="\n".join(found))
    assert piped.out == by_folder.out
    batched = pactl("predict", "run", "-", "-0", "--batch-size", 7, stdin="\0".join(found))
    assert (batched.code, batched.err) == (0, "")
    for (label, margin, name), (own_name, own) in zip(rows(batched.out), found.items(), strict=True):
        assert (label, name) == (own[0], own_name)
        assert float(margin) == pytest.approx(float(own[1]), rel=2e-3)
    assert pactl("predict", "run", *found, "--labels").out.split() == [label for label, _ in found.values()]
    objects = [json.loads(line) for line in pactl("predict", "run", "photos/", "--json").out.splitlines()]
    assert [(each["class"], f"{each['margin']:.4g}") for each in objects] == list(found.values())
    assert {(each["label"], each["class"]) for each in objects} == {(0, "day"), (1, "night")}
    assert rows(pactl("predict", "run", "photos/day/3.png").out) == [[*found["photos/day/3.png"], "photos/day/3.png"]]
    counted = shell("find photos -name '*.png' | pactl predict run - --labels | sort | uniq -c").out.split()
    labels = [label for label, _ in found.values()]
    assert counted == [str(labels.count("day")), "day", str(labels.count("night")), "night"]
    as_typed = shell("find photos -name '*.png' | pactl predict run - | sort | uniq -c")
    assert (as_typed.code, len(as_typed.out.splitlines())) == (0, len(found))
    assert shell("pactl predict run photos | head -1").err == ""


def test_what_is_printed_is_what_was_certified(pactl: Call, certified: Path, images: list[str], npz: Path) -> None:
    by_image = rows(pactl("predict", certified, *images).out)
    by_array = rows(pactl("predict", certified, f"{npz}:x_test").out)
    assert [row[:2] for row in by_image] == [row[:2] for row in by_array]
    assert [row[2] for row in by_array] == [f"{npz}:x_test[{place}]" for place in range(100)]
    labels = np.load(npz)["y_test"]
    errors = sum(int(row[0]) != label for row, label in zip(by_array, labels, strict=True))
    assert errors / len(labels) == json.loads((certified / "bound.json").read_text())["test_error"]
    pixels = torch.from_numpy(np.load(npz)["x_test"][:, None])
    top = load(certified)(pixels).topk(2).values
    assert [row[1] for row in by_array] == [f"{one - two:.4g}" for one, two in top.double().tolist()]


def test_pictures_of_another_form_are_read_by_the_rules_of_folders(
    pactl: Call, certified: Path, images: list[str]
) -> None:
    with Image.open(images[0]) as image:
        image.convert("RGBA").save("alpha.png")
        image.convert("RGB").save("colour.webp", lossless=True)
        exif = Image.Exif()
        exif[274] = 6
        image.transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    answers = rows(pactl("predict", certified, images[0], "alpha.png", "colour.webp", "turned.png").out)
    assert len({tuple(row[:2]) for row in answers}) == 1
    assert len(answers) == 4


def test_rows_of_a_table(pactl: Call, people: Path) -> None:
    data = ("--dataset", f"csv:{people}", "--label", "y", "--missing", "constant")
    assert pactl("train", *data, *QUICK, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 1).code == 0
    with people.open() as file:
        lines = list(csv.DictReader(file))
    with Path("new.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["town", "b", "id", "a"], extrasaction="ignore")  # in another order, no labels
        writer.writeheader()
        writer.writerows({**line, "id": place} for place, line in enumerate(lines))
    found = rows(pactl("predict", "run", "new.csv").out)
    assert [row[2] for row in found[:2]] == ["new.csv[2]", "new.csv[3]"]
    problem = reload_problem(RunDirectory.open(Path("run")), Named(), "cpu", Silence(), only_read=True)
    every = load(Path("run"), device="cpu")(problem.dataset.train.resident().inputs).argmax(1)
    assert [row[0] for row in found] == [("no", "yes")[int(label)] for label in every]
    Path("less.csv").write_text("a,b\n1,2\n")
    assert "less.csv has no column" in pactl("predict", "run", "less.csv").complaint(2)
    Path("odd.csv").write_text("a,b,town\n1,blue,Ulm\n")
    assert 'row 2, column "b" has "blue"' in pactl("predict", "run", "odd.csv").complaint(2)
    assert "less.txt: the classifier takes tables" in pactl("predict", "run", Path("less.csv").rename("less.txt")).err


def test_texts_and_a_column_of_texts(pactl: Call, reviews: Path, tmp_path: Path) -> None:
    assert pactl("train", "--dataset", f"folder:{reviews}", "--sequence-length", 32, *QUICK, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 1).code == 0
    Path("latin.txt").write_bytes("grün".encode("latin-1"))
    done = pactl("predict", "run", reviews, "latin.txt")
    assert done.code == 1
    assert "latin.txt is not UTF-8" in done.err
    assert {row[0] for row in rows(done.out)} <= {"bad", "good"}
    assert len(rows(done.out)) == 120
    texts = {path.name: path.read_text() for path in reviews.rglob("*.txt")}
    Path("reviews.csv").write_text("\n".join(["text,verdict", *(f"{text},{text[:3]}" for text in texts.values())]))
    columns = ("--dataset", "csv:reviews.csv", "--label", "verdict", "--text", "text", *QUICK)
    assert pactl("train", *columns, "--out", "column").code == 0
    assert pactl("bound", "column", "--quant-epochs", 1).code == 0
    assert len(rows(pactl("predict", "column", "reviews.csv").out)) == 120


def test_a_tokenizer_of_its_own_is_named(pactl: Call, reviews: Path) -> None:
    words = ["[UNK]", *(f"{kind}{place}" for kind in ("good", "bad", "so") for place in range(4))]
    content: dict[str, Any] = {
        "version": "1.0",
        **dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder")),
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": "[UNK]"},
    }
    Path("own.json").write_text(json.dumps(content))
    train = ("train", "--dataset", f"folder:{reviews}", "--tokenizer", "own.json", "--sequence-length", 32, *QUICK)
    assert pactl(*train, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 1).code == 0
    assert "name it: --tokenizer PATH" in pactl("predict", "run", reviews).complaint(2)
    assert pactl("predict", "run", reviews, "--tokenizer", "own.json").code == 0
    content["model"]["vocab"] = {word: len(words) - 1 - i for i, word in enumerate(words)}
    Path("other.json").write_text(json.dumps(content))
    other = pactl("predict", "run", reviews, "--tokenizer", "other.json")
    assert "is not the one that split the texts" in other.complaint(2)


def test_a_folder_without_a_picture_and_a_name_of_nothing(pactl: Call, certified: Path) -> None:
    Path("empty").mkdir()
    assert "has no file that can be read" in pactl("predict", certified, "empty").complaint(2)
    assert "nowhere.png: there is no such file" in pactl("predict", certified, "nowhere.png").complaint(2)
    assert "no path came through the pipe" in pactl("predict", certified, "-").complaint(2)
    assert "no path came through the pipe" in pactl("predict", certified, "-", stdin="\n\n").complaint(2)
    assert "no list of paths" in pactl("predict", certified, "-", stdin=b"\0" * (3 << 20)).complaint(2)
    assert "exclude each other" in pactl("predict", certified, "x", "--json", "--labels").complaint(2)


def test_what_cannot_be_read_is_named_and_the_others_go_on(pactl: Call, certified: Path, images: list[str]) -> None:
    whole = Path(images[1]).read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Path("words.jpg").write_text("no picture")
    Image.new("L", (9, 8)).save("wide.png")
    Image.new("F", (8, 8)).save("floats.tif")
    bomb = whole[:16] + struct.pack(">II", 1 << 20, 1 << 20) + whole[24:]
    Path("bomb.png").write_bytes(bomb)
    stdin = "\n".join([images[0], "cut.png", "words.jpg", "wide.png", "floats.tif", "bomb.png", "gone.png", images[2]])
    done = pactl("predict", certified, "-", stdin=stdin)
    assert done.code == 1
    assert [row[2] for row in rows(done.out)] == [images[0], images[2]]
    *each, last = done.err.splitlines()
    for line, name in zip(each, ("cut", "words", "wide", "floats", "bomb", "gone"), strict=True):
        assert line.startswith(f"pactl: {name}.")
    assert "8 x 9 pixels, and the classifier takes 8 x 8" in done.err
    assert last == "pactl: 6 of 8 inputs cannot be read"


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 9, 9), np.uint8), "images of 1 x 9 x 9, uint8, and the classifier takes images of 1 x 8 x 8"),
        (np.zeros((4, 4, 8, 8), np.uint8), "images of 4 x 8 x 8"),
        (np.zeros((4, 8, 8), np.float32), "float32"),
        (np.zeros((4, 64), np.uint8), "64 features"),
        (np.zeros(4, np.uint8), "has 1 dimensions"),
        (np.zeros((), np.uint8), "single number"),
        (np.array([None]), "Python objects"),
    ],
)
def test_arrays_of_another_form_are_refused(pactl: Call, certified: Path, array: Any, said: str) -> None:
    np.savez("x.npz", x=array)
    assert said in pactl("predict", certified, "x.npz").complaint(2)


def test_arrays_of_colours_are_read_as_grey(pactl: Call, certified: Path, npz: Path) -> None:
    images = np.load(npz)["x_test"]
    np.save("x.npy", np.repeat(images[..., None], 3, axis=-1))
    colours, grey = (rows(pactl("predict", certified, name).out) for name in ("x.npy", f"{npz}:x_test"))
    assert [row[:2] for row in colours] == [row[:2] for row in grey]


def test_hostile_archives(pactl: Call, certified: Path, npz: Path) -> None:
    assert f"name one: {npz}:x_train" in pactl("predict", certified, npz).complaint(2)
    assert "has no array" in pactl("predict", certified, f"{npz}:z").complaint(2)
    Path("cut.npz").write_bytes(npz.read_bytes()[:1000])
    assert "cut.npz" in pactl("predict", certified, "cut.npz").complaint(2)
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 8, 8), }"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(1 << 20)
    with ZipFile("bomb.npz", "w", ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", member)
    Path("bomb.npy").write_bytes(member)
    assert "bomb.npy" in pactl("predict", certified, "bomb.npy").complaint(2)
    assert "bomb.npz" in pactl("predict", certified, "bomb.npz").complaint(2)


def test_a_table_on_a_terminal(start: Call, terminal: Any, night_and_day: Path) -> None:
    process = start("predict", "run", "photos/day", stdout=terminal.path)
    assert process.end().code == 0
    head, *lines = terminal.close().splitlines()
    assert head == "class    margin  input"
    assert len(lines) == 60
    assert all(line.index("photos/day/") == head.index("input") for line in lines)


def test_names_with_tabs_and_line_ends_stay_on_their_line(pactl: Call, certified: Path, images: list[str]) -> None:
    shutil.copy(images[0], "a\tb\nc.png")
    assert rows(pactl("predict", certified, "a\tb\nc.png").out)[0][2] == "a\\tb\\nc.png"
    assert json.loads(pactl("predict", certified, "a\tb\nc.png", "--json").out)["input"] == "a\tb\nc.png"


def test_control_characters_of_names_do_nothing_to_a_terminal_and_bytes_stay(
    pactl: Call, shell: Call, certified: Path, images: list[str]
) -> None:
    shutil.copy(images[0], "a\x1b[2J\r\x9b\u2028.png")
    assert rows(pactl("predict", certified, "a\x1b[2J\r\x9b\u2028.png").out)[0][2] == r"a\x1b[2J\r\x9b\u2028.png"
    shutil.copy(images[0], "b\udcff é\\.png")
    printed = shell(f"pactl predict {certified} b*.png | od -An -v -tx1").out
    assert bytes.fromhex(printed).endswith(b"\tb\xff \xc3\xa9\\\\.png\n")


def test_a_pipe_among_pictures_is_named_and_not_waited_for(pactl: Call, certified: Path, images: list[str]) -> None:
    Path("pf").mkdir()
    shutil.copy(images[0], "pf/a.png")
    os.mkfifo("pf/x.png")
    done = pactl("predict", certified, "pf")
    assert (done.code, [row[2] for row in rows(done.out)]) == (1, ["pf/a.png"])
    assert "pf/x.png is not a readable image: it is not a plain file" in done.err
