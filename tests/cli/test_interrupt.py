"""Signals, sudden death and diverging losses: what is complete is true, and the rest can be gone on with."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Call = Callable[..., Any]

EPOCHS = 20


@pytest.fixture(scope="session")
def train(npz: Path, quick: tuple[object, ...]) -> tuple[object, ...]:
    """A training that takes half a second, but for `--out`."""
    rate = ("--rate-weight", 0.5, "--rate-from", 0.5, "--ema", 0.9, "--smoothing", 0.1)
    return ("train", "--dataset", f"npz:{npz}", *quick, "--epochs", EPOCHS, "--batch-size", 32, *rate, "--out")


@pytest.fixture(scope="session")
def short(npz: Path, quick: tuple[object, ...]) -> tuple[object, ...]:
    """A training of three epochs, but for `--out`."""
    return ("train", "--dataset", f"npz:{npz}", *quick, "--epochs", 3, "--train-subset", 0.9, "--out")


@pytest.fixture(scope="session")
def uninterrupted(quiet: Call, train: Any, short: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs that nothing disturbed: `train` and `short`."""
    place = tmp_path_factory.mktemp("uninterrupted")
    quiet(*train, place / "train")
    quiet(*short, place / "short")
    return place


def manifest(run: Path) -> Any:
    """`manifest.json`, or an empty one."""
    path = run / "manifest.json"
    return json.loads(path.read_text()) if path.exists() else {"stages": {}, "files": {}}


def metrics(run: Path) -> list[dict[str, Any]]:
    """The records of `metrics.jsonl` without what the clock says."""
    return [
        {name: value for name, value in json.loads(line).items() if name != "seconds"}
        for line in (run / "metrics.jsonl").read_text().splitlines()
    ]


