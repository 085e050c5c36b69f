"""Several real processes, connected by gloo: they give the result of one process, and end together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Call = Callable[..., Any]
SAYS_NOTHING = "pactl: note: This certificate says nothing: "

SCRIPT = Path(sys.executable).with_name("pactl")
NET = """
import os
import torch


def tire(*_):
    raise ValueError("this network is tired")


class Fragile(torch.nn.Module):
    def __init__(self, classes, backwards):
        super().__init__()
        self.layer, self.head = torch.nn.Linear(64, 8), torch.nn.Linear(8, classes)
        self.calls, self.backwards = 0, backwards

    def forward(self, images):
        self.calls += 1
        logits = self.head(self.layer(images.flatten(1)))
        if self.training and self.calls > 12 and os.environ.get("RANK") == "1":
            logits.register_hook(tire) if self.backwards else tire()
        return logits


def fragile(classes, channels):
    return Fragile(classes, backwards=False)


def backwards(classes, channels):
    return Fragile(classes, backwards=True)
"""


def curve(run: Path) -> list[tuple[int, float, float]]:
    """Return the step, the loss and the error of every epoch."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(record["step"], record["loss"], record["error"]) for record in records if record["stage"] != "bound"]


def close(one: Any, other: Any) -> bool:
    """Return whether two loss curves agree within rounding."""
    return bool(np.allclose(one, other, rtol=1e-4, atol=1e-5))


# --- What one process would have done ---------------------------------------------------------------------------------


def test_one_two_and_three_processes_train_alike_and_certify_the_same(
    launch: Call, quiet: Call, train: Any, alone: Path, tmp_path: Path, tree: Call
) -> None:
    runs = [tmp_path / "two", tmp_path / "three"]
    both = [launch("--cpus", n, *train, run) for n, run in zip((2, 3), runs, strict=True)]  # at once, on one machine
    for running, run in zip(both, runs, strict=True):
        assert running.end() == (0, f"{run}\n", "")
        assert close(curve(run), curve(alone))
        assert set(tree(run)) == set(tree(alone))
    copies = [tmp_path / "by-one", tmp_path / "by-three"]
    for copy in copies:
        shutil.copytree(runs[0], copy)
    code, out, err = launch("--cpus", 3, "bound", "-", "--quant-epochs", 3, stdin=f"{copies[1]}\n").end()
    assert code == 0
    assert err.startswith(SAYS_NOTHING)
    assert err.count("\n") == 1, "one process speaks"
    certificate = json.loads(quiet("bound", copies[0], "--quant-epochs", 3))
    assert json.loads(out) == certificate
    assert certificate["bound_examples"] == 101
    for name in ("bound.json", "message.bin"):
        assert (copies[0] / name).read_bytes() == (copies[1] / name).read_bytes()
    quiet("verify", copies[1])


