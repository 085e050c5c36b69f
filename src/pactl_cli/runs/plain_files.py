"""Files of a run directory that may be a stranger's: read whole, but never through a link, a pipe or without end."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Opening a named pipe must not wait for somebody to write."""


def read_plain_file(path: Path, limit: int) -> bytes:
    """The bytes of a file, which must lie where its name says.

    Raises:
        OSError: if there is none, or it cannot be read.
        ValueError: if it is a link, a pipe or a device, or larger than `limit` bytes.
    """
    if path.is_symlink():
        raise ValueError("it is a link")
    with os.fdopen(os.open(path, _FLAGS), "rb") as file:
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a plain file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError("it is larger than any that pactl writes")
    return data
