"""What stands beside the code: the bounds of the dependencies, the workflow, the citation, the hooks."""

from __future__ import annotations

import runpy
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python :: 3." in line]

Lowest = Callable[[dict[str, Any]], Iterator[str]]


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lowest() -> Lowest:
    """The function in `.ci/lowest`."""
    found: Lowest = runpy.run_path(str(ROOT / ".ci" / "lowest"))["lowest"]
    return found


def test_every_dependency_has_a_lowest_version(lowest: Lowest) -> None:
    pins = list(lowest(PROJECT))
    extras = PROJECT["optional-dependencies"].values()
    assert len(pins) == len(PROJECT["dependencies"]) + sum(map(len, extras))
    assert "torch==2.11" in pins


def test_the_lowest_versions_are_those_of_the_bounds(lowest: Lowest) -> None:
    project = {
        "name": "it",
        "dependencies": ["a>=1.2", "b-c >= 3, <4", "d[e]>=0.1; python_version < '3.12'"],
        "optional-dependencies": {"f": ["it[g]", "h~=1,>=1.1"]},
    }
    assert list(lowest(project)) == ["a==1.2", "b-c==3", "d==0.1", "h==1.1"]


@pytest.mark.parametrize("requirement", ["a", "a<2", "a==1"])
def test_a_dependency_without_a_lowest_version_is_seen(lowest: Lowest, requirement: str) -> None:
    with pytest.raises(ValueError, match=f"'{requirement}' has no lowest version"):
        list(lowest({"name": "it", "dependencies": [requirement]}))


def test_the_workflow_checks_the_ends_of_what_is_supported() -> None:
    [job] = read(".github/workflows/check.yml")["jobs"].values()
    runs = [(each["python"], each["versions"]) for each in job["strategy"]["matrix"]["include"]]
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert runs == [(PYTHONS[0], "newest"), (PYTHONS[-1], "newest"), (PYTHONS[0], "lowest")]
    assert "== 'lowest' && 'python -m pytest' || '.ci/check' }}" in job["steps"][-1]["run"]


def test_the_hooks_have_the_ruff_that_is_asked_for() -> None:
    [repository] = read(".pre-commit-config.yaml")["repos"]
    version = repository["rev"].removeprefix("v")
    assert any(each.startswith(f"ruff>={version},") for each in PROJECT["optional-dependencies"]["dev"])
    assert [hook["id"] for hook in repository["hooks"]] == ["ruff-check", "ruff-format"]


def test_the_citation_names_the_software_and_the_paper() -> None:
    citation = read("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Homepage"]
    [paper] = citation["references"]
    names = [author["family-names"] for author in paper["authors"]]
    assert names == ["Lotfi", "Finzi", "Kapoor", "Potapczynski", "Goldblum", "Wilson"]
