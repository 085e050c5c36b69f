"""The benchmarks work: each is run with tiny sizes. What they measure then means nothing, and is not looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.mark.parametrize(
    ("script", "titles"),
    [
        ([""], ["training steps: convnet", "Over a copy", "Large projectors", "Over a sort", "symbols", "MNIST epoch"]),
        (["gpu.py", "--device", "cpu"], ["P on cpu and on the CPU", "Certificates on cpu", "MNIST epoch"]),
    ],
    ids=["all", "gpu"],
)
def test_a_benchmark_prints_its_tables(script: list[str], titles: list[str]) -> None:
    command = [sys.executable, str(BENCHMARKS / script[0]), *script[1:], "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    found = [line for line in done.stdout.splitlines() if line.startswith("### ")]
    for title in titles:
        assert any(title in line for line in found), f"{title}: {found}"
    assert "stopped after" not in done.stdout


def test_a_projector_that_needs_more_dimensions_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    steps, pairs = import_module("steps"), import_module("pairs")
    monkeypatch.setattr(steps, "QUICK", "resnet20")
    monkeypatch.setattr(steps, "MODES", ["stfilmkronqr"])
    steps.main(pairs.Terms(quick=True))
    assert "| stfilmkronqr | d is too small |" in capsys.readouterr().out
