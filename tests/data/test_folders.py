"""Folders of pictures as users have them: layouts, files that are left out and reported, and colour."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pactl_cli.data.files.image_listing import EXTENSIONS, is_left_out
from pactl_cli.data.loading import load_dataset
from pactl_cli.errors import PactlError

RNG = np.random.default_rng(0)


def save(path: Path, channels: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (6, 6) if channels == 1 else (6, 6, 3)
    Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8)).save(path)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two pictures in each of two classes, and a test set of one in each."""
    for part, count in (("train", 2), ("test", 1)):
        for label in ("cat", "dog"):
            for number in range(count):
                save(tmp_path / "set" / part / label / f"{number}.png")
    return tmp_path / "set"


def load(place: Path) -> Any:
    return load_dataset(f"folder:{place}", place.parent / "data")


def test_classes_have_the_names_of_their_folders(place: Path) -> None:
    assert load(place).class_names == ("cat", "dog")
    (place / "train" / "dog").rename(place / "train" / "d\udcffg\n")
    shutil.rmtree(place / "test")
    assert load(place).class_names == ("cat", "d?g?"), "of letters that every file can hold"


# --- Colour -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["train/cat/0.png", "train/dog/1.png", "test/dog/0.png"])
def test_one_picture_in_colour_makes_all_colour(place: Path, path: str) -> None:
    for file in place.rglob("*.png"):
        save(file, 1)
    assert load(place).spec.image_shape == (1, 6, 6)
    save(place / path, 3)
    assert load(place).spec.image_shape == (3, 6, 6)


def test_a_grey_first_picture_turns_nothing_grey(place: Path) -> None:
    save(place / "train" / "cat" / "0.png", 1)
    images = load(place).train.images
    assert (images[0] == images[0, :1]).all()
    np.testing.assert_array_equal(
        images[1].numpy(), np.moveaxis(np.asarray(Image.open(place / "train" / "cat" / "1.png")), -1, 0)
    )


def test_deep_grey_is_the_same_as_grey_of_eight_bits(place: Path) -> None:
    for number, file in enumerate(sorted(place.rglob("*.png"))):
        Image.fromarray(np.full((6, 6), 257 * 30 * number, np.uint16)).save(file)
    assert load(place).train.images[:, 0, 0, 0].tolist() == [60, 90, 120, 150]


# --- Layouts ----------------------------------------------------------------------------------------------------------


def test_class_folders_alone_are_the_training_set(place: Path) -> None:
    expected = load(place)
    found = load(place / "train")
    assert found.test is None
    assert (found.train.sha256(), found.class_names) == (expected.train.sha256(), expected.class_names)
    assert found.notes == ("there is no train/: its folders (cat, dog) are the classes, and there is no test set",)
    assert expected.notes == ()


@pytest.mark.parametrize("name", ["training", "Train2", "val", "Test", "validation"])
def test_parts_of_other_names_are_no_classes(place: Path, name: str) -> None:
    (place / "train").rename(place / name)
    with pytest.raises(PactlError, match=r"there is no folder .*train beside") as caught:
        load(place)
    assert "train/CLASS" in caught.value.hint


def test_a_single_class_is_named(place: Path) -> None:
    shutil.rmtree(place / "train" / "dog")
    with pytest.raises(PactlError, match="single class, the folder cat in") as caught:
        load(place)
    assert "the folder above" in caught.value.hint


@pytest.mark.parametrize("how", ["no folder", "an empty folder"])
def test_the_test_set_may_lack_a_class(place: Path, how: str) -> None:
    shutil.rmtree(place / "test" / "cat")
    if how == "an empty folder":
        (place / "test" / "cat").mkdir()
    data = load(place)
    assert (data.classes, data.test.labels.tolist()) == (2, [1])


@pytest.mark.parametrize("name", ["val", "valid", "validation", "testing"])
def test_the_test_set_has_one_of_several_names(place: Path, name: str) -> None:
    (place / "test").rename(place / name)
    data = load(place)
    assert (len(data.test), data.notes) == (2, ())
    shutil.copytree(place / name, place / "test")
    assert load(place).notes == (f"folders beside train/ that are not read: {name}",)


def test_a_class_of_the_test_set_alone_is_named(place: Path) -> None:
    for name in ("emu", "cow"):
        shutil.copytree(place / "test" / "cat", place / "test" / name)
    with pytest.raises(PactlError, match="test has classes that the training set lacks: cow, emu"):
        load(place)
    shutil.rmtree(place / "test")
    (place / "test" / "cat").mkdir(parents=True)
    with pytest.raises(PactlError, match=r"there is no file of a class in .*test"):
        load(place)


# --- What is left out -------------------------------------------------------------------------------------------------

LEFT_OUT = [
    ".ipynb_checkpoints",
    ".git",
    "__MACOSX",
    "@eaDir",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
]


@pytest.mark.parametrize("name", LEFT_OUT)
@pytest.mark.parametrize("layout", ["parts", "classes"])
def test_what_programs_leave_behind_is_nobodys_data(place: Path, name: str, layout: str) -> None:
    root = place if layout == "parts" else place / "train"
    expected = load(root)
    for below in ("", "train", "train/cat", "test", "test/dog"):
        if (place / below).is_dir():
            save(place / below / name / "0.png")
    found = load(root)
    assert (found.class_names, found.train.sha256()) == (("cat", "dog"), expected.train.sha256())
    assert (found.test and found.test.sha256()) == (expected.test and expected.test.sha256())
    assert found.notes == expected.notes


def test_hidden_files_are_no_pictures(place: Path) -> None:
    (place / "train" / "dog" / "._0.png").write_bytes(b"\0\5\26\7")
    (place / "train" / "dog" / "Thumbs.db").write_bytes(b"no picture")
    (place / "train" / ".DS_Store").write_bytes(b"no folder")
    assert len(load(place).train) == 4
    assert is_left_out(".x")
    assert not is_left_out("x.y")


def test_pictures_in_other_formats_are_counted(place: Path) -> None:
    for path in ("train/cat/a.heic", "train/cat/b.HEIC", "test/dog/c.avif", "train/dog/notes.md"):
        (place / path).write_bytes(b"")
    data = load(place)
    assert len(data.train) == 4
    assert data.notes == (
        "pictures in formats that are not read are left out (1 .avif, 2 .heic): save them as PNG or JPEG",
    )


def test_a_class_of_other_formats_alone_says_so(place: Path) -> None:
    for path in (place / "train" / "cat").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(PactlError, match=r"no file of the classes cat \(2 .heic\); extensions that are read"):
        load(place)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_extension_that_is_listed_is_read(place: Path, extension: str) -> None:
    form = {".jfif": "JPEG", ".jpe": "JPEG"}.get(extension)
    grey = extension == ".pgm"
    image = Image.new("L" if grey else "RGB", (6, 6), 128 if grey else (128, 128, 128))
    image.save(place / "train" / "cat" / f"z{extension.upper()}", form)
    data = load(place)
    assert len(data.train) == 5
    assert (data.train.images[2] - 128.0).abs().max() < 3
