"""Where named data sets lie, and whether they may be put there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataDirectory:
    """The data directory.

    Attributes:
        path: which may not exist yet.
        may_write: whether what is absent may be fetched or unpacked into it, and decoded images kept there. If not,
            nothing below it is created, changed or locked.
    """

    path: Path
    may_write: bool = True