def test_a_killed_rank_ends_the_run_which_goes_on_with_another_number(
    launch: Call, gone: Call, quiet: Call, train: Any, tmp_path: Path
) -> None:
    run, long = tmp_path / "run", (*train[:-1], "--epochs", 80, "--lr", 0.003, "--rate-weight", 0, "--out")
    running = launch("--cpus", 2, *long, run)
    ranks, started = running.begun(run), time.monotonic()
    os.kill(ranks[1], signal.SIGKILL)
    code, out, err = running.end()
    assert time.monotonic() - started < 10
    assert (code, out) == (1, "")
    assert err.startswith("pactl: rank 1 was killed by SIGKILL (go on with: pactl launch --cpus 2 train --dataset ")
    assert err.endswith(f" --out {run} --resume)\n")
    assert gone(ranks)
    quiet(*long, run, "--resume")
    whole = Path(quiet(*long, tmp_path / "whole"))
    assert len(curve(run)) == 80
    assert close(curve(run), curve(whole))
    assert not (run / "resume").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_all_stop_at_one_step_and_save_once(
    launch: Call, gone: Call, train: Any, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    running = launch("--cpus", 2, *train[:-1], "--epochs", 100_000, "--out", run)
    ranks, started = running.begun(run), time.monotonic()
    running.process.send_signal(number)
    running.process.send_signal(number)  # an impatient wrapper: still one wish
    code, out, err = running.end()
    assert (code, out) == (130, "")
    assert time.monotonic() - started < 10
    assert err.startswith("pactl: interrupted after step ")
    assert err.count("\n") == 1
    assert gone(ranks)
    assert (run / "resume" / "state.safetensors").exists()


@pytest.mark.parametrize(("network", "shows_where"), [("net:fragile", False), ("net:backwards", True)])
def test_a_rank_that_raises_says_so_itself_and_once(
    launch: Call, odd: Path, tmp_path: Path, network: str, shows_where: bool
) -> None:
    """An exception of the user's network in its forward pass is one line; any other is shown with a traceback."""
    (tmp_path / "net.py").write_text(NET)
    options = ("--dataset", f"npz:{odd}", "--model-name", network, "--intrinsic-dim", 20, "--batch-size", 16)
    code, out, err = launch("--cpus", 2, "train", *options, "--epochs", 5, "--out", "run").end()
    assert (code, out) == (1, "")
    assert err.count("ValueError: this network is tired") == 1
    assert err.count("Traceback") == shows_where
    assert err.count("pactl: ") == (not shows_where)
    assert err.count("\n") == 1 or shows_where


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((2, "train", "--dataset", "mnits"), "--dataset 'mnits' is not known (did you mean mnist?"),
        ((2, "train", "--dataset", "digits", "--epochs", 0), "--epochs 0:"),
        ((2, "bound", "run", "--quant-epochs", -1), "--quant-epochs -1:"),
        ((2, "verify", "run"), "'COMMAND': 'verify' is not one of 'train', 'transfer', 'prior', 'bound'"),
        ((2, "train", "--resume"), "--resume needs --out"),
        ((2, "train", "--device", "cuda"), "--device cuda does not go with launch --cpus"),
        ((2, "bound", "-"), "no run directory came through the pipe"),
        ((2, "train", "--no-such-option"), "No such option: --no-such-option"),
        ((2, "--gpus", 1, "train"), "launch needs --gpus N or --cpus N"),
        ((2, "--nnodes", 2, "train", "--out", "run"), "--nnodes 2 needs --rdzv-endpoint"),
        ((2, "--nnodes", 2, "--rdzv-endpoint", "here:1", "train"), "--nnodes 2 needs --out"),
        ((2, "--nnodes", 2, "--rdzv-endpoint", "here", "train", "--out", "run"), "--rdzv-endpoint here is not HOST"),
        ((2, "--nnodes", "2:1", "train"), "--nnodes 2:1 is not MIN or MIN:MAX"),
        ((2, "--nnodes", "x", "train"), "--nnodes x is not MIN or MIN:MAX"),
        ((2, "--max-restarts", -1, "train"), "Invalid value for '--max-restarts'"),
        ((2, "--node-rank", 1, "train"), "--node-rank 1 is not below --nnodes 1"),
        ((0, "train"), "Invalid value for '--cpus'"),
    ],
)
def test_what_is_wrong_is_found_before_any_process_starts(
    pactl: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: Any, complaint: str
) -> None:
    monkeypatch.setattr("pactl_cli.commands.agent.run_processes", None)
    assert complaint in pactl("launch", "--cpus", *words).complaint(2)
    assert list(tmp_path.iterdir()) == []


def test_settings_are_printed_once_and_help_is_the_command_s_own(pactl: Call) -> None:
    assert "dataset: digits" in pactl("launch", "--cpus", 2, "train", "--print-config").out
    assert "Train a network" in pactl("launch", "--cpus", 2, "train", "--help").out


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "WORLD_SIZE 2: MASTER_ADDR and MASTER_PORT are not set"),
        ({"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK x: must be a whole number"),
        (
            {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1", "LOCAL_RANK": "0"},
            "RANK 2 is not below WORLD_SIZE 2",
        ),
    ],
)
def test_an_environment_that_contradicts_itself(
    pactl: Call, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], complaint: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert complaint in pactl("train").complaint(2)


