"""Files of a run directory that may be a stranger's: read whole, but never through a link, a pipe or without end."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

_LARGEST_WITH_HOLES, _BLOCK = 1 << 26, 512
"""In bytes: a small file may have holes, a large one takes at least a quarter of its size on the disk."""
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Opening a named pipe must not wait for somebody to write."""


def open_plain_file(path: Path) -> BinaryIO:
    """A file to read, which must lie where its name says.

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
    """The bytes of such a file.

    Raises:
        OSError, ValueError: as `open_plain_file` does, or if it is larger than `limit` bytes.
    """
    with open_plain_file(path) as file:
        status = os.fstat(file.fileno())
        if status.st_size > limit:
            raise ValueError("it is larger than any that pactl writes")
        if has_holes(status):
            raise ValueError("it has holes, and would take more memory than it takes on the disk")
        data = file.read(status.st_size + 1)  # as much is set aside at once
    if len(data) > limit:
        raise ValueError("it is larger than any that pactl writes")
    return data


def bytes_on_disk(status: os.stat_result) -> int:
    """What a file takes on the disk: its size, or less where it has holes."""
    return min(status.st_size, _BLOCK * getattr(status, "st_blocks", status.st_size))


def has_holes(status: os.stat_result) -> bool:
    """Whether a large file takes far less on the disk than it would in memory."""
    return status.st_size > _LARGEST_WITH_HOLES and bytes_on_disk(status) < status.st_size // 4
