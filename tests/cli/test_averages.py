"""Averaged weights, smoothed labels and bent views from the command line, with the network that they are for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pactl_cli.certificate.format import FIXED_STATISTICS
from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.normalisation import calibrate
from pactl_cli.models.preparation import Prepared

Call = Callable[..., Any]
Tensors = dict[str, torch.Tensor]

RECIPE = ("--model-name", "convnet", "--base-width", 4, "--optimizer", "adamw_cycle", "--lr", 0.003, "--epochs", 3)
GOOD = ("--augment", "elastic", "--smoothing", 0.05, "--ema", 0.95)


@pytest.fixture
def make(pactl: Call, npz: Path, tmp_path: Path) -> Callable[..., Path]:
    """`make(*arguments)`: a run of the tiny data set."""

    def call(*arguments: object) -> Path:
        run = tmp_path / f"run-{len(list(tmp_path.glob('run-*')))}"
        done = pactl(*arguments, "--dataset", f"npz:{npz}", *RECIPE, "--out", run)
        assert done.code == 0, done.err
        return run

    return call


def statistics(network: torch.nn.Module) -> Tensors:
    return {name: tensor for name, tensor in network.state_dict().items() if "running" in name}


def test_batch_statistics_are_those_of_the_averaged_weights(make: Call, npz: Path) -> None:
    """Of calibration examples, and not of the weights that training ended with."""
    run = make("train", "--intrinsic-dim", 0, *GOOD)
    weights = load_file(run / "checkpoint.safetensors")
    network = build_network("convnet", classes=3, inputs=InputSpec.image(1, 8, 8), width=4, seed=1)
    network.load_state_dict(weights)
    before = {name: tensor.clone() for name, tensor in statistics(network).items()}
    with np.load(run / "indices.npz") as parts, np.load(npz) as arrays:
        images = torch.from_numpy(arrays["x_train"][parts["calibration"]])[:, None]
    calibrate(Prepared(network, FIXED_STATISTICS, code=""), images)
    torch.testing.assert_close(statistics(network), before)
    last = load_file(make("train", "--intrinsic-dim", 0, *GOOD[:4]) / "checkpoint.safetensors")
    assert not torch.allclose(weights["0.weight"], last["0.weight"], rtol=1e-3), "the average is another network"


@pytest.mark.parametrize("dim", [0, 10])
def test_a_prior_is_averaged_certified_and_verified(make: Call, pactl: Call, dim: int) -> None:
    run = make("prior", "--intrinsic-dim", dim, *GOOD)
    assert pactl("bound", run, "--quant-epochs", 1).code == 0
    assert pactl("verify", run).code == 0
    plain = make("prior", "--intrinsic-dim", dim)
    starts = [load_file(path / "init.safetensors") for path in (run, plain)]
    assert starts[0].keys() == starts[1].keys()
    assert any(not torch.equal(starts[0][name], starts[1][name]) for name in starts[0])


def test_a_source_that_was_averaged_is_transferred(make: Call, pactl: Call, npz: Path, tmp_path: Path) -> None:
    source, run = make("train", "--intrinsic-dim", 0, "--train-subset", 0.5, *GOOD), tmp_path / "transferred"
    options = ("--dataset", f"npz:{npz}", "--epochs", 1, "--intrinsic-dim", 5)
    assert pactl("transfer", source, *options, *GOOD, "--out", run).code == 0
    assert pactl("bound", run, "--quant-epochs", 1).json()["bound_examples"] >= 100
    assert pactl("verify", run).code == 0


@pytest.mark.parametrize(("option", "value"), [("--ema", 1), ("--ema", -0.1), ("--smoothing", 1), ("--smoothing", "a")])
def test_numbers_out_of_range(pactl: Call, tmp_path: Path, option: str, value: object) -> None:
    assert option in pactl("train", option, value, "--out", tmp_path / "run").complaint(2)
    assert not (tmp_path / "run").exists()
