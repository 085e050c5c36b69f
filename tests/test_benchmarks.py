"""The benchmarks work: each is run with tiny sizes. What they measure then means nothing, and is not looked at."""

from __future__ import annotations

import os
import subprocess
import sys
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
