"""Shell completion of the catalogue's names and of run directories, without loading torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from pactl_cli import catalogue

Offers = list[tuple[str, str]]
Completer = Callable[[str], Offers]

_DEPTH, _MOST_PLACES = 3, 2000
_PRETRAINED = [row for row in catalogue.MODELS.values() if row.package in catalogue.SOURCES]


def among(offers: Iterable[tuple[str, str]]) -> Completer:
    """Return a completer that offers some words, each with its explanation."""
    every = list(offers)
    return lambda incomplete: [offer for offer in every if offer[0].startswith(incomplete)]


def run_directory(incomplete: str) -> Offers:
    """Return the run directories whose paths begin so, up to three folders below the last one that is typed."""
    folder = os.path.dirname(incomplete)
    runs = ((place, "") for place in islice(_folders(folder, _DEPTH), _MOST_PLACES) if _is_run(place))
    return sorted(among(runs)(incomplete))


def source(incomplete: str) -> Offers:
    """Return the sources of `transfer` that begin so: run directories and the networks of packages."""
    pretrained = ((f"{row.package}:{row.name}", row.summary) for row in _PRETRAINED)
    return run_directory(incomplete) + among(pretrained)(incomplete)


def _folders(folder: str, depth: int) -> Iterator[str]:
    """Yield the folders below one, each before what lies in it; hidden and unreadable ones are left out."""
    try:
        names = sorted(
            entry.name for entry in os.scandir(folder or ".") if entry.is_dir() and not entry.name.startswith(".")
        )
    except OSError:
        return
    for name in names:
        place = os.path.join(folder, name)
        yield place
        if depth > 1 and not _is_run(place):
            yield from _folders(place, depth - 1)


def _is_run(place: str) -> bool:
    return Path(place, "manifest.json").is_file()


NAMES = {table.option: among((row.name, row.summary) for row in table.values()) for table in catalogue.TABLES}
"""Completers of the catalogue's names, by option."""

STARTS: dict[str, Completer] = {"--source": source, "--continue": run_directory}
"""Completers of the options that name a run or a network to start from."""
