"""A log-loss that is not finite is null in a certificate, and a dash where it is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pactl_cli.runs.directory import RunDirectory
from pactl_cli.runs.settings import TransferSettings
from pactl_cli.runs.start import Start

Call = Callable[..., Any]


@pytest.fixture
def scaled(pactl: Call, trained: Path, arrays: Any, agree: Call) -> Callable[[float], Path]:
    """`scaled(factor)`: a transfer whose theta0 is a source's weights times a factor."""
    np.savez("other.npz", **{name: 255 - a if name.startswith("x") else a for name, a in arrays.items()})

    def make(factor: float) -> Path:
        options = ("--dataset", "npz:other.npz", "--intrinsic-dim", 10, "--epochs", 1, "--out", "run")
        assert pactl("transfer", trained, *options).code == 0
        run = RunDirectory.open(Path("run"))
        start = Start.load(run, TransferSettings.parse(run.read_config()))
        start = replace(start, tensors={name: tensor * factor for name, tensor in start.tensors.items()})
        start.save(run)
        agree(Path("run"), parent=start.sha256())
        return Path("run")

    return make


def test_weights_so_large_that_no_log_loss_is_finite(pactl: Call, scaled: Call, agree: Call) -> None:
    run = scaled(1e20)
    certificate = pactl("bound", run, "--quant-epochs", 0).json()
    assert certificate["train_nll_bits"] is None
    assert json.loads((run / "bound.json").read_text())["train_nll_bits"] is None
    assert pactl("verify", run).code == 0
    assert pactl("report", run).json()[0]["train_nll_bits"] is None
    assert pactl("report", run, "--html", "page.html").code == 0
    assert "<dt>log-loss</dt><dd>-</dd>" in Path("page.html").read_text()
    agree(run, "bound.json", certificate | {"train_nll_bits": 12.5})
    assert "train_nll_bits is 12.5" in pactl("verify", run).complaint(1)


def test_weights_as_they_were(pactl: Call, scaled: Call, agree: Call) -> None:
    run = scaled(1.0)
    certificate = pactl("bound", run, "--quant-epochs", 0).json()
    assert certificate["train_nll_bits"] > 0
    assert pactl("verify", run).code == 0
    assert pactl("report", run, "--html", "page.html").code == 0
    assert " bits on the training examples</dd>" in Path("page.html").read_text()
    agree(run, "bound.json", certificate | {"train_nll_bits": None})
    assert "train_nll_bits is None" in pactl("verify", run).complaint(1)


def test_what_has_no_finite_log_loss_is_not_fine_tuned_but_says_so(pactl: Call, scaled: Call) -> None:
    run = scaled(1e20)
    assert "--quant-epochs 0" in pactl("bound", run, "--quant-epochs", 2).complaint(1)
    assert "the loss is nan" in pactl("bound", run, "--quant-epochs", 2, "--rate-weight", 1.0).complaint(1)
    assert not (run / "bound.json").exists()
