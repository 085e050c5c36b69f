"""The callback by which long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total): images read, bytes downloaded, or steps made."""


def unheard(done: int, total: int) -> None:
    """Ignore the progress."""
