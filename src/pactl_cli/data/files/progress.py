"""How whoever works tells how far he is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, in all): images read, bytes fetched, or steps made."""


def unheard(done: int, total: int) -> None:
    """For those who do not want to know."""
