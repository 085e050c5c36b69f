"""`bound` certifies every run it is given; `--all` prints them, `report --csv` puts their numbers side by side."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pactl_cli.subspace import quantise

Call = Callable[..., Any]


@pytest.fixture
def three(pactl: Call, npz: Path, trained: Path, tmp_path: Path, quick: tuple[object, ...]) -> list[Path]:
    """Runs on the same examples, of two seeds and two dimensions."""
    train = ("train", "--dataset", f"npz:{npz}", *quick, "--train-subset", 0.9)
    assert pactl(*train, "--seed", 2, "--out", tmp_path / "second").code == 0
    assert pactl(*train, "--intrinsic-dim", 10, "--out", tmp_path / "third").code == 0
    return [trained, tmp_path / "second", tmp_path / "third"]


def certificate(run: Path) -> Any:
    return json.loads((run / "bound.json").read_text())


def test_every_run_gets_its_certificate_and_the_best_is_printed(pactl: Call, three: list[Path]) -> None:
    printed = pactl("bound", *three, "--quant-epochs", 1).json()
    bounds = [certificate(run)["error_bound"] for run in three]
    assert printed["error_bound"] == min(bounds)
    for run in three:
        assert pactl("verify", run).code == 0


def test_all_certificates_as_json_the_best_first(pactl: Call, three: list[Path]) -> None:
    printed = pactl("bound", *three, "--quant-epochs", 1, "--all", "--json").json()
    assert {entry.pop("run_dir"): entry for entry in printed} == {str(run): certificate(run) for run in three}
    bounds = [entry["error_bound"] for entry in printed]
    assert bounds == sorted(bounds)


def test_all_certificates_as_a_table(start: Call, terminal: Any, three: list[Path]) -> None:
    process = start("bound", *three, "--quant-epochs", 0, "--all", stdout=terminal.path)
    assert process.end().code == 0
    lines = terminal.close().splitlines()
    assert all(sum(line.endswith(str(run)) for line in lines) == 1 for run in three)


def test_a_run_named_twice_is_certified_once(pactl: Call, trained: Path) -> None:
    printed = pactl("bound", trained, f"{trained}/.", "--quant-epochs", 0, "--all").json()
    assert [entry["run_dir"] for entry in printed] == [str(trained)]


def test_runs_that_cannot_be_compared_get_nothing(pactl: Call, trained: Path, npz: Path, tmp_path: Path) -> None:
    other = ("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--train-subset", 0.5, "--out", tmp_path / "other")
    assert pactl(*other).code == 0
    assert "different examples" in pactl("bound", trained, tmp_path / "other").complaint(2)
    assert not (trained / "bound.json").exists()


def test_numbers_of_all_runs_as_csv(pactl: Call, three: list[Path]) -> None:
    assert pactl("bound", *three[:2], "--quant-epochs", 1).code == 0
    assert pactl("report", *three, "--csv", "all.csv").out == "all.csv\n"
    with open("all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run_dir"] for row in rows] == [str(run) for run in three]
    assert [row["state"] for row in rows] == ["certified", "certified", "trained"]
    for run, row in zip(three[:2], rows, strict=False):
        written = certificate(run)
        assert float(row["error_bound"]) == written["error_bound"]
        assert int(row["errors"]) == written["errors"]
        assert int(row["bits.symbols"]) == written["bits"]["symbols"]
        assert float(row["bounds.catoni"]) == written["bounds"]["catoni"]
    assert rows[2]["error_bound"] == ""


def test_csv_is_one_of_the_ways_to_print(pactl: Call, trained: Path) -> None:
    assert "exclude each other" in pactl("report", trained, "--csv", "a.csv", "--json").complaint(2)
    assert "--csv" in pactl("report", trained, "--csv", trained / "config.yml").complaint(2)


# --- Searches ---------------------------------------------------------------------------------------------------------


def searches(run: Path) -> dict[str, Any]:
    """The lines of metrics about searches over a grid, by what was searched."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {line["search"]: line for line in lines if "search" in line}


def test_a_search_says_so_when_its_best_lies_at_the_edge(
    pactl: Call, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pactl("bound", trained, "--quant-epochs", 0).code == 0
    assert not searches(trained), "the best step is an inner one"
    monkeypatch.setattr(quantise, "STEP_HALVINGS", (-3.0, -2.0))
    assert pactl("bound", trained, "--quant-epochs", 0, "--force").code == 0
    step = searches(trained)["step"]
    assert len(step["tried"]) == 2
    assert step["at_edge"]
    assert step["best"] in step["tried"]
    assert pactl("bound", trained, "--codebook", "kmeans", "--levels", "3,5", "--quant-epochs", 0, "--force").code == 0
    assert searches(trained)["levels"]["tried"] == [3, 5]
    assert pactl("report", trained, "--json").json()[0]["state"] == "certified"
    assert "could not be read" not in Path(pactl("report", trained, "--html", "a.html").out.strip()).read_text()
