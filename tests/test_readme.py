"""What the README prints is what works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_ci_installs_and_tests_as_the_readme_says() -> None:
    install, check = EXAMPLES[:2]
    assert install.strip().endswith("pip install -e '.[dev]' && pactl train | pactl bound -")
    assert check.strip() == ". .venv/bin/activate && .ci/check"
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "pip install --quiet -e '.[dev]'" in run
    assert "./.ci/check" in run


@pytest.mark.parametrize("page", [README, *(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page):
        assert (ROOT / target).exists() or (ROOT / "docs" / target).exists(), target


@pytest.mark.slow
def test_examples_run_as_printed(tmp_path: Path) -> None:
    """All but the installation, the tests, and MNIST, which takes minutes."""
    examples = [example for example in EXAMPLES[2:] if "mnist" not in example]
    assert len(examples) >= 2
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    script = "set -eo pipefail\n" + "".join(examples)
    if subprocess.run(["which", "jq"], capture_output=True, check=False).returncode:
        script = script.replace(
            "jq .error_bound", "python -c 'import json, sys; print(json.load(sys.stdin)[\"error_bound\"])'"
        )
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "verified: runs/mine" in done.stdout
