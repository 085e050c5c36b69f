"""What the README prints is what works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}


def examples(text: str) -> list[str]:
    """The shell examples of a page."""
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_ci_installs_and_tests_as_the_readme_says() -> None:
    install, check = (example.strip() for example in examples(PAGES["README.md"])[:2])
    *alone, use = install.split(" && ")
    assert alone[-1] == "pip install -e ."
    assert use == "pactl train | pactl bound -"
    assert check.split(" && ")[1:] == ["pip install -e '.[dev]'", ".ci/check"]
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace(" --quiet", "")
    lines = run.replace('"${PYTHON:-python3}"', "python3").partition('cd "$temp/pactl"\n')[2].splitlines()
    assert [line for line in lines if line and not line.startswith("pactl ")] == [*alone, *check.split(" && ")]


def installed_from_an_index(text: str) -> list[str]:
    """The commands of a page that would look for pactl on a package index, where it is not."""
    return re.findall(r"(?:pip|pipx|uv tool|uvx?)(?: pip)? (?:install|run|add) (?:-\S+ )*[\"']?pactl\b[^\n`]*", text)


@pytest.mark.parametrize("page", PAGES)
def test_no_page_installs_from_a_package_index(page: str) -> None:
    assert installed_from_an_index(PAGES[page]) == []
    assert "pypi" not in PAGES[page].lower()


def test_an_installation_from_a_package_index_is_seen() -> None:
    wrong = ["pipx install pactl", "pip install -U 'pactl[dev]'", "uv tool install pactl", "uv pip install pactl==1"]
    assert installed_from_an_index("\n".join(wrong)) == wrong
    assert installed_from_an_index("pip install -e .\npipx install .\npip install -e '.[dev]' && pactl train") == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES[page]):
        assert (ROOT / target).exists() or (ROOT / "docs" / target).exists(), target


def runs_everywhere(example: str) -> bool:
    """Neither the installation nor the tests, and no data set that must be fetched."""
    return not re.search(r"mnist|cifar|CIFAR|DATA|\.venv|\.ci/", example)


@pytest.mark.parametrize("page", ["README.md", "docs/quick-start.md"])
def test_the_first_steps_need_the_program_alone(page: str) -> None:
    """Neither jq nor what only developers install; and each word of the trade is said in other words."""
    for example in examples(PAGES[page]):
        assert "jq" not in example
        assert "[dev]" not in example or example.rstrip().endswith(".ci/check")
    for word in ("message", "configuration", "codebook", "symbols", "projector"):
        assert f"*{word}*" in PAGES[page] or f"**{word}**" in PAGES[page], word
    for word in ("ledger", "theta0", "S"):
        assert re.search(
            rf"(\*{word}\*|\b{word}\b)(\*?:| are | holds |, the weights|, are counted| is the sample)", PAGES[page]
        ), word


@pytest.mark.parametrize("data", ["csv:cancer.csv --label", "folder:photos --image-size", "folder:texts"])
def test_a_recipe_leads_from_raw_files_to_a_certificate(data: str) -> None:
    """Which the next test runs; and no recipe needs a program beside this one."""
    recipes = examples(PAGES["docs/recipes.md"])
    (recipe,) = (example for example in recipes if f"pactl train --dataset {data}" in example)
    assert runs_everywhere(recipe)
    assert recipe.index("pactl train") < recipe.index("pactl bound") < recipe.index("pactl verify")
    assert not [example for example in recipes if "jq" in example]


def test_to_make_it_tighter_begins_with_what_helps_most() -> None:
    section = PAGES["docs/quick-start.md"].partition("## Make it tighter")[2].partition("\n## ")[0]
    ways = ["pactl prior", "pactl transfer", "dimension d", "--rate-weight"]
    first = [section.index(way.removeprefix("pactl ")) for way in ways]
    assert first == sorted(first)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if any(map(runs_everywhere, examples(text)))])
def test_examples_run_as_printed(page: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    script = "set -eo pipefail\n" + "".join(filter(runs_everywhere, examples(PAGES[page])))
    if "jq" in script and which("jq") is None:
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
