"""The hashed bytes are the bytes that are used, even if a file is swapped in between; and no pickle runs code."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pactl_cli.data.files import checked_files
from pactl_cli.data.files.checked_files import CheckedFile, check_file, read_checked, require_unchanged
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.published.cifar import _examples
from pactl_cli.errors import MissingError, PactlError

each_cifar = pytest.mark.parametrize("made", ["cifar10", "cifar100"], indirect=True)


class Trap:
    """Makes a directory when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._place),)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def holds(examples: Any, expected: tuple[Any, Any]) -> bool:
    """Return whether examples have these images and labels."""
    return all(map(np.array_equal, (examples.images.numpy(), examples.labels.numpy()), expected))


@pytest.fixture
def swapped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path, bytes], None]:
    """`swapped(path, content)`: another file takes the path as soon as the hash of any file is computed."""

    def arm(path: Path, content: bytes) -> None:
        computed = hashlib.new
        (tmp_path / "other").write_bytes(content)

        def swap(*arguments: Any, **options: Any) -> Any:
            if (tmp_path / "other").exists():
                os.replace(tmp_path / "other", path)
            return computed(*arguments, **options)

        monkeypatch.setattr(hashlib, "new", swap)
        for module in ("cifar", "svhn"):  # torchvision's own checks would come before the swap
            monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)

    return arm


# --- Swapped files ----------------------------------------------------------------------------------------------------


@each_cifar
def test_a_pickle_that_comes_after_the_hash_is_not_opened(made: Any, tmp_path: Path, swapped: Any) -> None:
    path = made.write(tmp_path / "data") / next(iter(made.layout))
    swapped(path, pickle.dumps(Trap(tmp_path / "sprung")))
    data = load_dataset(made.name, tmp_path / "data")
    assert path.read_bytes() != made.layout[next(iter(made.layout))], "it was swapped"
    assert not (tmp_path / "sprung").exists()
    assert holds(data.train, made.train)
    assert holds(data.test, made.test)


@pytest.mark.parametrize("made", ["fmnist", "svhn"], indirect=True)
def test_a_file_that_comes_after_the_hash_is_not_read(made: Any, tmp_path: Path, swapped: Any) -> None:
    name = next(iter(made.layout))
    path = made.write(tmp_path / "data") / name
    swapped(path, made.layout[name][:-9] + bytes(9))
    data = load_dataset(made.name, tmp_path / "data")
    assert path.read_bytes() != made.layout[name], "it was swapped"
    assert holds(data.train, made.train)
    assert holds(data.test, made.test)


def blackened(archive: bytes) -> bytes:
    """Return an archive of images with all images replaced by black ones."""
    out, black = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 64)).save(black, "PNG")
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, black.getvalue() if name.endswith(".JPEG") else old.read(name))
    return out.getvalue()


@pytest.mark.parametrize("made", ["tiny-imagenet"], indirect=True)
@pytest.mark.parametrize("other", [blackened, lambda archive: b"no archive", lambda archive: archive[:-5000]])
def test_an_archive_that_comes_after_the_hash_is_refused(
    made: Any, tmp_path: Path, swapped: Any, other: Callable[[bytes], bytes]
) -> None:
    (name,) = made.layout
    path = made.write(tmp_path / "data") / name
    swapped(path, other(made.layout[name]))
    with pytest.raises(PactlError, match=f"{path} has changed while it was read"):
        load_dataset(made.name, tmp_path / "data")
    path.write_bytes(made.layout[name])
    assert holds(load_dataset(made.name, tmp_path / "data").train, made.train)


def test_any_change_of_a_hashed_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, ns=(0, 10**18))
    state = check_file(path, md5(b"content"), "")
    require_unchanged(path, state, "")
    os.chmod(path, 0o600)
    with pytest.raises(PactlError, match="has changed"):
        require_unchanged(path, state, "")
    path.unlink()
    with pytest.raises(MissingError, match="cannot be read"):
        require_unchanged(path, state, "")


# --- Pickles that have the right checksum -----------------------------------------------------------------------------


def spelled(module: str, name: str) -> bytes:
    """Return a pickle that looks up a name and calls it with 3."""
    return f"c{module}\n{name}\n(I3\ntR.".encode()


@each_cifar
@pytest.mark.parametrize("hostile", ["trap", "builtins", "dotted"])
def test_a_pickle_with_the_right_checksum_runs_nothing(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile: str
) -> None:
    import torchvision.datasets

    source = getattr(torchvision.datasets, made.name.upper())
    file, _ = source.train_list[0]
    content = {
        "trap": pickle.dumps(Trap(tmp_path / "sprung")),
        "builtins": spelled("builtins", "print"),
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x1bndarray.__class__.__class__\x93.",
    }[hostile]
    monkeypatch.setattr(source, "train_list", [[file, md5(content)], *source.train_list[1:]])
    path = made.write(tmp_path / "data") / f"{source.base_folder}/{file}"
    path.write_bytes(content)
    with pytest.raises(PactlError, match=f"{path} cannot be read: it asks for ") as caught:
        load_dataset(made.name, tmp_path / "data")
    assert "\n" not in caught.value.one_line()
    assert not (tmp_path / "sprung").exists()


GOOD: dict[str, Any] = {"data": np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072), "labels": [3, 9]}


def read(content: bytes) -> Any:
    """Return the examples of a batch with ten classes."""
    return _examples(CheckedFile(Path("batch"), content, ""), 10)


@pytest.mark.parametrize("protocol", range(5))
def test_batches_that_numpy_pickles_today_are_read(protocol: int) -> None:
    assert holds(read(pickle.dumps(GOOD, protocol)), (GOOD["data"].reshape(2, 3, 32, 32), [3, 9]))


@pytest.mark.parametrize(
    "content",
    [
        [],
        None,
        {},
        GOOD | {"data": GOOD["data"].astype(np.int8)},
        GOOD | {"data": GOOD["data"].astype(object)},
        GOOD | {"data": GOOD["data"][:, 1:]},
        GOOD | {"data": GOOD["data"][:1]},
        GOOD | {"data": np.asfortranarray(GOOD["data"])},
        GOOD | {"data": bytes(6144)},
        GOOD | {"labels": [3, 10]},
        GOOD | {"labels": [3, -1]},
        GOOD | {"labels": [3, True]},
        GOOD | {"labels": [3, 2.0]},
        GOOD | {"labels": "39"},
        GOOD | {"labels": 2},
    ],
)
def test_pickles_that_are_no_batch(content: Any) -> None:
    with pytest.raises(PactlError, match="batch cannot be read: it"):
        read(pickle.dumps(content, 2))


# --- Plain files of a sensible size -----------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", [read_checked, check_file])
def test_what_is_no_plain_file_is_not_waited_for(reader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, says in ((tmp_path / "pipe", "plain file"), (Path("/dev/zero"), "plain file"), (tmp_path, "directory")):
        with pytest.raises(PactlError, match=says):
            reader(path, "", "")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(PactlError, match="larger than the largest"):
        reader(tmp_path / "hole", "", "")
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    reader(tmp_path / "link", md5(b"12345"), "")
    monkeypatch.setattr(checked_files, "_LARGEST", 4)
    with pytest.raises(PactlError, match="larger than the largest"):
        reader(tmp_path / "file", "", "")
