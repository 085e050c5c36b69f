"""How a stage reports progress; the command decides what is drawn."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Bar(Protocol):
    """A function that shows how far some work has come."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` steps are made, or a note in place of these numbers."""


class Display(Protocol):
    """The receiver of progress and messages."""

    def progress(self, title: str) -> AbstractContextManager[Bar]:
        """Return a context that yields a bar, to be called as the work goes on."""

    def say(self, text: str) -> None:
        """Show a line to the person who waits."""

    def warn(self, text: str) -> None:
        """Show a line that must be read, even if nobody waits."""


class Silence:
    """A display that shows nothing."""

    def progress(self, title: str) -> AbstractContextManager[Bar]:
        return nullcontext(lambda done, total, note="": None)

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...
