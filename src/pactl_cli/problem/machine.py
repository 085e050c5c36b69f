"""The directory of named data sets, and the device to compute on."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import torch

from pactl_cli.errors import PactlError
from pactl_cli.processes.world import ALONE, World

_NOWHERE = Path("/nonexistent/pactl")
"""The cache directory of a user without a home directory."""


def data_directory(given: Path | None) -> Path:
    """Return the directory of named data sets: as given, else $PACTL_DATA_DIR, else the platform's cache directory.

    Raises:
        PactlError: if a directory that was named does not exist.
    """
    if given is None and not os.environ.get("PACTL_DATA_DIR"):
        try:
            path = platformdirs.user_cache_path("pactl", appauthor=False, ensure_exists=False)
        except RuntimeError:  # a user whom the system does not know, as in a container
            return _NOWHERE
        return path if path.is_absolute() else _NOWHERE  # without a home it may begin with ~
    option, path = ("--data-dir", given) if given else ("PACTL_DATA_DIR", Path(os.environ["PACTL_DATA_DIR"]))
    path = Path(os.path.expanduser(path))
    if not os.path.isdir(path):
        raise PactlError(f"{option} {path} is not a directory", "name the directory that holds the data sets")
    return path.resolve()


def find_device(name: str, world: World = ALONE) -> torch.device:
    """Return a device by name; `auto` is CUDA if there is a GPU. Each of several processes gets a GPU of its own.

    Raises:
        PactlError: if this machine has no such device, or not one for every process.
    """
    if world.joined and name in ("auto", "cuda") and torch.cuda.is_available():
        return _own_gpu(world)
    if world.size > 1 and name.startswith("cuda:"):
        raise PactlError(f"--device {name} is one GPU, but there are {world.size} processes", "use --device cuda")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    present = {
        "cpu": True,
        "mps": torch.backends.mps.is_available(),
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
    }
    if not present[device.type]:
        hint = "use --device cpu, or launch --cpus N" if world.joined else "use --device cpu"
        raise PactlError(f"--device {name} is not available on this machine", hint)
    return device


def _own_gpu(world: World) -> torch.device:
    """Return the GPU with the number of this process on its machine."""
    if world.local_rank >= torch.cuda.device_count():
        raise PactlError(
            f"{world.local_size} processes need as many GPUs, and this machine shows {torch.cuda.device_count()}",
            "start fewer, or look at CUDA_VISIBLE_DEVICES",
        )
    device = torch.device("cuda", world.local_rank)
    torch.cuda.set_device(device)
    return device
