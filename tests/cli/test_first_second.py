"""What a command does before it works: it loads nothing that it does not need, and says first that it loads torch."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

NOT_NEEDED = {"sklearn", "torchvision", "sympy", "pandas", "torch._dynamo", "torch._inductor", "scipy.stats"}
"""Each takes between a fifth of a second and two seconds to import."""
MAIN = """
import sys
from pactl_cli.__main__ import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
REPORT = f"print('loaded:', *sorted({NOT_NEEDED} & set(sys.modules)), file=sys.stderr)"
NOTICE = """
import sys

class Notice:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch begins", file=sys.stderr, flush=True)

sys.meta_path.insert(0, Notice())
"""


def loaded(code: str, *words: str) -> set[str]:
    """What a fresh process has loaded after some code, of what is not needed."""
    command = [sys.executable, "-c", f"{code}\n{REPORT}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("loaded:")]
    return set(line.split()[1:])


def test_the_first_commands_load_only_what_they_need(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    assert loaded(MAIN, "train", "--epochs", "1", "--out", run) == set()
    assert loaded(MAIN, "bound", run, "--quant-epochs", "1") == set()
    assert loaded(MAIN, "verify", run) == set()


def test_what_is_not_needed_is_seen() -> None:
    assert loaded("import sys, sympy, scipy.stats") == {"sympy", "scipy.stats"}


@pytest.mark.parametrize("words", [("info",), ("train", "--epochs", "1", "--out", "run")])
def test_a_terminal_sees_a_line_before_torch_is_loaded(words: tuple[str, ...], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", NOTICE + MAIN, *words]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        try:
            while b"torch begins" not in seen:
                more = os.read(ours, 4096)
                assert more
                seen += more
        finally:
            process.kill()
    os.close(ours)
    assert b"loading PyTorch" in seen
