"""Tensors in a run directory, as safetensors: no code is ever loaded."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from pactl_cli.errors import PactlError
from pactl_cli.runs.directory import RunDirectory


def save_tensors(run: RunDirectory, name: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes named tensors and string metadata as one file, atomically."""
    plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    run.write_bytes(name, safetensors.torch.save(plain, metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Named tensors and metadata, on the CPU.

    Raises:
        PactlError: if the file is missing, truncated or altered.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise PactlError(f"{path} cannot be read: {error}", "the file is missing, truncated or altered") from error
