"""Arrays from files, without ever loading code."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pactl_cli.errors import PactlError


def read_npz(path: Path, names: tuple[str, ...] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz` file by name: all, or those of `names` that it has.

    Raises:
        PactlError: if the file is missing, truncated, altered, or holds Python objects.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if names is None or name in names}
    except FileNotFoundError as error:
        raise PactlError(f"{path} cannot be read: there is no such file") from error
    except (
        *(OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, NotImplementedError, MemoryError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        raise PactlError(f"{path} cannot be read: {error}") from error
