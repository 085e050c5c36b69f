"""An earlier certificate goes when its successor is ready, and not before."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pactl_cli.runs.settings import AUTOMATIC_PRICES

Call = Callable[..., Any]

LONG = ("--quant-epochs", 100_000)


def wait_for_fine_tuning(terminal: Any) -> None:
    """Returns once it has begun, as the terminal on stderr shows."""
    deadline = time.monotonic() + 30
    while b"fine-tuning" not in terminal._seen:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(0.1)


def bound_lines(run: Path) -> list[Any]:
    """The epochs of fine-tuning, as the run's metrics tell them."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["epoch"] for line in lines if line["stage"] == "bound" and "epoch" in line]


@pytest.mark.parametrize("options", [("--lr", 1e30), ("--lr", 1e30, "--codebook", "kmeans")])
def test_a_bound_that_fails_leaves_it(pactl: Call, certified: Path, tree: Call, options: Any) -> None:
    before = tree(certified)
    pactl("bound", certified, "--quant-epochs", 5, *options).complaint(1)
    assert tree(certified) == before
    assert pactl("verify", certified).code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_bound_that_is_stopped_leaves_it(
    start: Call, pactl: Call, terminal: Any, certified: Path, tree: Call, number: int
) -> None:
    before = tree(certified)
    process = start("bound", certified, *LONG, stderr=terminal.path)
    wait_for_fine_tuning(terminal)
    process.signal(number)
    assert process.end().code == (-number if number == signal.SIGKILL else 130)
    terminal.close()
    assert tree(certified) == before
    assert pactl("verify", certified).code == 0


@pytest.mark.parametrize("change", [1, 2, 3])
def test_a_death_before_the_manifest_is_replaced_leaves_it(
    start: Call, pactl: Call, certified: Path, tree: Call, change: int
) -> None:
    """What changes first is the manifest, renamed over the old one when all is ready."""
    before = tree(certified)
    assert start("bound", certified, "--quant-epochs", 2, "--force", blow=(change, signal.SIGKILL)).end().code < 0
    after = tree(certified)
    assert {name: after[name] for name in before} == before
    assert pactl("verify", certified).code == 0
    assert pactl("bound", certified, "--quant-epochs", 2, "--force").code == 0
    assert tree(certified).keys() == before.keys()


def test_one_of_several_that_fails_leaves_all(pactl: Call, certified: Path, trained: Path, tree: Call) -> None:
    before = tree(certified), tree(trained)
    pactl("bound", certified, trained, "--quant-epochs", 5, "--lr", 1e30).complaint(1)
    assert (tree(certified), tree(trained)) == before


def test_each_of_several_gets_a_successor(pactl: Call, certified: Path, npz: Path, quick: Any, tree: Call) -> None:
    other = certified.parent / "other"
    options = ("--dataset", f"npz:{npz}", *quick, "--train-subset", 0.9, "--seed", 1, "--epochs", 1)
    assert pactl("train", *options, "--out", other).code == 0
    assert pactl("bound", other, "--quant-epochs", 1).code == 0
    uncertified = Path(shutil.copytree(other, certified.parent / "uncertified"))
    assert pactl("train", *options, "--out", uncertified, "--force").code == 0
    before = {run: tree(run) for run in (certified, other, uncertified)}
    assert pactl("bound", other, certified, uncertified, "--quant-epochs", 2, "--force").code == 0
    for run, content in before.items():
        assert tree(run) != content
        assert bound_lines(run) == [1, 2] * AUTOMATIC_PRICES
        assert pactl("verify", run).code == 0


def test_a_successor_takes_its_place(pactl: Call, certified: Path) -> None:
    before = (certified / "bound.json").read_bytes()
    assert bound_lines(certified) == [1, 2, 3, 4, 5] * AUTOMATIC_PRICES
    assert pactl("bound", certified, "--quant-epochs", 3, "--force").code == 0
    assert bound_lines(certified) == [1, 2, 3] * AUTOMATIC_PRICES
    assert (certified / "bound.json").read_bytes() != before
    assert pactl("verify", certified).code == 0
