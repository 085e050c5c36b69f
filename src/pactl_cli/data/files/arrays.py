"""Reading of arrays from files: no code is ever loaded, and no array larger than the file or the memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pactl_cli.data.files.capacity import available_memory
from pactl_cli.data.files.checked_files import open_file
from pactl_cli.errors import MissingError, PactlError, reason

_LONGEST_REASON = 200
_LONGEST_START = 10_012
"""Length of magic, version, length and header. Numpy reads a longer header only from files that it is told to trust."""
_ARCHIVE = (b"PK\x03\x04", b"PK\x05\x06")
_KINDS = (ZIP_STORED, ZIP_DEFLATED)
"""The compression types that numpy uses."""
_FOREIGN = "it was not written by numpy, or holds Python objects"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ArrayHeader:
    """The header of an `.npy` file.

    Attributes:
        columns_first: whether the first index changes fastest.
        start: the number of bytes before the numbers.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns_first: bool = False
    start: int = 0

    @property
    def size_bytes(self) -> int:
        """The size of the array in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.shape} {'of Python objects' if self.dtype.hasobject else self.dtype}"


def list_arrays(path: Path) -> dict[str, ArrayHeader]:
    """Return the headers of the arrays of an `.npz` file by name, or that of an `.npy` file under the name "".

    Arrays of Python objects are listed; other members are left out.

    Raises:
        MissingError, PactlError: as `read_arrays` does.
    """
    with explained(path), open_file(path) as file:
        is_archive = file.read(4) in _ARCHIVE
        file.seek(0)
        if not is_archive:
            return {"": _claimed(file)}
        found = {}
        with ZipFile(file) as archive:
            members = _named(archive)
            _require_kinds(members)
            for name, member in members.items():
                with suppress(ValueError), archive.open(member) as content:
                    found[name] = _claimed(content)
        return found


def read_arrays(path: Path, names: tuple[str, ...] | None = None) -> Arrays:
    """Return the arrays of an `.npz` file by name, or that of an `.npy` file under the name "".

    Args:
        names: the arrays to read, if they are there; None for all.

    Raises:
        MissingError: if there is no such file.
        PactlError: if it is truncated, altered, or holds Python objects, or if its arrays would take more than half of
            the available memory.
    """
    with explained(path), open_file(path) as file:
        is_archive = file.read(4) in _ARCHIVE
        file.seek(0)
        return _members(file, names) if is_archive else {"": _only_array(file)}


def read_array(path: Path, accept: Callable[[ArrayHeader], None]) -> NDArray[Any]:
    """Return the array of an `.npy` file.

    Args:
        accept: called before the array is loaded; raises an error to refuse it.

    Raises:
        MissingError, PactlError: as `read_arrays` does, or if the file is an archive.
    """
    with explained(path), open_file(path) as file:
        return _only_array(file, accept)


def stored_arrays(file: IO[bytes], path: Path) -> Arrays:
    """Return all arrays of an `.npz` file. Members must not be compressed, so that they are no larger than the file.

    Args:
        path: of the file, for messages.

    Raises:
        PactlError: as `read_arrays` does, or if a member is compressed.
    """
    with explained(path):
        return _members(file, uncompressed=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn any exception from reading a file into an error with the path and the reason."""
    try:
        yield
    except PactlError:
        raise
    except FileNotFoundError as error:
        raise MissingError(f"{path} cannot be read: there is no such file") from error
    except Exception as error:  # a hostile file makes numpy and zipfile raise almost anything
        why = reason(error) or type(error).__name__
        raise PactlError(f"{path} cannot be read: {why[:_LONGEST_REASON]}") from error


def _only_array(file: IO[bytes], accept: Callable[[ArrayHeader], None] = lambda _: None) -> NDArray[Any]:
    header = _header(file, _size_bytes(file))
    accept(header)
    _require_memory(header.size_bytes)
    file.seek(0)
    return _array(file)


def _members(file: IO[bytes], names: tuple[str, ...] | None = None, *, uncompressed: bool = False) -> Arrays:
    """Return the arrays of an archive, after all of their headers have been checked."""
    with ZipFile(file) as archive:
        wanted = {name: member for name, member in _named(archive).items() if names is None or name in names}
        _require_kinds(wanted, (ZIP_STORED,) if uncompressed else _KINDS)
        if uncompressed and sum(member.file_size for member in wanted.values()) > _size_bytes(file):
            raise ValueError("its arrays overlap")
        _require_memory(sum(_member_header(archive, member).size_bytes for member in wanted.values()))
        return {name: _member(archive, member) for name, member in wanted.items()}


def _require_kinds(members: dict[str, ZipInfo], kinds: tuple[int, ...] = _KINDS) -> None:
    """Raise ValueError if a member is compressed in another way: some ways unpack a few bytes to any size at once."""
    if odd := [name for name, member in members.items() if member.compress_type not in kinds]:
        raise ValueError(f"its array {odd[0]} is compressed in a way that numpy does not use here")


def _named(archive: ZipFile) -> dict[str, ZipInfo]:
    return {member.filename.removesuffix(".npy"): member for member in archive.infolist()}


def _member_header(archive: ZipFile, member: ZipInfo) -> ArrayHeader:
    with archive.open(member) as file:
        return _header(file, member.file_size)


def _member(archive: ZipFile, member: ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        return _array(file)


def _claimed(file: IO[bytes]) -> ArrayHeader:
    """Return the header of an `.npy` file, unchecked."""
    start = BytesIO(file.read(_LONGEST_START))
    if not start.getvalue().startswith(npy.MAGIC_PREFIX):
        raise ValueError(_FOREIGN)
    version = npy.read_magic(start)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"its format {version[0]}.{version[1]} is not one for numbers")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, columns_first, dtype = read_header(start)
    return ArrayHeader(shape, dtype, columns_first, start.tell())


def _header(file: IO[bytes], size_bytes: int) -> ArrayHeader:
    """Return the header of an `.npy` file of this size, which must hold exactly the array that the header claims."""
    header = _claimed(file)
    if header.dtype.hasobject:
        raise ValueError(_FOREIGN)
    if not header.dtype.itemsize or header.size_bytes != size_bytes - header.start:
        raise ValueError(
            f"its header claims an array of {header.size_bytes:,} bytes, but there are {size_bytes - header.start:,}"
        )
    return header


def _array(file: IO[bytes]) -> NDArray[Any]:
    array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array


def _require_memory(size_bytes: int) -> None:
    """Raise ValueError if arrays of this size would take more than half of the available memory."""
    available = available_memory()
    if size_bytes > available // 2:
        raise ValueError(
            f"its arrays take {size_bytes / 1e6:,.0f} MB, more than half of the available memory, "
            f"{available / 1e6:,.0f} MB"
        )


def _size_bytes(file: IO[bytes]) -> int:
    place = file.tell()
    size = file.seek(0, 2)
    file.seek(place)
    return size
