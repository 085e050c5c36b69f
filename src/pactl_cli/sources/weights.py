"""Files of weights, in the forms in which checkpoints are usually saved."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pactl_cli.errors import MissingError, PactlError, quoted
from pactl_cli.runs.checkpoint import load_tensors

_HINT = "save them with torch.save(network.state_dict(), PATH)"
_WITHIN = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema", "state_dict", "model_state_dict"),
    *("model", "network", "net", "weights", "params", "module"),
)
"""The names that a checkpoint may have for its weights; averaged weights are better and come first."""
_DEEPEST = 4


@dataclass(frozen=True)
class Weights:
    """Named tensors.

    Attributes:
        origin: their origin, as the user named it.
        tensors: the tensors by name.
        forms: torch's metadata of each layer, with the version of its weights' form.
        note: which of a file's weights they are, in words; "" if it has no others.
    """

    origin: str
    tensors: dict[str, Tensor]
    forms: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def read_weights(path: Path) -> Weights:
    """Return the weights of a file, which is read as data: no code in it is run.

    Raises:
        PactlError: if there is no such file, or it holds something else.
    """
    content, origin = _content(path), f"--weights {path}"
    if not isinstance(content, dict):
        raise PactlError(f"{origin} holds {type(content).__name__}, not weights by name", _HINT)
    content, note = _weights_within(content)
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise PactlError(
                f"{origin} does not hold weights alone: {quoted(str(name))} is {type(value).__name__}",
                note + "; " * bool(note) + _HINT,
            )
        if value.device.type != "cpu" or value.layout != torch.strided:
            raise PactlError(f"{origin} holds no numbers for {quoted(name)}, or only some of them", _HINT)
    return Weights(origin, dict(content), dict(getattr(content, "_metadata", None) or {}), note and f"{origin}: {note}")


def _content(path: Path) -> object:
    """Return the content of a file, in which the settings of a training may be an argparse namespace."""
    try:
        if path.suffix == ".safetensors":
            return load_tensors(path)[0]
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise MissingError(f"--weights {path} cannot be read: there is no such file") from error
    except PactlError as error:
        raise PactlError(f"--weights {error.message}", error.hint) from error
    except OSError as error:
        raise PactlError(f"--weights {path} cannot be read: {error.strerror}") from error
    except Exception as error:  # a hostile file makes torch raise almost any error, with advice to load it unsafely
        other = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = (
            f"it holds {quoted(other[1])}, and is only read as data"
            if other
            else "it is truncated, or not what torch.save writes"
        )
        raise PactlError(f"--weights {path} cannot be read: {why}", _HINT) from error


def _weights_within(content: dict[Any, Any]) -> tuple[dict[Any, Any], str]:
    """Return the weights in a checkpoint, and a note on which of its parts they are."""
    taken: list[str] = []
    left: list[str] = []
    while len(taken) < _DEEPEST and (parts := [name for name in _WITHIN if isinstance(content.get(name), dict)]):
        content = content[parts[0]]
        taken.append(parts[0])
        left += parts[1:]
    if not taken:
        return content, ""
    others = f", not {', '.join(left)}" if left else ""
    return content, f'its "{".".join(taken)}" is taken{others}'
