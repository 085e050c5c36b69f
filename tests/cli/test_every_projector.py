"""Every projector, trained for a few steps on the digits, certified and verified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pactl_cli import catalogue

NETWORKS = {"fc": 20, "layer13s": 1}
DIM = 80


@pytest.mark.parametrize("model", NETWORKS)
@pytest.mark.parametrize("projector", catalogue.PROJECTORS)
def test_every_projector_goes_through(projector: str, model: str, pactl, tmp_path: Path) -> None:
    run, dim = tmp_path / "run", DIM if projector != catalogue.HEAD_ALONE else DIM // 2
    options = ("--model-name", model, "--base-width", NETWORKS[model], "--intrinsic-dim", dim, "--epochs", 1)
    trained = pactl("train", "--intrinsic-mode", projector, *options, "--batch-size", 400, "--out", run)
    assert (trained.code, trained.err) == (0, "")
    certified = pactl("bound", run, "--quant-epochs", 1)
    assert certified.code == 0
    certificate = certified.json()
    assert certificate["configuration"]["intrinsic_mode"] == projector
    assert certificate["intrinsic_dim"] == dim
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["stage"] for record in metrics] == ["train", "bound"]
    assert pactl("verify", run).code == 0


def test_a_projector_without_room_says_so(pactl, tmp_path: Path) -> None:
    options = ("--model-name", "layer13s", "--intrinsic-mode", "stfilmkronqr", "--intrinsic-dim", 5)
    line = pactl("train", *options, "--out", tmp_path / "run").complaint(2)
    assert "normalisation parameters" in line
    assert not (tmp_path / "run").exists()
