"""How a loader tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, in all): images read, or bytes fetched."""


def unheard(done: int, total: int) -> None:
    """For those who do not want to know."""
