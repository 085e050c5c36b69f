"""How a stage shows that it is at work. What is drawn, and whether, is the command's business."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Advance = Callable[[int, int], None]
"""Called with (done, in all)."""


class Display(Protocol):
    """Where progress goes."""

    def progress(self, title: str) -> AbstractContextManager[Advance]:
        """A bar for the time of the context; call what it gives as the work goes on."""

    def say(self, text: str) -> None:
        """One line for the person who waits."""

    def warn(self, text: str) -> None:
        """One line that is to be read, also where nobody waits."""


class Silence:
    """A display that shows nothing."""

    def progress(self, title: str) -> AbstractContextManager[Advance]:
        """No bar."""
        return nullcontext(lambda done, total: None)

    def say(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""
