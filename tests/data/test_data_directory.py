"""A data directory that must not be written: existing data are used, absent data are missing, and nothing changes."""

from __future__ import annotations

import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pactl_cli import catalogue
from pactl_cli.data.files import decoded_cache
from pactl_cli.data.loading import load_dataset
from pactl_cli.errors import MissingError, PactlError

RNG = np.random.default_rng(0)
FETCHED = [
    name for name, row in catalogue.DATASETS.items() if not (row.package or row.takes_path or name == "imagenet")
]

each = pytest.mark.parametrize("made", ["fmnist", "cifar10", "svhn", "tiny-imagenet"], indirect=True)


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cache keep files that were just written."""
    monkeypatch.setattr(decoded_cache, "_SETTLED_SECONDS", -60.0)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record the addresses of all connections, and let none succeed."""
    addresses: list[Any] = []

    def refuse(_: socket.socket, address: Any) -> None:
        addresses.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: refuse(None, host))  # type: ignore[arg-type]
    return addresses


def state(place: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return the mode, the time of change and the content of everything below a directory."""
    found = {str(path): path for path in (place, *place.rglob("*"))} if place.exists() else {}
    return {
        name: (path.lstat().st_mode, path.lstat().st_ctime_ns, path.read_bytes() if path.is_file() else b"")
        for name, path in found.items()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images in each of two classes."""
    for label in ("cat", "dog"):
        (tmp_path / "data" / "mine" / "train" / label).mkdir(parents=True)
        for number in range(2):
            image = Image.fromarray(RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8))
            image.save(tmp_path / "data" / "mine" / "train" / label / f"{number}.png")
    return tmp_path / "data" / "mine"


def test_a_folder_is_read_without_being_kept(folder: Path) -> None:
    data = folder.parent
    before = state(data)
    read = load_dataset(f"folder:{folder}", data, may_write=False)
    assert state(data) == before
    kept = load_dataset(f"folder:{folder}", data)
    assert state(data) != before, "who may write keeps what was decoded"
    assert read.train.sha256() == kept.train.sha256()


def test_what_others_have_kept_is_used_and_not_cleared_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = folder.parent
    first = load_dataset(f"folder:{folder}", data)
    before = state(data)
    with monkeypatch.context() as patch:
        patch.setattr("pactl_cli.data.files.pictures.Pictures.read", None)
        assert load_dataset(f"folder:{folder}", data, may_write=False).train.sha256() == first.train.sha256()
    (folder / "train" / "cat" / "0.png").unlink()
    before = state(data)
    assert len(load_dataset(f"folder:{folder}", data, may_write=False).train) == 3
    assert state(data) == before


@pytest.mark.parametrize("name", FETCHED)
@pytest.mark.parametrize("exists", [True, False])
def test_what_is_absent_is_not_fetched(tmp_path: Path, connections: list[Any], name: str, exists: bool) -> None:
    data = tmp_path / "data"
    if exists:
        data.mkdir()
    before = state(tmp_path)
    with pytest.raises(
        MissingError, match=f"^{name} is not in {data}.*, and this command downloads nothing$"
    ) as caught:
        load_dataset(name, data, may_write=False)
    assert "--data-dir" in caught.value.hint
    assert f"pactl train --dataset {name}" in caught.value.hint
    assert state(tmp_path) == before
    assert not connections
    with pytest.raises(MissingError, match="cannot be downloaded"):
        load_dataset(name, data)
    assert connections, "who may write asks for it"


@each
def test_what_is_there_is_read(made: Any, tmp_path: Path, connections: list[Any]) -> None:
    made.write(tmp_path)
    before = state(tmp_path)
    data = load_dataset(made.name, tmp_path, may_write=False)
    np.testing.assert_array_equal(data.train.resident().images.numpy(), made.train[0])
    assert state(tmp_path) == before
    path = tmp_path / next(iter(made.layout))
    path.write_bytes(path.read_bytes()[:-1])
    before = state(tmp_path)
    with pytest.raises(PactlError, match=str(path)):
        load_dataset(made.name, tmp_path, may_write=False)
    assert state(tmp_path) == before
    assert not connections


def test_imagenet_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imagenet").mkdir()
    with tarfile.open(tmp_path / "imagenet" / "ILSVRC2012_img_train.tar", "w"):
        pass
    unpacked: list[Any] = []
    monkeypatch.setattr("pactl_cli.data.published.imagenet._unpack", _unpacking(unpacked))
    before = state(tmp_path)
    with pytest.raises(MissingError, match="this command unpacks nothing") as caught:
        load_dataset("imagenet", tmp_path, may_write=False)
    assert "pactl train --dataset imagenet" in caught.value.hint
    assert state(tmp_path) == before
    assert not unpacked
    with pytest.raises(PactlError, match="cannot be unpacked here"):
        load_dataset("imagenet", tmp_path)
    assert unpacked == [(tmp_path / "imagenet", "train")]


def _unpacking(calls: list[Any]) -> Callable[[Path, str], None]:
    """Return a stand-in for the function that unpacks, which records its calls."""

    def unpack(root: Path, part: str) -> None:
        calls.append((root, part))
        raise PactlError("cannot be unpacked here")

    return unpack
