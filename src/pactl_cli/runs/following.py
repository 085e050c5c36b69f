"""Run directories that write nothing, or that pass on their metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pactl_cli.runs.directory import RunDirectory


class FollowedRun(RunDirectory):
    """The run directory of a process other than rank 0: it keeps the manifest in memory and never writes."""

    def write_bytes(self, name: str, data: bytes) -> None: ...

    def append_metrics(self, record: dict[str, Any]) -> None: ...

    def keep_metrics(self, keep: Callable[[dict[str, Any]], bool]) -> None: ...

    def clear(self) -> None: ...

    def sweep(self) -> None: ...

    def remove(self, name: str) -> None: ...

    def remove_resume(self) -> None: ...


class ToldRun(RunDirectory):
    """A run directory that passes each record of metrics to a listener once it is written."""

    def __init__(self, run: RunDirectory, listener: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(run.path, run.manifest)
        self._listener = listener

    def append_metrics(self, record: dict[str, Any]) -> None:
        super().append_metrics(record)
        self._listener(record)
