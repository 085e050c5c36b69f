"""Tensors in a run directory, as safetensors, which hold no code."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pactl_cli.errors import PactlError, reason
from pactl_cli.runs.directory import LARGEST_TENSORS, RunDirectory
from pactl_cli.runs.plain_files import read_plain_file

_MOST_AXES = 32


def save_tensors(run: RunDirectory, name: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write named tensors and string metadata as one file, atomically."""
    run.write_bytes(name, safetensors.torch.save(plain_tensors(tensors), metadata))


def plain_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors to be saved: on the CPU and contiguous."""
    form = torch.contiguous_format
    return {key: tensor.detach().cpu().clone(memory_format=form) for key, tensor in tensors.items()}


def load_tensors(path: Path, limit: int = LARGEST_TENSORS) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return named tensors, on the CPU, and string metadata.

    Raises:
        PactlError: if the file is missing, truncated, altered or larger than `limit` bytes.
    """
    try:
        data = read_plain_file(path, limit)
    except (OSError, ValueError) as error:
        raise PactlError(f"{path} cannot be read: {reason(error)}", "the file is missing or altered") from error
    try:
        tensors = safetensors.torch.load(data)
        header_bytes = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + header_bytes])
        if not all(_is_small(tensor) for tensor in tensors.values()):
            raise ValueError
    except (ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
        raise PactlError(f"{path} cannot be read: it is no safetensors file, or truncated or altered") from error
    return tensors, header.get("__metadata__", {})


def _is_small(tensor: Tensor) -> bool:
    """Return whether numpy can hold a tensor: one without numbers can claim any number of axes, of any length."""
    return tensor.ndim <= _MOST_AXES and prod(max(1, side) for side in tensor.shape) <= LARGEST_TENSORS
