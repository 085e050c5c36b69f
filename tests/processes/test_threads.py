"""Threads that wait for one another sleep soon, unless the user says otherwise; PyTorch is not loaded before."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
from pactl_cli.commands.terminal import starting
with starting():
    assert "torch" not in sys.modules
    print(os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
    ids=["nothing", "a count", "a policy"],
)
def test_threads_sleep_soon_unless_the_user_says_otherwise(given: dict[str, str], found: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=kept | given, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{found}\n", "")
