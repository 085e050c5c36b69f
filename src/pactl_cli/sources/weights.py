"""Files of weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pactl_cli.errors import MissingError, PactlError
from pactl_cli.models.brought import described
from pactl_cli.runs.checkpoint import load_tensors


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
    except Exception as error:  # a hostile file makes torch raise almost anything
        raise PactlError(f"--weights {path} cannot be read: {described(error)}", "save a state_dict") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise PactlError(f"--weights {path} holds no weights by name", "save a state_dict")
    return dict(tensors)
