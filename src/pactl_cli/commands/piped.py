"""Run directories from the command line or from a pipe."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pactl_cli import catalogue
from pactl_cli.errors import MissingError, PactlError
from pactl_cli.runs.directory import MANIFEST


def run_directories(paths: list[Path]) -> list[Path]:
    """Return the run directories that paths name, directly or by a file in them; `-` stands for the lines of stdin."""
    found: list[Path] = []
    for path in paths:
        if str(path) != "-":
            found.append(path)
            continue
        lines = [line for line in sys.stdin.read().replace("\r\n", "\n").split("\n") if line]
        if not lines:
            raise MissingError("no run directory came through the pipe", "the command before this one failed")
        if any("\0" in line for line in lines):
            raise PactlError("what comes through the pipe has zero bytes", "write one run directory on each line")
        found += map(Path, lines)
    return [_run_of(path) for path in found]


def with_named_runs(given: dict[str, Any]) -> dict[str, Any]:
    """Return settings with run directories for the runs to start from; one of these may come from a pipe."""
    named = dict(given)
    if "source" in named and catalogue.source_reference(named["source"]).scheme == catalogue.RUN:
        named["source"] = str(run_directories([Path(named["source"])])[-1])
    if "continued" in named:
        named["continued"] = run_directories([Path(named["continued"])])[-1]
    return named


def _run_of(path: Path) -> Path:
    """Return the run directory of a file that lies in one; any other path unchanged."""
    is_inside = os.path.lexists(path) and not os.path.isdir(path)
    places = [path.parent, path.parent.parent] if is_inside else []
    return next((place for place in places if os.path.isfile(place / MANIFEST)), path)
