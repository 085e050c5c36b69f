"""Run directories on the command line, and those that come through a pipe."""

from __future__ import annotations

import sys
from pathlib import Path

from pactl_cli.errors import MissingError


def run_directories(paths: list[Path]) -> list[Path]:
    """Return the run directories named, `-` standing for the lines of stdin."""
    found: list[Path] = []
    for path in paths:
        if str(path) != "-":
            found.append(path)
            continue
        lines = [line for line in sys.stdin.read().split("\n") if line]
        if not lines:
            raise MissingError("no run directory came through the pipe", "the command before this one failed")
        found += map(Path, lines)
    return found
