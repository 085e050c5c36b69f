"""A progress bar on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

if TYPE_CHECKING:
    from pactl_cli.problem.display import Bar


@contextmanager
def bar_on(console: Console, title: str) -> Iterator[Bar]:
    """Yield a progress bar with the time that is left; it shows nothing unless the console is a terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[note]}", markup=False),
        _Left(),
    )
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(title, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            bars.update(task, completed=done, total=total or None, note=note or f"{done:,}/{total:,}")

        yield advance


class _Left(ProgressColumn):
    """A column with the time that is left, if it is known."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return `0:01:02 left`."""
        seconds = task.time_remaining
        return Text("" if seconds is None else f"{timedelta(seconds=round(seconds))} left")
