"""torchvision's models through the command line: a step in a subspace, a certificate, and the same again in a
fresh process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Call = Callable[..., Any]

QUICK = ("squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5")
SLOW = (
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mnasnet0_5",
    "regnet_y_400mf",
    "resnet18",
    "swin_v2_t",
    "vit_b_32",
)


def images(path: Path, side: int) -> Path:
    """60 noisy copies of three random square images with one channel."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    noisy = random.random((3, side, side))[labels] + 0.1 * random.standard_normal((60, side, side))
    np.savez(path, x_train=(255 * noisy.clip(0, 1)).astype(np.uint8), y_train=labels)
    return path


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_it_trains_a_step_and_is_certified(pactl: Call, tmp_path: Path, name: str) -> None:
    """Of larger images where rounding on small ones is too much for it with the six calibration examples there are."""
    data = images(tmp_path / "images.npz", 32 if name in QUICK else 96)
    network = ("--dataset", f"npz:{data}", "--model-name", name, "--intrinsic-dim", 10)
    run = pactl("train", *network, "--epochs", 1, "--batch-size", 60, "--out", "run")
    assert (run.code, run.out) == (0, "run\n"), run.err
    certificate = pactl("bound", "run", "--quant-epochs", 1, "--model-name", name).json()  # some are very large
    assert certificate["configuration"]["model_name"] == name
    assert certificate["configuration"]["base_width"] is None
    assert certificate["bound_examples"] == 60 - certificate["configuration"]["calibration_examples"]
    assert certificate["quantised_train_error"] < certificate["error_bound"] <= 1
    assert pactl("verify", "run", "--model-name", name).out.startswith("verified: run\n")
