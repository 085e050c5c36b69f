"""Run directories on the command line, and those that come through a pipe."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pactl_cli import catalogue
from pactl_cli.errors import MissingError
from pactl_cli.runs.directory import MANIFEST


def run_directories(paths: list[Path]) -> list[Path]:
    """Return the run directories named, by themselves or by a file in them, `-` standing for the lines of stdin."""
    found: list[Path] = []
    for path in paths:
        if str(path) != "-":
            found.append(path)
            continue
        lines = [line for line in sys.stdin.read().split("\n") if line]
        if not lines:
            raise MissingError("no run directory came through the pipe", "the command before this one failed")
        found += map(Path, lines)
    return [run_directory(path) for path in found]


def with_named_runs(given: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which the runs to start from are run directories, one of which may come through a pipe."""
    named = dict(given)
    if "source" in named and catalogue.source_reference(named["source"]).scheme == catalogue.RUN:
        named["source"] = str(run_directories([Path(named["source"])])[-1])
    if "continued" in named:
        named["continued"] = run_directories([Path(named["continued"])])[-1]
    return named


def run_directory(path: Path) -> Path:
    """Return the run that a file lies in, which stands for it, or a path as it is."""
    is_inside = os.path.lexists(path) and not os.path.isdir(path)
    places = [path.parent, path.parent.parent] if is_inside else []
    return next((place for place in places if os.path.isfile(place / MANIFEST)), path)
