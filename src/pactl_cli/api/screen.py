"""The display of Python callers: a terminal or a notebook."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from html import escape
from typing import Any

from rich.console import Console

from pactl_cli.api.keywords import translated
from pactl_cli.errors import on_one_line
from pactl_cli.problem.bars import bar_on
from pactl_cli.problem.display import Bar, Silence

_EVERY_SECONDS = 0.25


class Screen:
    """A display that issues Python warnings, and shows bars on a terminal or in a notebook.

    Args:
        progress: whether to show bars; None shows them if there is a terminal or a notebook.
    """

    def __init__(self, progress: bool | None) -> None:
        self._console = Console(stderr=True)
        self._is_notebook = _is_notebook()
        self._shows = (self._is_notebook or self._console.is_terminal) if progress is None else progress

    def progress(self, title: str) -> AbstractContextManager[Bar]:
        """Return a bar, which shows nothing if bars are off."""
        if not self._shows:
            return Silence().progress(title)
        return _bar_in_notebook(title) if self._is_notebook else bar_on(self._console, title)

    def say(self, text: str) -> None:
        """Print one line to stderr, if bars are on."""
        if self._shows:
            print(on_one_line(text), file=sys.stderr)

    def warn(self, text: str) -> None:
        """Issue a Python warning."""
        warnings.warn(translated(on_one_line(text)), UserWarning, stacklevel=2)


def _is_notebook() -> bool:
    """Return whether this process is a notebook's kernel."""
    found: Any = sys.modules.get("IPython")
    shell = found and found.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def _bar_in_notebook(title: str) -> Iterator[Bar]:
    """Yield a bar below a cell, which disappears at the end; it needs IPython alone."""
    from IPython.display import HTML, display

    html: Callable[[str], Any] = HTML
    shown: Any = display(html(""), display_id=True)  # type: ignore[no-untyped-call]
    last = 0.0

    def advance(done: int, total: int, note: str = "") -> None:
        nonlocal last
        if time.monotonic() - last < _EVERY_SECONDS:
            return
        last = time.monotonic()
        size = f' max="{total:d}" value="{done:d}"' if total else ""
        text = escape(note or f"{done:,}/{total:,}")
        shown.update(html(f"<div>{escape(title)} <progress{size}></progress> {text}</div>"))

    try:
        yield advance
    finally:
        shown.update(html(""))
