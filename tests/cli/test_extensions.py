"""What it takes to add something, by CONTRIBUTING.md: its blocks become a module outside the package and are run."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pactl_cli import catalogue

Call = Callable[..., Any]

CONTRIBUTING = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
QUICK = ("--epochs", 10, "--intrinsic-dim", 8, "--seed", 3, "--lr", 0.1)


@pytest.fixture
def _outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module of all blocks can be imported, and its rows are in the tables."""
    blocks = re.findall(r"^```python\n(.*?)^```", CONTRIBUTING.read_text(), re.MULTILINE | re.DOTALL)
    place = tmp_path / "library"
    place.mkdir()
    (place / "outside.py").write_text("\n".join(blocks))
    monkeypatch.syspath_prepend(str(place))
    before = [dict(table) for table in catalogue.TABLES]
    import outside  # type: ignore[import-not-found]

    for table, row in outside.ROWS:
        table.add(row)
    yield
    for table, rows in zip(catalogue.TABLES, before, strict=True):
        table.clear()
        table.update(rows)
    del sys.modules["outside"]


def certified(pactl: Call, *train: object, bound: tuple[object, ...] = ()) -> Any:
    """The certificate of a run that was trained, bound and verified."""
    done = pactl(*train, *QUICK, "--out", "run")
    assert done.code == 0, done
    printed = pactl("bound", "run", "--quant-epochs", 2, *bound)
    assert printed.code == 0, printed
    verified = pactl("verify", "run")
    assert verified.code == 0, verified
    return printed.json()


TRAIN = ("train", "--dataset", "stripes", "--base-width", 16)


@pytest.mark.usefixtures("_outside")
@pytest.mark.parametrize(
    ("more", "field", "name"),
    [
        (("--intrinsic-mode", "on-the-head"), "intrinsic_mode", "on-the-head"),
        (("--augment", "dimmed"), "model_name", "fc"),
    ],
)
def test_a_row_and_a_function_are_enough_to_train(pactl: Call, more: tuple[object, ...], field: str, name: str) -> None:
    certificate = certified(pactl, *TRAIN, *more)
    assert certificate["configuration"][field] == name
    assert certificate["dataset"] == "stripes"
    assert certificate["bounds"]["binomial"] <= certificate["bounds"]["chernoff"] <= certificate["bounds"]["kl"]
    assert certificate["quantised_train_error"] < 0.5


@pytest.mark.usefixtures("_outside")
def test_a_network(pactl: Call) -> None:
    certificate = certified(pactl, "train", "--dataset", "stripes", "--model-name", "linear")
    assert certificate["configuration"]["model_name"] == "linear"
    assert certificate["configuration"]["base_width"] is None


@pytest.mark.usefixtures("_outside")
@pytest.mark.parametrize("epochs", [0, 2])
def test_a_codebook(pactl: Call, epochs: int) -> None:
    certificate = certified(pactl, *TRAIN, bound=("--codebook", "powers", "--quant-epochs", epochs))
    assert certificate["levels"] == 3
    assert certificate["bits"]["codebook"] == len("1") + len("010") + 5
    assert "--levels" in pactl("bound", "run", "--codebook", "powers", "--levels", 5).complaint(2)


@pytest.mark.usefixtures("_outside")
def test_a_source(pactl: Call) -> None:
    certificate = certified(pactl, "transfer", "drawn:5", "--dataset", "stripes")
    assert certificate["side_information"]["source"] == "drawn:5"


@pytest.mark.usefixtures("_outside")
def test_the_rows_are_what_help_and_errors_name(pactl: Call) -> None:
    assert "on-the-head" in pactl(*TRAIN, "--intrinsic-mode", "on-the-hed").complaint(2)
    assert "stripes" in pactl("train", "--dataset", "stripe").complaint(2)


def test_without_them_they_are_unknown(pactl: Call) -> None:
    assert "is not known" in pactl(*TRAIN).complaint(2)


def test_each_table_is_in_the_list() -> None:
    """The list in CONTRIBUTING.md names every table that something can be added to."""
    text = CONTRIBUTING.read_text()
    named = {name for name, value in vars(catalogue).items() if any(value is table for table in catalogue.TABLES)}
    assert len(named) == len(catalogue.TABLES)
    assert all(f"| `{name}` |" in text for name in named)
