"""Reading of arrays: neither a header nor an archive can make the program take much memory."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from copy import copy
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pactl_cli.data.files import arrays
from pactl_cli.data.files.arrays import read_array, read_arrays, stored_arrays
from pactl_cli.data.splits import load_indices
from pactl_cli.errors import PactlError
from pactl_cli.runs.directory import RunDirectory

MB = 1 << 20
ORDER = np.arange(10)


def header(count: int, kind: str = "<i8") -> bytes:
    """Return the beginning of an `.npy` file of a one-dimensional array."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({count},), }}".ljust(117)
    return b"\x93NUMPY\x01\x00v\x00" + text.encode() + b"\n"


def inflating(path: Path, begin: bytes, size: int, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write an archive of one member x.npy that unpacks to `begin` and `size` zeros."""
    with (
        zipfile.ZipFile(path, "w", compression, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(begin)
        for _ in range(size // MB):
            member.write(bytes(MB))
    return path


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """Return an archive of less than a megabyte that holds an array of 128."""
    path = inflating(tmp_path / "bomb.npz", header(128 * MB // 8), 128 * MB)
    assert path.stat().st_size < MB
    return path


@pytest.fixture
def _modest() -> Iterator[None]:
    """Check that the test takes little memory."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MB


# --- Honest files -----------------------------------------------------------------------------------------------------

HONEST = {
    "bytes": np.arange(60, dtype=np.uint8).reshape(3, 4, 5),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.arange(5, dtype=">i4"),
    "a number": np.array(3),
    "none": np.zeros((0, 4), np.float32),
    "long": np.arange(100_000),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_of_arrays_are_read(tmp_path: Path, save: Callable[..., None]) -> None:
    save(tmp_path / "good.npz", **HONEST)
    found = read_arrays(tmp_path / "good.npz")
    assert list(found) == list(HONEST)
    for name, array in HONEST.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert list(read_arrays(tmp_path / "good.npz", ("bytes", "absent"))) == ["bytes"]


@pytest.mark.parametrize("name", HONEST)
def test_an_array_alone_is_read(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "good.npy", HONEST[name])
    np.testing.assert_array_equal(read_arrays(tmp_path / "good.npy")[""], HONEST[name])
    np.testing.assert_array_equal(read_array(tmp_path / "good.npy", lambda header: None), HONEST[name])


# --- Headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_modest")
@pytest.mark.parametrize("claimed", [0, 9, 11, 2**27, 2**60, -10])
@pytest.mark.parametrize("packed", [True, False])
def test_a_header_that_does_not_match_the_bytes_is_refused(tmp_path: Path, claimed: int, packed: bool) -> None:
    content = header(claimed) + ORDER.astype("<i8").tobytes()
    (tmp_path / "bad").write_bytes(content)
    if packed:
        with zipfile.ZipFile(tmp_path / "bad", "w") as archive:
            archive.writestr("x.npy", content)
    with pytest.raises(PactlError, match=f"claims an array of {8 * claimed:,} bytes, but there are 80"):
        read_arrays(tmp_path / "bad")


@pytest.mark.usefixtures("_modest")
def test_a_header_without_end_is_not_read(tmp_path: Path) -> None:
    begin = b"\x93NUMPY\x02\x00" + (64 * MB).to_bytes(4, "little")
    with pytest.raises(PactlError, match="cannot be read: EOF"):
        read_arrays(inflating(tmp_path / "bad.npz", begin, 64 * MB))


@pytest.mark.usefixtures("_modest")
@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_numpy_never_writes_is_not_unpacked(tmp_path: Path, compression: int) -> None:
    """These two unpack at once all that a few bytes hold, however little is asked for."""
    path = tmp_path / "bad.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", header(2 * MB) + bytes(16 * MB))
    tracemalloc.reset_peak()
    with pytest.raises(PactlError, match="compressed in a way"):
        read_arrays(path)


# --- Archives that unpack to more than there is room for --------------------------------------------------------------


@pytest.mark.usefixtures("_modest")
def test_arrays_that_the_memory_cannot_take_are_not_loaded(bomb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "available_memory", lambda: 200 * 10**6)
    with pytest.raises(PactlError, match=r"take 134 MB, more than half of the available memory, 200 MB"):
        read_arrays(bomb)
    assert read_arrays(bomb, ("y",)) == {}, "what nobody wants takes nothing"


def test_arrays_that_the_memory_can_take_are_loaded(bomb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "available_memory", lambda: 270 * 10**6)
    assert read_arrays(bomb)["x"].nbytes == 128 * MB


@pytest.mark.usefixtures("_modest")
def test_an_archive_is_no_permutation_and_not_unpacked(bomb: Path) -> None:
    with pytest.raises(PactlError, match=f"--indices-path {bomb} cannot be read: it was not written by numpy"):
        load_indices(bomb, 10)


@pytest.mark.usefixtures("_modest")
def test_a_permutation_of_another_length_is_not_loaded(tmp_path: Path) -> None:
    with (tmp_path / "order.npy").open("wb") as file:
        file.write(header(128 * MB // 8))
        file.truncate(128 + 128 * MB)
    with pytest.raises(PactlError, match="16,777,216 indices, the training set 10"):
        load_indices(tmp_path / "order.npy", 10)
    np.save(tmp_path / "order.npy", ORDER[::-1])
    assert load_indices(tmp_path / "order.npy", 10).tolist() == ORDER[::-1].tolist()


# --- Run directories --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run directory with indices."""
    run = RunDirectory.create(tmp_path / "run", "train")
    run.write_arrays("indices.npz", {"bound": ORDER})
    return run


@pytest.mark.usefixtures("_modest")
def test_indices_of_a_run_are_not_unpacked(run: RunDirectory, bomb: Path) -> None:
    assert run.read_arrays("indices.npz")["bound"].tolist() == ORDER.tolist()
    bomb.rename(run.path / "indices.npz")
    with pytest.raises(PactlError, match=r"indices\.npz cannot be read: its array x is compressed"):
        run.read_arrays("indices.npz")


def nested(size: int) -> bytes:
    """Return an archive in which one array lies inside another, so that both together are larger than it."""

    def npy(array: Any) -> bytes:
        out = BytesIO()
        np.save(out, array)
        return out.getvalue()

    inner, outer = BytesIO(), BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("b.npy", npy(np.zeros(size, np.int64)))
        local, entry = inner.getvalue(), archive.infolist()[0]
    local += bytes(-len(local) % 8)
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("a.npy", npy(np.frombuffer(local, np.int64)))
        entry = copy(entry)
        entry.header_offset = outer.getvalue().index(local)
        archive.filelist.append(entry)
        archive.NameToInfo[entry.filename] = entry
    return outer.getvalue()


def test_arrays_that_lie_in_each_other_are_refused() -> None:
    assert list(stored_arrays(BytesIO(_plain()), Path("indices.npz"))) == ["a", "b"]
    with pytest.raises(PactlError, match=r"indices\.npz cannot be read: .*overlap"):
        stored_arrays(BytesIO(nested(1000)), Path("indices.npz"))


def _plain() -> bytes:
    out = BytesIO()
    np.savez(out, a=ORDER, b=ORDER)
    return out.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04", header(10) + bytes(80)])
def test_what_is_no_archive_holds_no_indices(run: RunDirectory, content: bytes) -> None:
    (run.path / "indices.npz").write_bytes(content)
    with pytest.raises(PactlError, match=r"indices\.npz cannot be read"):
        run.read_arrays("indices.npz")
    (run.path / "indices.npz").unlink()
    with pytest.raises(PactlError, match=r"indices\.npz is missing"):
        run.read_arrays("indices.npz")
