"""The display of a stage on a terminal: progress, sentences and one-line complaints, all on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from pactl_cli.commands.layout import columns, wrapped
from pactl_cli.errors import on_one_line
from pactl_cli.problem.bars import bar_on
from pactl_cli.processes.heap import keep_freed_memory
from pactl_cli.processes.threads import sleep_soon

if TYPE_CHECKING:
    from pactl_cli.problem.display import Bar


class Terminal:
    """A stage's display on stderr; bars and remarks appear only on a terminal."""

    def __init__(self) -> None:
        self._console = _console()

    def progress(self, title: str) -> AbstractContextManager[Bar]:
        """Return a progress bar, which only a terminal shows."""
        return bar_on(self._console, title)

    def say(self, text: str) -> None:
        """Print a sentence, if stderr is a terminal."""
        if self._console.is_terminal:
            self._console.print(Text("\n".join(wrapped(text, columns(sys.stderr)))), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a note, also if stderr is no terminal."""
        complain(f"note: {text}")


def _console() -> Console:
    """Return stderr; FORCE_COLOR, which many a CI sets, makes no terminal of a file."""
    return Console(stderr=True, force_terminal=sys.stderr.isatty())


def complain(text: str) -> None:
    """Print a sentence on stderr: one line, or on a terminal as many as it needs, no word or command broken."""
    print("\n".join(wrapped(f"pactl: {on_one_line(text)}", columns(sys.stderr))), file=sys.stderr)


@contextmanager
def starting() -> Iterator[None]:
    """Prepare for a stage, and show on a terminal that PyTorch is being loaded, which takes seconds."""
    keep_freed_memory()
    sleep_soon()
    console = _console()
    with console.status("loading PyTorch") if console.is_terminal else nullcontext():
        yield
