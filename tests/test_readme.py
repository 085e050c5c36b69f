"""What the README prints is what works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}


def examples(text: str) -> list[str]:
    """The shell examples of a page."""
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_ci_installs_and_tests_as_the_readme_says() -> None:
    install, check = examples(PAGES["README.md"])[:2]
    assert install.strip().endswith("pip install -e '.[dev]' && pactl train | pactl bound -")
    assert check.strip() == ". .venv/bin/activate && .ci/check"
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "pip install --quiet -e '.[dev]'" in run
    assert "./.ci/check" in run


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES[page]):
        assert (ROOT / target).exists() or (ROOT / "docs" / target).exists(), target


def runs_everywhere(example: str) -> bool:
    """Neither the installation nor the tests, and no data set that must be fetched."""
    return not re.search(r"mnist|cifar|CIFAR|DATA|\.venv", example)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if any(map(runs_everywhere, examples(text)))])
def test_examples_run_as_printed(page: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    script = "set -eo pipefail\n" + "".join(filter(runs_everywhere, examples(PAGES[page])))
    if subprocess.run(["which", "jq"], capture_output=True, check=False).returncode:
        pytest.skip("EXAMPLES NOT RUN: there is no jq")
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_pipelines_of_the_results(tmp_path: Path, data_dir: Path) -> None:
    """As printed, but for the place of the data."""
    pipelines = examples(PAGES["docs/results.md"].partition("## Pipelines")[2])
    assert len(pipelines) >= 2
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for pipeline in pipelines:
        if "CIFAR" in pipeline:  # which must be unpacked first
            continue
        script = "set -o pipefail\n" + pipeline.replace("DATA", str(data_dir))
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done
        found = json.loads(done.stdout)
        assert 0 < (found if isinstance(found, float) else found["error_bound"]) < 0.25
