"""How a stage shows that it is at work. What is drawn, and whether, is the command's business."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from pactl_cli.data.files.progress import Progress, unheard


class Display(Protocol):
    """Where progress goes."""

    def progress(self, title: str) -> AbstractContextManager[Progress]:
        """Return a bar for the time of the context; call what it gives as the work goes on."""

    def say(self, text: str) -> None:
        """One line for the person who waits."""

    def warn(self, text: str) -> None:
        """One line that is to be read, also where nobody waits."""


class Silence:
    """A display that shows nothing."""

    def progress(self, title: str) -> AbstractContextManager[Progress]:
        """No bar."""
        return nullcontext(unheard)

    def say(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""
