"""A run directory as seen by a process that leaves all writing to another, and one that somebody listens to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pactl_cli.runs.directory import RunDirectory


class FollowedRun(RunDirectory):
    """What rank 0 writes, the other processes only remember: the disk is never touched."""

    def write_bytes(self, name: str, data: bytes) -> None:
        """Nothing."""

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Nothing."""

    def keep_metrics(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Nothing."""

    def clear(self) -> None:
        """Nothing."""

    def sweep(self) -> None:
        """Nothing."""

    def remove(self, name: str) -> None:
        """Nothing."""

    def remove_resume(self) -> None:
        """Nothing."""


class ToldRun(RunDirectory):
    """A run whose lines of metrics somebody is told, once they are written."""

    def __init__(self, run: RunDirectory, listener: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(run.path, run.manifest)
        self._listener = listener

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Adds one line to `metrics.jsonl`, and tells it."""
        super().append_metrics(record)
        self._listener(record)
