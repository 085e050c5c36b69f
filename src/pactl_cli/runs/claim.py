"""One writer at a time in a run directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pactl_cli.errors import PactlError


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Within the context, keep other processes of pactl from writing into a directory.

    The lock, flock(2), is on the directory itself, so no file is left behind. A place that cannot be locked stays
    unlocked: a file system may have no locks, and a missing directory is reported when the run is opened.

    Raises:
        PactlError: if another process has claimed it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield
        return
    try:
        _lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PactlError(
            f"{path} is in use: another pactl writes into it", "wait for it to end, or name another directory"
        ) from None
    except OSError:
        return
