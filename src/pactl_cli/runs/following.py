"""A run directory as seen by a process that leaves all writing to another."""

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