# --- What takes longer ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_rank_that_hangs_is_reported_in_words(
    launch: Call, gone: Call, train: Any, tmp_path: Path, stopped: int
) -> None:
    run = tmp_path / "run"
    running = launch("--cpus", 2, "--timeout", 3, *train[:-1], "--epochs", 100_000, "--out", run)
    ranks = running.begun(run)
    os.kill(ranks[stopped], signal.SIGSTOP)
    code, _, err = running.end()
    assert code == 1
    assert err.startswith(f"pactl: rank {1 - stopped} has waited 3 s for the other processes: one of them hangs")
    assert err.count("\n") == 1
    assert gone(ranks)


@pytest.mark.slow
def test_nothing_outlives_a_launcher(
    launch: Call, gone: Call, train: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, temporary = tmp_path / "run", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    running = launch("--cpus", 2, *train[:-1], "--epochs", 100_000, "--out", run)
    ranks = running.begun(run)
    running.process.kill()
    assert gone(ranks)
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_two_machines_train_and_certify(launch: Call, quiet: Call, train: Any, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def both(*arguments: object) -> list[tuple[int, str, str]]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        several = ("--nnodes", 2, "--rdzv-endpoint", f"127.0.0.1:{port}")
        machines = [launch("--cpus", 2 - rank // 2, *several, "--node-rank", rank, *arguments) for rank in range(2)]
        return [machine.end() for machine in machines]

    assert both(*train, run) == [(0, f"{run}\n", ""), (0, "", "")]
    assert close(curve(run), curve(alone))
    first, second = both("bound", run, "--quant-epochs", 2)
    assert second == (0, "", "")
    assert json.loads(first[1])["bound_examples"] == 101
    quiet("verify", run)


@pytest.mark.slow
def test_under_torchrun_too_only_one_process_speaks(train: Any, alone: Path, tmp_path: Path) -> None:
    def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2, "-m", "pactl_cli", *arguments]
        return subprocess.run(list(map(str, words)), cwd=tmp_path, capture_output=True, text=True, check=False)

    done = torchrun(*train, tmp_path / "run")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'run'}\n")
    assert close(curve(tmp_path / "run"), curve(alone))
    refused = torchrun(*train, tmp_path / "run")
    assert refused.returncode == 1  # torchrun's own
    assert refused.stderr.count("pactl: ") == 1
    assert "is not empty" in refused.stderr


@pytest.mark.slow
def test_a_prior_and_a_transfer_with_batch_statistics_and_a_batch_too_small_for_all(
    launch: Call, quiet: Call, odd: Path, npz: Path, tmp_path: Path
) -> None:
    options = ("--dataset", f"npz:{odd}", "--model-name", "resnet20", "--base-width", 2, "--intrinsic-dim", 10)
    budget = ("--epochs", 2, "--batch-size", 16, "--calibration-examples", 4)
    prior = tmp_path / "prior"
    assert launch("--cpus", 3, "prior", *options, *budget, "--out", prior).end() == (0, f"{prior}\n", "")
    code, _, err = launch("--cpus", 2, "bound", prior, "--quant-epochs", 1).end()
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith(SAYS_NOTHING)
    quiet("verify", prior)
    words = ("transfer", "-", "--dataset", f"npz:{npz}", "--intrinsic-dim", 10, *budget, "--out", "moved")
    assert launch("--cpus", 2, *words, stdin=f"{prior}\n").end() == (0, "moved\n", "")
    code, _, err = launch("--cpus", 3, "bound", "moved", "--quant-epochs", 0).end()
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith(SAYS_NOTHING)
    quiet("verify", tmp_path / "moved")
