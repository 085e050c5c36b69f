"""Reading of files with a checksum: each is read once, so that the hashed bytes are the bytes that are used."""

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
"""Limit in bytes: four times the largest file of a published data set."""
_LARGEST_UNPACKED = 1 << 26
"""Limit in bytes for the content of a gzip file: more than the images of MNIST."""
_MD5_DIGITS = 32
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)
"""Opening a named pipe must not wait for a writer."""


@dataclass(frozen=True)
class CheckedFile:
    """The content of a file, which has the right checksum.

    Attributes:
        path: of the file, for messages.
        remedy: what to do if the content is malformed all the same.
    """

    path: Path
    content: bytes
    remedy: str

    def refused(self, reason: object) -> PactlError:
        """Return the error that the content is malformed."""
        return PactlError(f"{self.path} cannot be read: {reason}", self.remedy)


FileState = tuple[int, ...]
"""Identity, size and times of a file. They show a change, because no program can set back the inode's change time."""


def open_file(path: Path) -> BufferedReader:
    """Open a plain file, or the target of a link, to read. A pipe could block, and a device may never end.

    Raises:
        OSError: if it is absent or cannot be read.
        ValueError: if it is not a plain file.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NO_WAITING))  # noqa: SIM115
    if not S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("it is not a plain file")
    return file


def read_checked(path: Path, expected: str, remedy: str) -> CheckedFile:
    """Read a file that must have the md5 or sha256 `expected`, in hexadecimal; "" accepts any.

    Raises:
        MissingError: if it is absent.
        PactlError: if it is unreadable, too large, truncated or altered, with the hint `remedy`.
    """
    try:
        with open_file(path) as file:
            content = file.read(_size(file) + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, remedy) from error
    _compare(path, _hash(expected, content).hexdigest(), expected, remedy)
    return CheckedFile(path, content, remedy)


def read_packed(path: Path, archive: str, expected: str, remedy: str) -> CheckedFile:
    """Read the content of a gzip file. The gzip file must have the checksum `archive`, its content `expected`.

    Raises:
        MissingError, PactlError: as `read_checked` does.
    """
    packed = read_checked(path, archive, remedy)
    try:
        with GzipFile(fileobj=BytesIO(packed.content)) as stream:
            content = stream.read(_LARGEST_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise packed.refused("it is not a gzip file, or is truncated") from error
    if len(content) > _LARGEST_UNPACKED:
        raise packed.refused("it unpacks to more than the largest file of a published data set")
    _compare(path, _hash(expected, content).hexdigest(), expected, remedy)
    return CheckedFile(path, content, remedy)


def check_file(path: Path, expected: str, remedy: str) -> FileState:
    """Check the hash of a file without keeping it in memory, and return the state of the hashed file.

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
    """Raise PactlError unless the file at a path has this state."""
    try:
        now = _state(os.stat(path))
    except OSError as error:
        raise _unreadable(path, error, remedy) from error
    if now != state:
        raise PactlError(f"{path} has changed while it was read", "run the command again when nothing writes to it")


def file_state(file: BufferedReader) -> FileState:
    """Return the state of an open file."""
    return _state(os.fstat(file.fileno()))


def _state(status: os.stat_result) -> FileState:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _hash(expected: str, content: bytes = b"") -> Any:
    """Return the hash of some bytes, of the kind of `expected`."""
    return hashlib.new("md5" if len(expected) == _MD5_DIGITS else "sha256", content, usedforsecurity=False)


def _size(file: BufferedReader) -> int:
    """Return the size of a file in bytes. Raise ValueError if it is too large, as a sparse file can easily be."""
    size = os.fstat(file.fileno()).st_size
    if size > _LARGEST:
        raise ValueError("it is larger than the largest file of a published data set")
    return size


def _compare(path: Path, digest: str, expected: str, remedy: str) -> None:
    if expected not in ("", digest):
        raise PactlError(f"{path} is truncated or altered", remedy)


def _unreadable(path: Path, error: OSError | ValueError, remedy: str) -> PactlError:
    kind = MissingError if isinstance(error, FileNotFoundError) else PactlError
    return kind(f"{path} cannot be read: {reason(error)}", remedy)
