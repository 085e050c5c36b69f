"""Guarantees beside the error, as a terminal, the page, tables and the model card show them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.percent import percent
from pactl_cli.certificate.questions import CLASS
from pactl_cli.commands.guarantees import ByMember, claims, lines
from pactl_cli.commands.page.plot import Axis, show_percent
from tests.cli.conftest import quietly
from tests.cli.test_report import page_of

Call = Callable[..., Any]
TITLES = ("What else is guaranteed", "Saying: I don't know", "Whether its confidence can be believed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a run on digits that has every kind of guarantee."""
    path = tmp_path_factory.mktemp("made")
    np.savetxt(path / "groups.csv", np.arange(1437) % 2 * 7, fmt="%d")
    np.savetxt(path / "costs.csv", 0.5 * (1 - np.eye(10)), fmt="%g", delimiter=",")
    quietly("train", "--dataset", "digits", "--epochs", 2, "--intrinsic-dim", 20, "--out", path / "everything")
    files = ("--groups", path / "groups.csv", "--cost", path / "costs.csv")
    quietly("bound", path / "everything", "--quant-epochs", 1, "--certify", "class,top-3,abstain,calibration", *files)
    return path


@pytest.fixture
def guaranteed(made: Path, tmp_path: Path) -> Path:
    """Return a copy of that run, and copy its files."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Path("everything")


def read(run: Path) -> Certificate:
    return Certificate.model_validate_json((run / "bound.json").read_text())


def test_the_page_has_every_claim_and_table_and_figure(pactl: Call, guaranteed: Path) -> None:
    page, said = page_of(pactl, guaranteed), read(guaranteed)
    for title in TITLES:
        assert title in page.text
    for each in said.guarantees:
        assert f"{each.claim[:1].upper()}{each.claim[1:]}." in page.text
    assert "class: 6.13 bits for each of 10 events" in page.text
    by_class = said.guarantee(CLASS)
    assert by_class is not None
    for event in by_class.events:
        assert f"{event.errors:,} of {event.examples:,}" in page.text
        assert percent(event.bound) in page.text
    assert "Abstention of everything" in page.text
    assert "Reliability of everything" in page.text
    assert "ledger + threshold" in page.text


def test_a_run_that_is_asked_for_its_error_alone_has_nothing_of_it(pactl: Call, certified: Path) -> None:
    page = page_of(pactl, certified)
    assert not [title for title in TITLES if title in page.text]
    assert "ledger + threshold" not in page.text
    for plot in ("abstention", "calibration"):
        asked = pactl("report", certified, "--figure", "a.svg", "--plot", plot)
        assert f"--plot {plot}: these runs have nothing to draw" in asked.complaint(2)
    [row] = csv.DictReader(StringIO(pactl("report", certified, "--csv", "-").out))
    assert (row["headline"], row["guarantees"]) == ("error", "")


def test_numbers_for_other_programs(pactl: Call, guaranteed: Path) -> None:
    said = read(guaranteed)
    [row] = csv.DictReader(StringIO(pactl("report", guaranteed, "--csv", "-").out))
    cells = dict(cell.partition(":")[::2] for cell in row["guarantees"].split(" "))
    assert list(cells) == ["class", "top-3", "abstain", "calibration", "groups", "cost"]
    numbers = {each.what: [x for x in (each.bound, each.accepted) if x is not None] for each in said.guarantees}
    assert {what: [*map(float, filter(None, cell.split(":")))] for what, cell in cells.items()} == numbers
    [facts] = pactl("report", guaranteed, "--json").json()
    assert facts["guarantees"] == json.loads((guaranteed / "bound.json").read_text())["guarantees"]
    table = pactl("report", guaranteed, "--latex", "-").out
    for each in said.guarantees:
        assert f"% Jointly with it: {each.claim} (" in table


def test_a_terminal_gets_a_table_by_class_the_worst_first(guaranteed: Path) -> None:
    said = read(guaranteed)
    shown = [*lines(said, 79)]
    assert max(map(len, shown)) <= 79
    start = next(place for place, line in enumerate(shown) if line.split()[:2] == ["class", "errors"])
    worst = said.guarantee(CLASS)
    assert worst is not None
    assert f"class {shown[start + 1].split()[0]}" == worst.worst.name
    bounds = [float(line.split()[-2]) for line in shown[start + 1 : start + 11]]
    assert bounds == sorted(bounds, reverse=True)


def test_of_many_classes_the_rest_is_summed_up_and_names_stand_beside_numbers(guaranteed: Path) -> None:
    said = read(guaranteed)
    first = said.guarantee(CLASS)
    assert first is not None
    few = first.events[0].model_copy(update={"bound": 0.25})
    many = tuple(few.model_copy(update={"name": f"class {number}"}) for number in range(30))
    more = first.model_copy(update={"events": many})
    side = said.side_information | {"classes": 30, "class_names": [f"<b>{number}\x1b" for number in range(30)]}
    found = ByMember.of(said.model_copy(update={"side_information": side}), more)
    assert found is not None
    assert (len(found.rows), found.rest) == (20, "10 more, none above 25.00 %.")
    assert found.rows[3][0] == "3 <b>3\N{REPLACEMENT CHARACTER}"
    for names in ("no list", ["one"], None):  # of a stranger
        other = said.model_copy(update={"side_information": side | {"class_names": names}})
        assert ByMember.of(other, more) == ByMember("class", [(str(n), e) for n, e in enumerate(many[:20])], found.rest)


def test_the_headline_is_said_first(pactl: Call, quiet: Call, guaranteed: Path) -> None:
    quiet("bound", guaranteed, "--quant-epochs", 1, "--headline", "abstain", "--force")
    said = read(guaranteed)
    assert [claim.what for claim in claims(said)] == ["abstain", "error"]
    page = page_of(pactl, guaranteed)
    assert "certified error" in page.text
    assert page.text.index("accepts at least") < page.text.index("this classifier errs on at most ".capitalize())
    assert "It abstains where " in page.text


def test_verify_says_all_that_holds(pactl: Call, guaranteed: Path) -> None:
    said = read(guaranteed)
    verdict = pactl("verify", guaranteed, "--groups", "groups.csv", "--json").json()
    expected = {each.what: (each.claim, each.bound) for each in said.guarantees}
    found = {what: (claim["claim"], claim["bound"]) for what, claim in verdict["guarantees"].items()}
    assert found.pop("error")[1] == said.error_bound
    assert found == expected


@pytest.mark.parametrize(("place", "value"), [("bound", 0.5), ("claim", "it never errs"), ("events", ())])
def test_a_guarantee_that_contradicts_its_counts_is_not_shown(
    pactl: Call, guaranteed: Path, place: str, value: object
) -> None:
    said = read(guaranteed)
    first = said.guarantees[0].model_copy(update={place: value})
    (guaranteed / "bound.json").write_bytes(
        said.model_copy(update={"guarantees": (first, *said.guarantees[1:])}).to_bytes()
    )
    complaint = pactl("report", guaranteed, "--html", "page.html").complaint(2)
    assert "guarantees.class does not follow" in complaint or "is not a certificate" in complaint


@pytest.mark.parametrize("classes", [[1], None, "10", 10**12, 9, True])
def test_a_number_of_classes_that_cannot_be_is_one_line(pactl: Call, guaranteed: Path, classes: object) -> None:
    said = read(guaranteed)
    other = said.model_copy(update={"side_information": said.side_information | {"classes": classes}})
    (guaranteed / "bound.json").write_bytes(other.to_bytes())
    assert "contradicts itself: " in pactl("report", guaranteed, "--html", "page.html").complaint(2)


def test_borders_lie_equally_far_from_each_other() -> None:
    axis = Axis(0.0, 1.0, show_percent, "confidence", borders=(0.0, 0.5, 0.9, 0.99, 1.0))
    assert [axis.place(value) for value in axis.borders] == [0, 0.25, 0.5, 0.75, 1]
    assert axis.place(0.95) == pytest.approx(0.5 + 0.25 * 0.05 / 0.09)
    assert axis.ticks() == list(axis.borders)


def test_the_card_lists_the_claims(quiet: Call, guaranteed: Path) -> None:
    quiet("export", guaranteed, "--to", "model.safetensors", "--card", "README.md")
    card = Path("README.md").read_text()
    assert "all of this holds at once:" in card
    assert "- for at most " in card
    assert "- no group has an error above " in card
