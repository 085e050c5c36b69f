"""Images in class folders are listed in torchvision's order, each file once, and loops of links end."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from pactl_cli.data.files.image_listing import EXTENSIONS, list_images
from pactl_cli.data.loading import load_dataset
from pactl_cli.errors import PactlError


def names(part: Path) -> list[str]:
    """Return the listed paths, relative to the part."""
    return [os.path.relpath(path, part) for path, _ in list_images(part).samples]


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """Two images in each of two classes, of which only the names matter."""
    for label in ("cat", "dog"):
        (tmp_path / "set" / "train" / label).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "set" / "train" / label / f"{number}.png").write_text(label)
    return tmp_path / "set" / "train"


ALL = ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]


# --- Order ------------------------------------------------------------------------------------------------------------


def test_extensions_are_those_of_torchvision_and_more() -> None:
    assert EXTENSIONS[: len(IMG_EXTENSIONS)] == IMG_EXTENSIONS
    assert set(EXTENSIONS[len(IMG_EXTENSIONS) :]) == {".gif", ".jfif", ".jpe"}


@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_that_of_torchvision(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    words = ("a", "b", "a-b", "a b", "ab", "B", "ä", "10", "9", "x", "a.png")
    for label in draw.sample(words, 4):
        for _ in range(12):
            folder = tmp_path.joinpath(label, *draw.choices(words, k=draw.randrange(3)))
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"f{draw.choice(words)}{draw.choice(('.png', '.JPEG', '.Tiff', '.txt', ''))}").touch()
        (tmp_path / label / "one.webp").touch()
    (tmp_path / "notes.png").touch()
    theirs, ours = ImageFolder(str(tmp_path)), list_images(tmp_path)
    assert ours.samples == theirs.samples
    assert list(ours.classes) == theirs.classes


# --- Each file once ---------------------------------------------------------------------------------------------------

LOOPS: dict[str, Callable[[Path], Any]] = {
    "to itself": lambda part: (part / "cat" / "latest").symlink_to("."),
    "to the part": lambda part: (part / "cat" / "latest").symlink_to(".."),
    "above the part": lambda part: (part / "cat" / "latest").symlink_to(part.parents[1]),
    "to a class before": lambda part: (part / "dog" / "more").symlink_to(part / "cat"),
    "through another place": lambda part: loop_elsewhere(part),
    "to each other": lambda part: [(part / "cat" / name).symlink_to(part / "cat") for name in ("x", "y", "z")],
}


def loop_elsewhere(part: Path) -> None:
    """Make a link to a directory outside that has links back to the part and to its own parent."""
    outside = part.parents[1] / "outside" / "inner"
    outside.mkdir(parents=True)
    (outside / "back").symlink_to(part)
    (outside / "up").symlink_to("..")
    (outside.parent / "not below inner.png").touch()
    (part / "cat" / "link").symlink_to(outside)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_of_links_is_not_followed(part: Path, loop: str) -> None:
    LOOPS[loop](part)
    assert names(part) == ALL


def test_a_loop_adds_nothing_to_the_sample(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "set" / "train" / label).mkdir(parents=True)
        for number in range(2):
            pixels = np.random.default_rng(number).integers(0, 256, (5, 5), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / "train" / label / f"{number}.png")
    before = load_dataset(f"folder:{tmp_path / 'set'}", tmp_path / "data").train
    (tmp_path / "set" / "train" / "cat" / "latest").symlink_to(".")
    after = load_dataset(f"folder:{tmp_path / 'set'}", tmp_path / "data").train
    assert len(after) == 4
    assert after.sha256() == before.sha256()


@pytest.mark.parametrize("link", [os.link, os.symlink])
@pytest.mark.parametrize("place", ["cat/2.png", "dog/2.png", "cat/below/2.png"])
def test_a_file_with_two_names_is_one_example(part: Path, link: Callable[[Path, Path], None], place: str) -> None:
    (part / place).parent.mkdir(exist_ok=True)
    link(part / "cat" / "0.png", part / place)
    assert names(part) == ALL


def test_the_first_name_in_order_is_kept(part: Path) -> None:
    (part / "cat" / "00.png").symlink_to(part / "dog" / "0.png")
    assert names(part) == ["cat/0.png", "cat/00.png", "cat/1.png", "dog/1.png"]
    (part / "cat" / "a").mkdir()
    (part / "cat" / "a" / "x.png").write_text("x")
    (part / "cat" / "a-b").symlink_to("a")
    assert names(part)[3:4] == ["cat/a/x.png"]
    (part / "cat" / "a").rename(part / "cat" / "b")
    (part / "cat" / "a-b").unlink()
    (part / "cat" / "a-b").symlink_to("b")
    assert names(part)[3:4] == ["cat/a-b/x.png"]


def test_a_file_may_be_in_two_parts(part: Path) -> None:
    (part.parent / "test").symlink_to(part)
    assert len(names(part)) == len(names(part.parent / "test")) == 4


# --- Honest links -----------------------------------------------------------------------------------------------------


def test_links_to_other_places_are_followed(part: Path, tmp_path: Path) -> None:
    for folder in ("emu", "more/deep"):
        (tmp_path / "elsewhere" / folder).mkdir(parents=True)
        (tmp_path / "elsewhere" / folder / "5.png").touch()
    (tmp_path / "elsewhere" / "alone.png").touch()
    (part / "emu").symlink_to(tmp_path / "elsewhere" / "emu")
    (part / "cat" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (part / "dog" / "alone.png").symlink_to(tmp_path / "elsewhere" / "alone.png")
    expected = ["cat/0.png", "cat/1.png", "cat/more/deep/5.png", "dog/0.png", "dog/1.png", "dog/alone.png", "emu/5.png"]
    assert names(part) == expected
    assert list_images(part).samples == ImageFolder(str(part)).samples
    (tmp_path / "linked").symlink_to(part)
    assert names(tmp_path / "linked") == expected


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda part: [path.unlink() for path in (part / "dog").iterdir()], "there is no file of the classes dog"),
        (lambda part: (part / "emu").symlink_to("cat"), "there is no file of the classes emu"),
        (lambda part: (part / "emu").symlink_to("."), "there is no file of the classes emu"),
        (lambda part: (part / "cat" / "x.png").symlink_to("absent"), "No such file"),
        (lambda part: (part / "cat" / "x.png").symlink_to("x.png"), "symbolic link"),
        (lambda part: os.mkfifo(part / "cat" / "x.png"), "x.png is not a plain file"),
    ],
)
def test_what_cannot_be_listed_is_refused(part: Path, spoil: Callable[[Path], Any], says: str) -> None:
    spoil(part)
    with pytest.raises(OSError, match=says):
        list_images(part)
    with pytest.raises(PactlError, match=says):
        load_dataset(f"folder:{part.parent}", part.parent / "data")
