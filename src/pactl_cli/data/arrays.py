"""Arrays from files, without ever loading code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pactl_cli.errors import MissingError, PactlError

_LONGEST_REASON = 200


def read_arrays(path: Path, names: tuple[str, ...] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz` file by name, all or those of `names` that it has; of an `.npy` file its only one, as "".

    Raises:
        MissingError: if there is no such file.
        PactlError: if it is truncated, altered, or holds Python objects.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would make us wait, a device never end
            raise ValueError("it is not a file")
        with path.open("rb") as raw:
            content = np.load(raw, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return {"": content}
            with content:
                arrays = {name: content[name] for name in content.files if names is None or name in names}
            if wrong := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
                raise ValueError(f"{wrong[0]} is no array")
            return arrays
    except FileNotFoundError as error:
        raise MissingError(f"{path} cannot be read: there is no such file") from error
    except Exception as error:  # a hostile file makes numpy and zipfile raise almost anything
        reason = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        if "pickle" in reason:  # numpy goes on to advise trusting it
            reason = "it is not made by numpy, or holds Python objects"
        raise PactlError(f"{path} cannot be read: {reason[:_LONGEST_REASON]}") from error
