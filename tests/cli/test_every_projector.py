"""Every projector, trained for a few steps on the digits, certified and verified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pactl_cli import catalogue
from pactl_cli.runs.settings import AUTOMATIC_PRICES

NETWORKS = {"fc": 20, "convnet": 4}
DIM, EPOCHS = 80, 5
SHORT = ("--epochs", EPOCHS, "--batch-size", 64, "--lr", 0.1)
"""Learns enough for a message to be worth its bits: were it not, silence would be certified, and no projector."""


@pytest.mark.parametrize("model", NETWORKS)
@pytest.mark.parametrize("projector", catalogue.PROJECTORS)
def test_every_projector_goes_through(projector: str, model: str, pactl, tmp_path: Path) -> None:
    run, dim = tmp_path / "run", DIM if projector != catalogue.HEAD_ALONE else DIM // 2
    options = ("--model-name", model, "--base-width", NETWORKS[model], "--intrinsic-dim", dim, *SHORT)
    precision = "bf16" if model == "convnet" else "fp32"
    trained = pactl("train", "--intrinsic-mode", projector, *options, "--precision", precision, "--out", run)
    assert (trained.code, trained.err) == (0, "")
    certified = pactl("bound", run, "--quant-epochs", 2)
    assert certified.code == 0
    certificate = certified.json()
    assert certificate["configuration"]["intrinsic_mode"] == projector
    assert certificate["intrinsic_dim"] == dim
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    epochs = [record["stage"] for record in metrics if "epoch" in record]
    assert epochs == ["train"] * EPOCHS + ["bound"] * 2 * AUTOMATIC_PRICES
    [chosen] = [record["attempt"]["codebook"] for record in metrics if record.get("chosen")]
    assert chosen == "grid"
    assert pactl("verify", run).code == 0


def test_a_projector_without_room_says_so(pactl, tmp_path: Path) -> None:
    options = ("--model-name", "layer13s", "--intrinsic-mode", "stfilmkronqr", "--intrinsic-dim", 5)
    line = pactl("train", *options, "--out", tmp_path / "run").complaint(2)
    assert "normalisation parameters" in line
    assert not (tmp_path / "run").exists()
