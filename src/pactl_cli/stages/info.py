"""`pactl info`: the facts that a bug report needs."""

from __future__ import annotations

import platform
import sys
from typing import Any

import torch

from pactl_cli.data.files.capacity import cores
from pactl_cli.problem.machine import data_directory
from pactl_cli.runs.directory import package_versions


def info() -> dict[str, Any]:
    """Return the versions, devices and directories of this machine, by name."""
    cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return package_versions() | {
        "platform": platform.platform(),
        "executable": sys.executable,
        "cpus": cores(),
        "torch_threads": torch.get_num_threads(),
        "cuda_devices": cuda,
        "data_directory": str(data_directory(None)),
    }
