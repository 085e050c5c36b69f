"""How a stage shows that it is at work. What is drawn, and whether, is the command's business."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Bar(Protocol):
    """Shows how far some work is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show how many of how many steps are made; a note takes the place of the numbers."""


class Display(Protocol):
    """Where progress goes."""

    def progress(self, title: str) -> AbstractContextManager[Bar]:
        """Return a bar for the time of the context; call what it gives as the work goes on."""

    def say(self, text: str) -> None:
        """One line for the person who waits."""

    def warn(self, text: str) -> None:
        """One line that is to be read, also where nobody waits."""


class Silence:
    """A display that shows nothing."""

    def progress(self, title: str) -> AbstractContextManager[Bar]:
        """No bar."""
        return nullcontext(_unseen)

    def say(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""


def _unseen(done: int, total: int, note: str = "") -> None:
    """Show nothing."""
