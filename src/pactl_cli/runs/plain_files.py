"""Safe reading of files that may be a stranger's: no link, no pipe, no more bytes than allowed."""

from __future__ import annotations

import os
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG

from pactl_cli.errors import PactlError

_LARGEST_WITH_HOLES, _BLOCK = 1 << 26, 512
"""Bytes: a file up to the first size may have holes; a larger one takes at least a quarter of its size on the disk."""
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Flags with which opening a named pipe does not wait for a writer."""


def open_plain_file(path: Path) -> BufferedReader:
    """Open a file for reading.

    Raises:
        OSError: if there is none, or it cannot be read.
        ValueError: if it is a link, a pipe or a device.
    """
    if path.is_symlink():
        raise ValueError("it is a link")
    file = os.fdopen(os.open(path, _FLAGS), "rb")
    if not S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("it is not a plain file")
    return file


def read_plain_file(path: Path, limit: int) -> bytes:
    """Return the bytes of a plain file.

    Raises:
        OSError, ValueError: as `open_plain_file` does, or if it is larger than `limit` bytes.
    """
    with open_plain_file(path) as file:
        status = os.fstat(file.fileno())
        if status.st_size > limit:
            raise ValueError("it is larger than any that pactl writes")
        if has_holes(status):
            raise ValueError("it has holes, and would take more memory than it takes on the disk")
        data = file.read(status.st_size + 1)  # allocates no more than the size, even if the file grows meanwhile
    if len(data) > limit:
        raise ValueError("it is larger than any that pactl writes")
    return data


def bytes_on_disk(status: os.stat_result) -> int:
    """Return the bytes that a file takes on the disk: its size, or less if it has holes."""
    return min(status.st_size, _BLOCK * getattr(status, "st_blocks", status.st_size))


def has_holes(status: os.stat_result) -> bool:
    """Return whether a large file takes far less on the disk than it would in memory."""
    return status.st_size > _LARGEST_WITH_HOLES and bytes_on_disk(status) < status.st_size // 4


def require_no_folder(path: Path) -> None:
    """Raise PactlError if a folder stands where a file is to be written."""
    if path.is_dir() and not path.is_symlink():
        raise PactlError(f"{path} is a folder, not a file", "remove it")