def wait_for_epochs(run: Path, stage: str, count: int) -> None:
    """Returns once that many epochs of a stage are over."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        path = run / "metrics.jsonl"
        if path.exists() and path.read_text().count(f'"stage": "{stage}"') >= count:
            return
        time.sleep(0.002)
    pytest.fail(f"{stage} did not get to epoch {count}")


def same_training(run: Path, other: Path) -> None:
    """Asserts that two complete runs ended alike, to the last bit."""
    for name in ("checkpoint.safetensors", "config.yml"):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    assert metrics(run) == metrics(other)
    assert [path.name for path in sorted(run.glob("[!.]*"))] == [path.name for path in sorted(other.iterdir())]
    assert manifest(run)["stages"] == {"train": "complete"}


# --- A polite signal --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_goes_on_where_it_was(
    start: Call, pactl: Call, train: Any, tmp_path: Path, uninterrupted: Path, number: int
) -> None:
    run = tmp_path / "run"
    process = start(*train, run)
    wait_for_epochs(run, "train", 2)
    process.signal(number)
    line = process.end().complaint(130)
    assert "interrupted" in line
    assert "--resume" in line
    assert manifest(run)["stages"] == {"train": "running"}
    assert len(metrics(run)) < EPOCHS
    pactl("bound", run).complaint(2)
    done = start(*train, run, "--resume").end()
    assert (done.code, done.out, done.err) == (0, f"{run}\n", "")
    same_training(run, uninterrupted / "train")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_that_was_truly_started(train: Any, tmp_path: Path, number: int) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "pactl_cli", *map(str, train), str(run), "--epochs", "5000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for_epochs(run, "train", 2)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (130, "", 1)
    assert err.startswith("pactl: interrupted")
    assert manifest(run)["stages"] == {"train": "running"}


def test_resume_of_the_run_alone_needs_no_other_option(start: Call, train: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert start(*train, run, blow=(30, signal.SIGINT)).end().code == 130
    done = start("train", "--out", run, "--resume").end()
    assert (done.code, done.err) == (0, "")
    assert manifest(run)["stages"] == {"train": "complete"}


def test_resume_of_a_complete_run_changes_nothing(pactl: Call, trained: Path, tree: Call) -> None:
    before = tree(trained)
    done = pactl("train", "--out", trained, "--resume")
    assert (done.code, done.out, done.err) == (0, f"{trained}\n", "")
    assert tree(trained) == before


def test_resume_without_a_run_begins_one(pactl: Call, train: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "new", tmp_path / "empty"):
        assert pactl(*train, place, "--epochs", 1, "--resume").code == 0
        assert manifest(place)["stages"] == {"train": "complete"}


def test_force_replaces_a_certified_run(pactl: Call, certified: Path, npz: Path) -> None:
    assert pactl("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--out", certified, "--force").code == 0
    assert {path.name for path in certified.iterdir()} == {
        *("manifest.json", "config.yml", "checkpoint.safetensors", "metrics.jsonl")
    }
    assert len(metrics(certified)) == 1
    pactl("verify", certified).complaint(2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_bound_can_be_repeated(start: Call, pactl: Call, trained: Path, number: int) -> None:
    process = start("bound", trained, "--quant-epochs", 100_000, "--batch-size", 8)
    time.sleep(1)
    process.signal(number)
    line = process.end().complaint(130)
    assert "--resume" not in line, "bound has no such option"
    pactl("verify", trained).complaint(2)
    assert pactl("bound", trained, "--quant-epochs", 1).code == 0
    assert pactl("verify", trained).code == 0


@pytest.mark.parametrize("command", ["train", "bound", "verify"])
def test_a_signal_at_the_very_first_change_or_before(
    start: Call, train: Any, certified: Path, tmp_path: Path, command: str
) -> None:
    """Before anything can be resumed there is still one line, and 130."""
    arguments = (*train, tmp_path / "run") if command == "train" else (command, certified)
    process = start(*arguments, blow=(1, signal.SIGINT))
    done = process.end()
    assert command == "verify" or "interrupted" in done.complaint(130)
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


# --- Sudden death -----------------------------------------------------------------------------------------------------


def check_training(pactl: Call, start: Call, train: Any, run: Path, reference: Path) -> None:
    """After a death: what says complete is; and the run ends as if nothing had been."""
    if manifest(run)["stages"].get("train") == "complete":
        assert pactl("bound", run, "--quant-epochs", 0).code == 0
        return
    if run.exists() and any(run.iterdir()):
        assert pactl("bound", run).code == 2
    done = start(*train, run, "--resume").end()
    assert done.code == 0, done.err
    same_training(run, reference)


def check_bound(pactl: Call, run: Path) -> None:
    """After a death: a certificate that says complete verifies; and another can be made."""
    if manifest(run)["stages"].get("bound") == "complete":
        assert pactl("verify", run).code == 0
    else:
        pactl("verify", run).complaint(2)
    assert pactl("bound", run, "--quant-epochs", 5).code == 0
    assert pactl("verify", run).code == 0


def moments(count: int) -> list[Any]:
    """Shares of a running time: two of them for every run of the tests, the rest slow."""
    shares = [random.Random(number).random() for number in range(count)]
    return [
        pytest.param(share, marks=pytest.mark.slow if i > 1 else (), id=f"{share:.2f}")
        for i, share in enumerate(shares)
    ]


@pytest.mark.parametrize("share", moments(10))
def test_training_killed_at_any_moment(
    start: Call, pactl: Call, train: Any, tmp_path: Path, uninterrupted: Path, share: float
) -> None:
    run = tmp_path / "run"
    process = start(*train, run)
    time.sleep(share * 0.6)
    process.signal(signal.SIGKILL)
    assert process.end().code in (0, -signal.SIGKILL)
    check_training(pactl, start, train, run, uninterrupted / "train")


@pytest.mark.parametrize("share", moments(10))
def test_bound_killed_at_any_moment(start: Call, pactl: Call, certified: Path, share: float) -> None:
    process = start("bound", certified, "--quant-epochs", 10)
    time.sleep(share * 0.6)
    process.signal(signal.SIGKILL)
    assert process.end().code in (0, -signal.SIGKILL)
    check_bound(pactl, certified)


FIRST = [pytest.param(first, marks=pytest.mark.slow if first != 2 else ()) for first in range(1, 11)]
"""Where a series of deaths begins, each of which comes ten changes later than the one before."""


@pytest.mark.parametrize("first", FIRST)
def test_training_killed_before_any_change_to_its_files(
    start: Call, pactl: Call, short: Any, tmp_path: Path, uninterrupted: Path, first: int
) -> None:
    change = first
    while start(*short, tmp_path / f"run{change}", blow=(change, signal.SIGKILL)).end().code:
        check_training(pactl, start, short, tmp_path / f"run{change}", uninterrupted / "short")
        change += 10
    assert change > 20


@pytest.mark.parametrize("first", FIRST)
def test_a_replacement_killed_before_any_change_to_its_files(
    start: Call, pactl: Call, short: Any, certified: Path, tree: Call, uninterrupted: Path, first: int
) -> None:
    """The old run is whole until it is gone, and what is left can be gone on with and replaced."""
    before = tree(certified)
    for change in (first, first + 10):
        assert start(*short, certified, "--force", blow=(change, signal.SIGKILL)).end().code == -signal.SIGKILL
        if tree(certified) == before:
            assert pactl("verify", certified).code == 0
        else:
            check_training(pactl, start, short, certified, uninterrupted / "short")
        assert pactl(*short, certified, "--force", "--epochs", 1).code == 0
        assert pactl("bound", certified, "--quant-epochs", 0).code == 0
        before = tree(certified)


@pytest.mark.parametrize("first", FIRST)
def test_bound_killed_before_any_change_to_its_files(start: Call, pactl: Call, certified: Path, first: int) -> None:
    change = first
    while start("bound", certified, "--force", "--quant-epochs", 2, blow=(change, signal.SIGKILL)).end().code:
        check_bound(pactl, certified)
        change += 10
    assert change > 10
    assert pactl("verify", certified).code == 0


def test_deaths_leave_no_litter(start: Call, short: Any, tmp_path: Path) -> None:
    for change in range(16, 28, 4):
        run = tmp_path / f"run{change}"
        assert start(*short, run, blow=(change, signal.SIGKILL)).end().code == -signal.SIGKILL
        assert start(*short, run, "--resume").end().code == 0
        names = {path.name for path in run.rglob("*")}
        assert names == {"manifest.json", "config.yml", "checkpoint.safetensors", "indices.npz", "metrics.jsonl"}


# --- What can only be found while working -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [("--lr", 1e30), ("--lr", 1e30, "--optimizer", "sgd"), ("--lr", 1e4, "--optimizer", "sgd_only")]
)
def test_a_loss_that_is_not_finite(pactl: Call, npz: Path, tmp_path: Path, options: Any) -> None:
    line = pactl("train", "--dataset", f"npz:{npz}", "--epochs", 50, *options, "--out", tmp_path / "run").complaint(1)
    assert "loss" in line
    assert "--lr" in line
    assert manifest(tmp_path / "run")["stages"] == {"train": "running"}
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
    pactl("bound", tmp_path / "run").complaint(2)


def test_inputs_so_large_that_the_loss_is_not_finite(pactl: Call, tmp_path: Path, arrays: Any) -> None:
    huge = {name: a * np.float32(1e36) if a.ndim == 3 else a for name, a in arrays.items()}
    np.savez(tmp_path / "huge.npz", **huge)
    options = ("--dataset", f"npz:{tmp_path / 'huge.npz'}", "--epochs", 2, "--out", tmp_path / "run")
    assert "loss" in pactl("train", *options).complaint(1)
    assert manifest(tmp_path / "run")["stages"] == {"train": "running"}


@pytest.mark.parametrize("codebook", ["grid", "kmeans"])
def test_a_fine_tuning_that_diverges(pactl: Call, trained: Path, codebook: str) -> None:
    checkpoint = (trained / "checkpoint.safetensors").read_bytes()
    line = pactl("bound", trained, "--codebook", codebook, "--lr", 1e30, "--quant-epochs", 5).complaint(1)
    assert "--lr" in line
    assert manifest(trained)["stages"].get("bound") != "complete"
    assert not (trained / "bound.json").exists()
    assert (trained / "checkpoint.safetensors").read_bytes() == checkpoint
    assert pactl("bound", trained, "--quant-epochs", 1).code == 0
    assert pactl("verify", trained).code == 0


@pytest.mark.parametrize("limit", [1000, 1500, 2000])
def test_a_disk_that_is_full(pactl: Call, train: Any, tmp_path: Path, uninterrupted: Path, limit: int) -> None:
    """A limit on the size of a file stands in for it: the state, or the metrics, no longer fit."""
    run = tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        line = pactl(*train, run).complaint(1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(run) in line
    assert manifest(run)["stages"] == {"train": "running"}
    assert pactl(*train, run, "--resume").code == 0
    same_training(run, uninterrupted / "train")
