"""`pactl report` on certificates that say nothing, and on runs that it cannot show."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from pactl_cli.certificate.certificate import all_bounds, sentence
from pactl_cli.certificate.percent import percent

Call = Callable[..., Any]


@pytest.fixture
def silent(pactl: Call, trained: Path) -> Path:
    """Return a run whose certificate says nothing."""
    assert pactl("bound", trained, "--quant-epochs", 0, "--misc-extra-bits", 400, "--delta", ".05,.01").code == 0
    return trained


def page(pactl: Call, *runs: Path) -> str:
    """Return the page of some runs."""
    assert pactl("report", *runs, "--html", "page.html").code == 0
    return Path("page.html").read_text()


def test_chance_and_the_most_frequent_class_are_lines_that_the_legend_explains(pactl: Call, silent: Path) -> None:
    text, found = page(pactl, silent), json.loads((silent / "bound.json").read_text())
    rates = {"chance": ("chance", 2 / 3), "majority": ("most frequent class", found["majority_error"])}
    for style, (name, rate) in rates.items():
        assert f'class="baseline {style}"' in text
        assert f"{name} {percent(rate)}</li>" in text.partition("Where the bits go")[0]
        assert f'<line x1="{100 * rate:.3f}%" x2="{100 * rate:.3f}%" y1="0.000%" y2="100.000%"' in text


def test_where_chance_is_far_away_it_is_told(pactl: Call, certified: Path, agree: Call) -> None:
    document = json.loads((certified / "bound.json").read_text())
    document |= {"errors": 0, "quantised_train_error": 0.0, "message_bits": 30, "test_error": 0.0, "holdout_bound": 0.1}
    document["bits"] = {"configuration": 10, "codebook": 10, "symbols": 10, "threshold": 0, "ledger": 0.0}
    document["bounds"] = all_bounds(errors=0, examples=document["bound_examples"], bits=30, delta=0.05)
    document["error_bound"] = document["bounds"]["binomial"]
    document["statement"] = sentence(document["error_bound"], 0.05, document["bound_examples"], document["dataset"])
    document["published"]["bound"] = 0.2
    agree(certified, "bound.json", document)
    text = page(pactl, certified)
    assert "baseline chance" not in text.partition("Where the bits go")[0]
    least = min(document["majority_error"], 2 / 3)
    assert f"Chance and the most frequent class, at {percent(least)} and more, lie to the right." in text
    assert "says nothing" not in text


def test_a_forged_majority_is_noticed(pactl: Call, certified: Path, agree: Call) -> None:
    good = json.loads((certified / "bound.json").read_text())
    for value in (0.0, 0.5, 0.9, 1.0, -0.1, 0.123456):
        agree(certified, "bound.json", good | {"majority_error": value})
        assert "majority_error" in pactl("verify", certified).complaint(1)
    for value in (0.9, 1.0, -0.1, 0.123456):
        agree(certified, "bound.json", good | {"majority_error": value})
        assert "majority_error" in pactl("report", certified).complaint(2)


def test_the_reasons_stand_on_page_table_and_json(pactl: Call, start: Call, terminal: Any, silent: Path) -> None:
    text = page(pactl, silent)
    [facts] = pactl("report", silent).json()
    assert facts["advice"].startswith("This certificate says nothing: ")
    assert text.count("This certificate says nothing: ") == 2, "under the headline, and where the run is described"
    command = f"pactl bound {silent} --quant-epochs 30 --delta 0.05,0.01 --misc-extra-bits 400.0"
    assert f"<code>{command}</code>" in text
    assert "at delta 0.01" in text
    assert "codebook grid, levels None, quant_epochs 0" in text
    assert start("report", silent, stdout=terminal.path).end().code == 0
    shown = terminal.close()
    assert "This certificate says nothing: " in shown
    assert "at delta 0.01" in shown
    assert f"  {command}" in re.sub(r" \\\n +", " ", shown).splitlines(), "on lines that a shell joins"
    assert pactl(*command.split()[1:]).code == 0


def test_one_run_that_cannot_be_shown_does_not_hide_the_others(
    pactl: Call, certified: Path, trained: Path, agree: Call
) -> None:
    manifest = json.loads((trained / "manifest.json").read_text())
    (trained / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 1}))
    done = pactl("report", trained, certified, "nowhere", "--json")
    assert done.code == 1
    assert [run["run_dir"] for run in done.json()] == [str(certified)]
    lines = done.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("pactl: note: left out: ") for line in lines)
    assert "written by pactl 0.1.0" in lines[0]
    assert "nowhere is not a run directory" in lines[1]
    done = pactl("report", trained, certified, "--html", "page.html")
    assert (done.code, done.out) == (1, "page.html\n")
    assert "0.1.0" in pactl("report", trained).complaint(2)


def test_a_dash_is_stdout(pactl: Call, certified: Path) -> None:
    done = pactl("report", certified, "--csv", "-")
    [row] = csv.DictReader(StringIO(done.out))
    assert row["run_dir"] == str(certified)
    assert row["made_with.quant_epochs"] == "5"
    assert pactl("report", certified, "--html", "-").out.startswith("<!doctype html>")
    assert not Path("-").exists()
