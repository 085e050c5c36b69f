"""The directory of named data sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataDirectory:
    """The directory of named data sets.

    Attributes:
        path: of the directory, which may not exist yet.
        may_write: whether data sets may be downloaded and unpacked into it, and decoded images kept there. If not,
            nothing below it is created, changed or locked.
    """

    path: Path
    may_write: bool = True
