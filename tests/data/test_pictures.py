"""Many image files are decoded by several processes, and cached until one of them changes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pactl_cli.data.dataset import Dataset
from pactl_cli.data.files import decoded_cache, pictures
from pactl_cli.data.files.decoding import Frame
from pactl_cli.data.files.pictures import Pictures, read_headers
from pactl_cli.data.files.progress import unheard
from pactl_cli.data.files.workers import mapped
from pactl_cli.data.loading import load_dataset
from pactl_cli.errors import PactlError

RNG = np.random.default_rng(0)

pytestmark = pytest.mark.usefixtures("_warm_workers")


# --- Workers ----------------------------------------------------------------------------------------------------------

MANY = 700
FRAME = Frame((3, 5, 6))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Paths of many small colour images."""
    place = tmp_path_factory.mktemp("many")
    paths = [str(place / f"{number:04}.png") for number in range(MANY)]
    for path in paths:
        Image.fromarray(RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(params=[0, 2])
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Let so many processes decode, however few images there are."""
    monkeypatch.setattr(pictures, "_FEW_BYTES", 2 if request.param else 10**9)
    monkeypatch.setattr(pictures, "cores", lambda: request.param)
    return int(request.param)


def test_every_image_is_in_its_place(stored: list[str], workers: int) -> None:
    seen: list[tuple[int, int]] = []
    processes: list[int] = []

    def watch(done: int, total: int) -> None:
        seen.append((done, total))
        processes.append(len(multiprocessing.active_children()))

    images = Pictures("many", tuple(stored), FRAME).read(watch)
    assert processes[0] == workers
    assert not multiprocessing.active_children()
    assert images.shape == (MANY, 3, 5, 6)
    for image, path in zip(images, stored, strict=True):
        np.testing.assert_array_equal(image, np.moveaxis(np.asarray(Image.open(path)), -1, 0))
    assert seen == sorted(set(seen))
    assert len(seen) > 3
    assert seen[-1] == (MANY, MANY)


def test_the_frame_says_whether_all_are_grey(stored: list[str], workers: int, tmp_path: Path) -> None:
    Image.open(stored[0]).convert("L").save(tmp_path / "grey.png")
    paths = (str(tmp_path / "grey.png"), *stored[1:])
    images = Pictures("many", paths, Frame((1, 5, 6))).read(unheard)
    np.testing.assert_array_equal(images[-1, 0], np.asarray(Image.open(stored[-1]).convert("L")))
    assert Pictures("many", paths, FRAME).read(unheard).shape == (MANY, 3, 5, 6)


def test_headers_are_in_their_places(
    stored: list[str], workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_FEW_HEADERS", 10)
    Image.new("L", (3, 4)).save(tmp_path / "grey.png")
    seen: list[tuple[int, int]] = []
    paths = [*stored[:300], str(tmp_path / "grey.png"), *stored[300:]]
    found = read_headers("many", paths, lambda done, total: seen.append((done, total)))
    assert found[300].tolist() == [4, 3, 1]
    assert (np.delete(found, 300, axis=0) == [5, 6, 0]).all()
    assert seen[-1] == (MANY + 1, MANY + 1)
    (tmp_path / "grey.png").write_bytes(b"no image")
    with pytest.raises(PactlError, match=r"--dataset many: .*grey\.png is not a readable image"):
        read_headers("many", paths, unheard)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("place", [1, 130, MANY - 1])
def test_the_first_bad_image_is_named(stored: list[str], workers: int, tmp_path: Path, place: int) -> None:
    faults = {"not a readable image": tmp_path / "broken.png", "another size": tmp_path / "large.png"}
    (tmp_path / "broken.png").write_bytes(Path(stored[0]).read_bytes()[:60])
    Image.new("RGB", (6, 6)).save(tmp_path / "large.png")
    for complaint, path in faults.items():
        paths = (*stored[:place], str(path), *stored[place + 1 : -1], str(tmp_path / "absent.png"))
        with pytest.raises(PactlError, match=f"--dataset many: {path} .*{complaint}"):
            Pictures("many", paths[:MANY], FRAME).read(unheard)


@pytest.mark.parametrize("workers", [2], indirect=True)
def test_images_are_read_though_no_worker_starts(
    stored: list[str], workers: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = Pictures("many", tuple(stored), FRAME).read(unheard)
    for program in (shutil.which("false"), str(tmp_path / "absent")):
        server = forkserver.ForkServer()  # another than that of all other tests, which has started
        monkeypatch.setattr(forkserver, "connect_to_new_process", server.connect_to_new_process)
        monkeypatch.setattr("multiprocessing.spawn._python_exe", os.fsencode(str(program)))
        with pytest.raises(PactlError, match="no worker process starts"):
            list(mapped(abs, [-1, -2], 2, 2))
        np.testing.assert_array_equal(Pictures("many", tuple(stored), FRAME).read(unheard), expected)


@pytest.mark.parametrize("workers", [2], indirect=True)
def test_images_are_read_though_workers_are_killed(stored: list[str], workers: int) -> None:
    killed = []

    def kill(done: int, total: int) -> None:
        for process in multiprocessing.active_children():
            process.kill()
            killed.append(process)

    images = Pictures("many", tuple(stored), FRAME).read(kill)
    assert killed
    np.testing.assert_array_equal(images, np.stack([np.moveaxis(np.asarray(Image.open(p)), -1, 0) for p in stored]))


def test_an_interruption_ends_the_workers(stored: list[str], workers: int) -> None:
    def interrupt(done: int, total: int) -> None:
        assert len(multiprocessing.active_children()) == workers
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pictures("many", tuple(stored), FRAME).read(interrupt)
    assert not multiprocessing.active_children()


# --- The cache --------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cache keep files that were just written: these tests change them only after the clock has moved on."""
    monkeypatch.setattr(decoded_cache, "_SETTLED_SECONDS", -60.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three training images and a test image in each of two classes, uncompressed."""
    for part, count in (("train", 3), ("test", 1)):
        for label in ("cat", "dog"):
            (tmp_path / "pictures" / part / label).mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8))
                image.save(tmp_path / "pictures" / part / label / f"{number}.bmp")
    return tmp_path / "pictures"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the paths of images when they are opened."""
    paths: list[str] = []
    opening = Image.open

    def watched(file: Any, **options: Any) -> Any:
        paths.append(getattr(file, "name", "in an archive"))
        return opening(file, **options)

    monkeypatch.setattr(Image, "open", watched)
    return paths


@pytest.fixture
def load(folder: Path, tmp_path: Path) -> Callable[[], Dataset]:
    """Return a function that loads the folder, with a cache in `tmp_path/data`."""
    return lambda: load_dataset(f"folder:{folder}", tmp_path / "data")


def kept(tmp_path: Path) -> list[Path]:
    """Return the cache's files of images, after checking that each has one of headers or none has."""
    files = sorted((tmp_path / "data" / "folders").iterdir())
    images = [path for path in files if path.name.endswith(".images.npz")]
    headers = [path for path in files if path.name.endswith(".headers.npz")]
    assert len(images) + len(headers) == len(files)
    assert len(headers) in (0, len(images))
    return images


def same(one: Dataset, other: Dataset) -> bool:
    """Return whether two data sets are equal."""
    assert one.test is not None
    assert other.test is not None
    return (one.train.sha256(), one.test.sha256()) == (other.train.sha256(), other.test.sha256())


def test_images_are_opened_once(load: Callable[[], Dataset], opened: list[str], tmp_path: Path) -> None:
    first = load()
    assert len(set(opened)) == 8
    assert first.test is not None
    assert (first.train.labels.tolist(), first.test.labels.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 1])
    del opened[:]
    second: Any = load()
    assert same(first, second)
    assert not opened
    assert len(kept(tmp_path)) == 1
    second.train.images.add_(1)
    assert same(first, load()), "what is loaded may be changed"


def rewrite(path: Path) -> None:
    """Replace an image by another of the same length, and restore its modification time."""
    before = path.stat()
    Image.fromarray(RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


CHANGES: dict[str, Callable[[Path], Any]] = {
    "rewritten": rewrite,
    "in another format": lambda path: Image.open(path).convert("L").save(path),
    "touched": lambda path: os.utime(path),
    "renamed": lambda path: path.rename(path.with_name("9.bmp")),
    "removed": Path.unlink,
    "added": lambda path: shutil.copy(path, path.with_name("7.bmp")),
    "another class": lambda path: path.rename(path.parents[1] / "cat" / "8.bmp"),
}


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("change", CHANGES)
def test_any_change_is_seen(
    load: Callable[[], Dataset], folder: Path, tmp_path: Path, opened: list[str], change: str, part: str
) -> None:
    for label in ("cat", "dog"):  # so that one may go
        shutil.copy(folder / part / label / "0.bmp", folder / part / label / "5.bmp")
    load()
    old = kept(tmp_path)
    time.sleep(0.02)  # more than the tick of a file system's clock
    CHANGES[change](folder / part / "dog" / "0.bmp")
    del opened[:]
    found = load()
    assert opened
    assert len(kept(tmp_path)) == 1
    assert kept(tmp_path) != old, "what is stale is removed"
    assert same(found, load_dataset(f"folder:{folder}", tmp_path / "another cache"))
    assert same(found, load())


@pytest.mark.parametrize("length", [0, 1, 100, -1, None])
def test_a_damaged_cache_is_not_trusted(
    load: Callable[[], Dataset], tmp_path: Path, opened: list[str], length: int | None
) -> None:
    first = load()
    (path,) = kept(tmp_path)
    good = path.read_bytes()
    bad = good[:length] if length is not None else good.replace(good[400:404], b"\0\1\2\3")
    assert bad != good
    path.write_bytes(bad)
    del opened[:]
    assert same(first, load())
    assert opened
    assert path.read_bytes() == good, "and repaired"


def test_any_byte_of_the_pixels_may_be_damaged(load: Callable[[], Dataset], tmp_path: Path) -> None:
    first = load()
    (path,) = kept(tmp_path)
    good = path.read_bytes()
    for place in range(0, len(good), 7):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        assert same(first, load())


@pytest.mark.parametrize(
    "content",
    [
        {"images": np.zeros((7, 3, 7, 9), np.uint8)},
        {"images": np.zeros((8, 3, 7, 9), np.float32)},
        {"images": np.zeros((8, 7, 9), np.uint8)},
        {"pictures": np.zeros((8, 3, 7, 9), np.uint8)},
        {"images": np.array([{}] * 8)},
    ],
)
def test_a_cache_of_something_else_is_not_trusted(
    load: Callable[[], Dataset], tmp_path: Path, content: dict[str, Any]
) -> None:
    first = load()
    np.savez(kept(tmp_path)[0], allow_pickle=True, **content)
    assert same(first, load())


def test_each_folder_has_a_cache(load: Callable[[], Dataset], folder: Path, tmp_path: Path, opened: list[str]) -> None:
    load()
    shutil.copytree(folder, tmp_path / "copy")
    load_dataset(f"folder:{tmp_path / 'copy'}", tmp_path / "data")
    assert len(kept(tmp_path)) == 2
    del opened[:]
    load()
    load_dataset(f"folder:{tmp_path / 'copy'}", tmp_path / "data")
    assert not opened


@pytest.mark.usefixtures("_unwritable")
def test_a_cache_that_cannot_be_written_is_done_without(
    load: Callable[[], Dataset], folder: Path, tmp_path: Path, tree: Callable[[Path], set[str]]
) -> None:
    before = tree(tmp_path)
    assert same(load(), load())
    assert tree(tmp_path) == before


@pytest.fixture(params=["a file in its place", "a file above it", "a dangling link"])
def _unwritable(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if request.param == "a file above it":
        (tmp_path / "data").write_text("")
    elif request.param == "a dangling link":
        (tmp_path / "data").symlink_to(tmp_path / "absent" / "place")
    else:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "folders").write_text("")


def test_images_that_have_just_changed_are_not_kept(
    load: Callable[[], Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded_cache, "_SETTLED_SECONDS", 60.0)
    load()
    assert not (tmp_path / "data").exists()


def test_a_bad_image_leaves_no_cache(load: Callable[[], Dataset], folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "dog" / "2.bmp").write_bytes(b"no image")
    with pytest.raises(PactlError, match=r"2\.bmp is not a readable image"):
        load()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("made", ["tiny-imagenet"], indirect=True)
def test_the_archive_of_tiny_imagenet_is_decoded_once(made: Any, tmp_path: Path, opened: list[str]) -> None:
    first = load_dataset(made.name, made.write(tmp_path / "data"))
    assert len(kept(tmp_path)) == 1
    del opened[:]
    assert same(first, load_dataset(made.name, tmp_path / "data"))
    assert not opened
    (tmp_path / "data" / "tiny-imagenet-200.zip").write_bytes(made.served["tiny-imagenet-200.zip"][:-1])
    with pytest.raises(PactlError, match="truncated or altered"):
        load_dataset(made.name, tmp_path / "data")
