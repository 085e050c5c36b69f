"""Files of weights."""

from __future__ import annotations

import re
import reprlib
from pathlib import Path

import torch
from torch import Tensor

from pactl_cli.errors import MissingError, PactlError, quoted
from pactl_cli.runs.checkpoint import load_tensors

_HINT = "save them with torch.save(network.state_dict(), PATH)"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return named tensors from a file that is only ever read as data.

    Raises:
        PactlError: if there is no such file, or it holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_tensors(path)[0]
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise MissingError(f"--weights {path} cannot be read: there is no such file") from error
    except PactlError as error:
        raise PactlError(f"--weights {error.message}", error.hint) from error
    except OSError as error:
        raise PactlError(f"--weights {path} cannot be read: {error.strerror}") from error
    except Exception as error:  # a hostile file makes torch raise almost anything, with advice to load it unsafely
        other = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = (
            f"it holds {quoted(other[1])}, and is only read as data"
            if other
            else "it is truncated, or not what torch.save writes"
        )
        raise PactlError(f"--weights {path} cannot be read: {why}", _HINT) from error
    if not isinstance(tensors, dict):
        raise PactlError(f"--weights {path} holds {type(tensors).__name__}, not weights by name", _HINT)
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise PactlError(
                f"--weights {path} holds other things than weights: {reprlib.repr(name)} is {type(value).__name__}",
                _HINT,
            )
    return dict(tensors)
