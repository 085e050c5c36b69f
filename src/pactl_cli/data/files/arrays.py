"""Arrays from files, without ever loading code, and never larger than what the file holds and the memory can take."""

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
"""Magic, version, length and header: numpy reads a longer header only from those whom it is told to trust."""
_ARCHIVE = (b"PK\x03\x04", b"PK\x05\x06")
_KINDS = (ZIP_STORED, ZIP_DEFLATED)
"""How numpy writes the members of an archive."""
_FOREIGN = "it is not made by numpy, or holds Python objects"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ArrayHeader:
    """What the header of an `.npy` file says of its array.

    Attributes:
        columns_first: whether the first index changes fastest.
        start: how many bytes of the `.npy` file are before the numbers.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns_first: bool = False
    start: int = 0

    @property
    def size_bytes(self) -> int:
        """What the array takes."""
        return prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.shape} {'of Python objects' if self.dtype.hasobject else self.dtype}"


def list_arrays(path: Path) -> dict[str, ArrayHeader]:
    """The headers of what an `.npz` file holds, by name, also of arrays of Python objects; of an `.npy` file its only
    one, as "". What is no array is left out.

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
    """The arrays of an `.npz` file by name, all or those of `names` that it has; of an `.npy` file its only one, as "".

    Raises:
        MissingError: if there is no such file.
        PactlError: if it is truncated, altered, or holds Python objects, or if its arrays would take more than half of
            the memory that is available.
    """
    with explained(path), open_file(path) as file:
        is_archive = file.read(4) in _ARCHIVE
        file.seek(0)
        return _members(file, names) if is_archive else {"": _only_array(file)}


def read_array(path: Path, accept: Callable[[ArrayHeader], None]) -> NDArray[Any]:
    """The array of an `.npy` file.

    Args:
        accept: called before the array is loaded; raises if it is not to be.

    Raises:
        MissingError, PactlError: as `read_arrays` does, or if it is an archive.
    """
    with explained(path), open_file(path) as file:
        return _only_array(file, accept)


def stored_arrays(file: IO[bytes], path: Path) -> Arrays:
    """All arrays of an `.npz` file, whose members must not be compressed, so that they take no more than the file.

    Args:
        path: of the file, for people.

    Raises:
        PactlError: as `read_arrays` does, or if a member is compressed.
    """
    with explained(path):
        return _members(file, uncompressed=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns whatever a file makes Python raise into an error with its path and a reason."""
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
    """The arrays of an archive, loaded once all of their headers are known to be right."""
    with ZipFile(file) as archive:
        wanted = {name: member for name, member in _named(archive).items() if names is None or name in names}
        _require_kinds(wanted, (ZIP_STORED,) if uncompressed else _KINDS)
        if uncompressed and sum(member.file_size for member in wanted.values()) > _size_bytes(file):
            raise ValueError("its arrays overlap")
        _require_memory(sum(_member_header(archive, member).size_bytes for member in wanted.values()))
        return {name: _member(archive, member) for name, member in wanted.items()}


def _require_kinds(members: dict[str, ZipInfo], kinds: tuple[int, ...] = _KINDS) -> None:
    """Raise ValueError if a member is compressed in another way: some give all that a few bytes unpack to at once."""
    if odd := [name for name, member in members.items() if member.compress_type not in kinds]:
        raise ValueError(f"its array {odd[0]} is compressed in a way that does not belong here")


def _named(archive: ZipFile) -> dict[str, ZipInfo]:
    return {member.filename.removesuffix(".npy"): member for member in archive.infolist()}


def _member_header(archive: ZipFile, member: ZipInfo) -> ArrayHeader:
    with archive.open(member) as file:
        return _header(file, member.file_size)


def _member(archive: ZipFile, member: ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        return _array(file)


def _claimed(file: IO[bytes]) -> ArrayHeader:
    """The header of an `.npy` file, unchecked."""
    start = BytesIO(file.read(_LONGEST_START))
    if not start.getvalue().startswith(npy.MAGIC_PREFIX):
        raise ValueError(_FOREIGN)
    version = npy.read_magic(start)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"its format {version[0]}.{version[1]} is not one for numbers")
    said = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(start)
    shape, columns_first, dtype = said
    return ArrayHeader(shape, dtype, columns_first, start.tell())


def _header(file: IO[bytes], size_bytes: int) -> ArrayHeader:
    """The header of an `.npy` file of that size, which must have as many bytes left as the header says."""
    header = _claimed(file)
    if header.dtype.hasobject:
        raise ValueError(_FOREIGN)
    if not header.dtype.itemsize or header.size_bytes != size_bytes - header.start:
        raise ValueError(
            f"its header promises an array of {header.size_bytes:,} bytes, and there are {size_bytes - header.start:,}"
        )
    return header


def _array(file: IO[bytes]) -> NDArray[Any]:
    array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array


def _require_memory(size_bytes: int) -> None:
    """Raise ValueError if arrays of that size would take more than half of the memory that is available."""
    available = available_memory()
    if size_bytes > available // 2:
        raise ValueError(
            f"its arrays take {size_bytes / 1e6:,.0f} MB, which is more than half of the memory that is available, "
            f"{available / 1e6:,.0f} MB"
        )


def _size_bytes(file: IO[bytes]) -> int:
    place = file.tell()
    size = file.seek(0, 2)
    file.seek(place)
    return size
