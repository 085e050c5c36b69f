"""The examples, and those of the page on Python, run as they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def run(tmp_path: Path, *words: str) -> str:
    """The stdout of Python in an empty directory, which must succeed and complain of nothing."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "examples")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error::UserWarning"}
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.slow
def test_arrays_are_certified(tmp_path: Path) -> None:
    out = run(tmp_path, str(ROOT / "examples" / "certify_arrays.py"))
    assert re.search(r"With 95 % confidence, this classifier errs on at most [34]\d\.\d\d % of new examples", out)
    assert "the first five: [0, " in out


@pytest.mark.slow
def test_a_network_is_certified_and_the_command_that_is_printed_verifies_it(tmp_path: Path) -> None:
    out = run(tmp_path, str(ROOT / "examples" / "certify_your_network.py"))
    command = out.splitlines()[-1].split()
    assert command[:2] == ["pactl", "verify"]
    assert run(tmp_path, "-m", "pactl_cli", *command[1:]).startswith("verified: ")


@pytest.mark.slow
def test_the_page_on_python(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    out = run(tmp_path, "-c", "\n".join(blocks))
    assert "train has no setting intrinsic_dims (did you mean intrinsic_dim?)" in out


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("HOME", str(tmp_path))
    notebook = nbformat.read(ROOT / "examples" / "certificates.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.get("data", {}) for cell in code for output in cell.outputs]
    assert sum("<table>" in data.get("text/html", "") for data in shown) >= 2
    assert any("<progress" in data.get("text/html", "") or data.get("text/html") == "" for data in shown)
