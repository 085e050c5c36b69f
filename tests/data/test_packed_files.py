"""MNIST and Fashion-MNIST from the .gz files that users download."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pactl_cli.data.loading import load_dataset
from pactl_cli.data.published import idx_files as loaders
from pactl_cli.errors import MissingError, PactlError


@pytest.fixture(params=["mnist", "fmnist"])
def raw(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    idx_files: Any,
    published: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Return the directory of a small data set that has only its archives."""
    random = np.random.default_rng(0)
    parts = [(random.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8), np.arange(n) % 10) for n in (60, 20)]
    class_name = {"mnist": "MNIST", "fmnist": "FashionMNIST"}[request.param]
    made = published(idx_files(request.param, class_name, *parts))
    folder = made.write(tmp_path) / class_name / "raw"
    digests = {}
    for archive in folder.glob("*.gz"):
        file = archive.with_suffix("")
        digests[file.name] = sha256(file.read_bytes()).hexdigest()
        file.unlink()
    monkeypatch.setattr(loaders, "MNIST_SHA256", {name: digests[name] for name in loaders.MNIST_SHA256})
    return Path(folder)


def name_of(raw: Path) -> str:
    return {"MNIST": "mnist", "FashionMNIST": "fmnist"}[raw.parent.name]


def load(raw: Path, *, may_write: bool = False) -> Any:
    return load_dataset(name_of(raw), raw.parents[1], may_write=may_write)


def test_archives_alone_are_read_and_nothing_is_written(raw: Path) -> None:
    before = sorted(raw.iterdir())
    dataset = load(raw)
    assert (len(dataset.train), len(dataset.test), dataset.train.images.float().std() > 70) == (60, 20, True)
    assert sorted(raw.iterdir()) == before
    for archive in before[:2]:  # some of them unpacked, and some in both forms
        archive.with_suffix("").write_bytes(gzip.decompress(archive.read_bytes()))
    before[0].unlink()
    assert load(raw).train.sha256() == dataset.train.sha256()


def test_an_archive_made_anew_is_known_by_what_it_holds(raw: Path) -> None:
    for archive in raw.iterdir():
        archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()), 9, mtime=1))
    if name_of(raw) == "mnist":
        assert len(load(raw).train) == 60
    else:  # only of its archives are checksums known
        with pytest.raises(PactlError, match="is truncated or altered"):
            load(raw)


@pytest.mark.parametrize("fault", ["truncated", "altered", "another file", "other content", "a bomb", "missing"])
def test_a_bad_archive_is_named(raw: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = raw / "t10k-labels-idx1-ubyte.gz"
    packed = archive.read_bytes()
    content = gzip.decompress(packed)
    bad = {
        "truncated": packed[:-9],
        "altered": packed[:-1] + bytes([packed[-1] ^ 1]),
        "another file": b"<html>",
        "other content": gzip.compress(content[:-1] + b"\3"),
        "a bomb": gzip.compress(content + bytes(1 << 20)),
    }
    monkeypatch.setattr("pactl_cli.data.files.checked_files._LARGEST_UNPACKED", 1 << 18)
    if fault == "missing":
        archive.unlink()
    else:
        archive.write_bytes(bad[fault])
    with pytest.raises(PactlError, match=str(archive.with_suffix(""))) as caught:
        load(raw, may_write=True)
    assert isinstance(caught.value, MissingError) == (fault == "missing")
    assert "downloaded again" in caught.value.hint
