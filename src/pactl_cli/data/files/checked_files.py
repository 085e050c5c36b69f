"""Files with a checksum: each is read once, so that the bytes that were hashed are the bytes that are used."""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from gzip import GzipFile
from io import BufferedReader, BytesIO
from pathlib import Path
from stat import S_ISREG
from typing import Any

from pactl_cli.errors import MissingError, PactlError, reason

_LARGEST = 1 << 30
"""In bytes: four times the largest file of a published data set."""
_LARGEST_UNPACKED = 1 << 26
"""In bytes, of what lies in a gzip file: more than the images of MNIST."""
_MD5_DIGITS = 32
_OPEN_AT_ONCE = getattr(os, "O_NONBLOCK", 0)
"""Opening a named pipe must not wait for somebody to write."""


@dataclass(frozen=True)
class CheckedFile:
    """A file's bytes, which have the right checksum.

    Attributes:
        path: where they lay, for people.
        remedy: what to do if they are no data all the same.
    """

    path: Path
    content: bytes
    remedy: str

    def refused(self, reason: object) -> PactlError:
        """The error that the content is not what it should be."""
        return PactlError(f"{self.path} cannot be read: {reason}", self.remedy)


FileState = tuple[int, ...]
"""What tells that a file is still the same and as it was. No program can set back the time of its last change."""


def open_file(path: Path) -> BufferedReader:
    """Open a file to read, or what a link leads to; never a pipe, which could wait, or a device, which may not end.

    Raises:
        OSError: if there is none, or it cannot be read.
        ValueError: if it is not a plain file.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _OPEN_AT_ONCE))  # noqa: SIM115
    if not S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("it is not a plain file")
    return file


def read_checked(path: Path, expected: str, remedy: str) -> CheckedFile:
    """Read a file that must have the md5 or sha256 `expected`, in hexadecimal; "" is any.

    Raises:
        MissingError: if it is not there.
        PactlError: if it is unreadable, too large, truncated or altered; `remedy` says what to do.
    """
    try:
        with open_file(path) as file:
            content = file.read(_size(file) + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, remedy) from error
    _compare(path, _hash(expected, content).hexdigest(), expected, remedy)
    return CheckedFile(path, content, remedy)


def read_packed(path: Path, archive: str, expected: str, remedy: str) -> CheckedFile:
    """Read a file that lies in a gzip file with the checksum `archive`, and must itself have `expected`; "" is any.

    Raises:
        MissingError, PactlError: as `read_checked` does.
    """
    packed = read_checked(path, archive, remedy)
    try:
        with GzipFile(fileobj=BytesIO(packed.content)) as stream:
            content = stream.read(_LARGEST_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise packed.refused("it is no gzip file, or not all of one") from error
    if len(content) > _LARGEST_UNPACKED:
        raise packed.refused("it unpacks to more than any file of a published data set")
    _compare(path, _hash(expected, content).hexdigest(), expected, remedy)
    return CheckedFile(path, content, remedy)


def check_file(path: Path, expected: str, remedy: str) -> FileState:
    """Hash a file that is not kept in memory, and return the state that the hashed file was in.

    Raises:
        MissingError, PactlError: as `read_checked` does.
    """
    try:
        with open_file(path) as file:
            _size(file)
            state = file_state(file)
            digest = hashlib.file_digest(file, lambda: _hash(expected))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, remedy) from error
    _compare(path, digest.hexdigest(), expected, remedy)
    return state


def require_unchanged(path: Path, state: FileState, remedy: str) -> None:
    """Raise PactlError unless the file at a path is the one that had that state, and still has it."""
    try:
        now = _state(os.stat(path))
    except OSError as error:
        raise _unreadable(path, error, remedy) from error
    if now != state:
        raise PactlError(f"{path} has changed while it was read", "run the command again when nobody writes to it")


def file_state(file: BufferedReader) -> FileState:
    """Return the state of an open file."""
    return _state(os.fstat(file.fileno()))


def _state(status: os.stat_result) -> FileState:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _hash(expected: str, content: bytes = b"") -> Any:
    """The hash of some bytes, of the kind that `expected` is."""
    return hashlib.new("md5" if len(expected) == _MD5_DIGITS else "sha256", content, usedforsecurity=False)


def _size(file: BufferedReader) -> int:
    """The size of a file in bytes. A hole of a terabyte takes no space on the disk, but hours to read."""
    size = os.fstat(file.fileno()).st_size
    if size > _LARGEST:
        raise ValueError("it is larger than any file of a published data set")
    return size


def _compare(path: Path, digest: str, expected: str, remedy: str) -> None:
    if expected not in ("", digest):
        raise PactlError(f"{path} is truncated or altered", remedy)


def _unreadable(path: Path, error: OSError | ValueError, remedy: str) -> PactlError:
    kind = MissingError if isinstance(error, FileNotFoundError) else PactlError
    return kind(f"{path} cannot be read: {reason(error)}", remedy)
