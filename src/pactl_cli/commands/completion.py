"""What a shell offers when Tab is pressed: names of the catalogue and run directories, without loading torch."""

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
    """Completes one of some words, each with what it stands for."""
    every = list(offers)
    return lambda incomplete: [offer for offer in every if offer[0].startswith(incomplete)]


def run_directory(incomplete: str) -> Offers:
    """Run directories whose paths begin so, up to three folders below the last one that is named."""
    folder = os.path.dirname(incomplete)
    runs = ((place, "") for place in islice(_folders(folder, _DEPTH), _MOST_PLACES) if _is_run(place))
    return sorted(among(runs)(incomplete))


def source(incomplete: str) -> Offers:
    """What can be started from: run directories and torchvision's networks."""
    pretrained = ((f"{row.package}:{row.name}", row.summary) for row in _PRETRAINED)
    return run_directory(incomplete) + among(pretrained)(incomplete)


def _folders(folder: str, depth: int) -> Iterator[str]:
    """Folders below one, those nearest first within each; the hidden and the unreadable are left out."""
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
"""By the option that takes them."""

STARTS: dict[str, Completer] = {"--source": source, "--continue": run_directory}
"""By the option that names what to start from."""
