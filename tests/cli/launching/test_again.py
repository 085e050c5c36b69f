"""Launches that restart, that wait for others, and that are ended from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pactl_cli.errors import PactlError
from pactl_cli.processes import placement
from pactl_cli.processes.placement import Placement, require_known

Call = Callable[..., Any]
LONG = ("--dataset", "digits", "--intrinsic-dim", 20, "--batch-size", 64)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def lines(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def has_met_others(pid: int) -> bool:
    """Return whether a process has gloo's thread."""
    with suppress(OSError):
        return any("gloo" in name.read_text() for name in Path(f"/proc/{pid}/task").glob("*/comm"))
    return False


# --- Again ------------------------------------------------------------------------------------------------------------


def test_a_killed_rank_starts_again_and_nothing_of_it_is_to_be_seen_in_the_certificate(
    launch: Call, quiet: Call, tmp_path: Path
) -> None:
    calm, shaken = tmp_path / "calm", tmp_path / "shaken"
    words = ("train", *LONG, "--epochs", 40, "--out")
    assert launch("--cpus", 2, *words, calm).end() == (0, f"{calm}\n", "")
    shutil.copytree(calm, shaken)  # an old run, which is replaced, but not what replaces it
    running = launch("--cpus", 2, "--max-restarts", 1, *words, shaken, "--force")
    ranks = running.begun(shaken)
    os.kill(ranks[1], signal.SIGKILL)
    running.wait_until(lambda: running.ranks() not in ([], ranks))
    assert lines(shaken) > 0, "it has gone on, not begun"
    assert running.end() == (0, f"{shaken}\n", "pactl: note: rank 1 was killed by SIGKILL: all start again\n")
    found = [json.loads(quiet("bound", run, "--quant-epochs", 1)) for run in (calm, shaken)]
    assert found[0] == found[1]
    assert (calm / "message.bin").read_bytes() == (shaken / "message.bin").read_bytes()
    steps = [json.loads(line).get("step") for line in (shaken / "metrics.jsonl").read_text().splitlines()]
    assert steps == [json.loads(line).get("step") for line in (calm / "metrics.jsonl").read_text().splitlines()]


def test_what_would_fail_again_is_not_started_again(launch: Call) -> None:
    code, out, err = launch("--cpus", 2, "--max-restarts", 3, "train", "--dataset", "npz:absent.npz").end()
    assert (code, out) == (2, "")
    assert err.count("\n") == err.count("pactl: ") == 1


@pytest.mark.slow
def test_a_machine_leaves_and_another_comes(launch: Call, gone: Call, quiet: Call, tmp_path: Path) -> None:
    run = tmp_path / "run"
    meeting = (
        "--nnodes",
        "1:2",
        "--max-restarts",
        1,
        "--rdzv-endpoint",
        f"127.0.0.1:{free_port()}",
        "--rdzv-id",
        "a/b",
    )
    words = ("--cpus", 1, *meeting, "train", *LONG, "--epochs", 200, "--out", run, "--force")
    first = launch(*words)
    time.sleep(3)  # so that the store is its
    second = launch(*words)
    ranks = second.begun(run)
    second.process.kill()
    assert gone(ranks)
    before = lines(run)
    first.wait_until(lambda: lines(run) > before + 2)
    third = launch(*words)
    third.wait_until(lambda: bool(third.ranks()))
    code, out, err = first.end()
    assert (code, out, third.end()[0]) == (0, f"{run}\n", 0)
    assert err.startswith("pactl: note: the processes of another machine have ended: all start again\n")
    assert err.endswith("pactl: note: a machine has come: all start again\n")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [*range(1, 201)]
    quiet("bound", run, "--quant-epochs", 0)


@pytest.mark.slow
def test_five_in_a_row_leave_nothing(launch: Call, gone: Call, tmp_path: Path) -> None:
    for number in range(5):
        running = launch("--cpus", 3, "train", *LONG, "--epochs", 1, "--out", tmp_path / str(number))
        running.wait_until(lambda: len(running.ranks()) == 3)  # noqa: B023 - called before the next
        ranks = running.ranks()
        assert running.end() == (0, f"{tmp_path / str(number)}\n", "")
        assert gone(ranks)


# --- Waiting, and being ended -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_waits_for_the_others_can_be_interrupted(
    launch: Call, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}.items():
        monkeypatch.setenv(name, str(value))
    waiting = launch(*LONG, command="train")
    waiting.wait_until_it_waits()
    started = time.monotonic()
    waiting.process.send_signal(number)
    code, out, err = waiting.end()
    assert (code, out) == (130, "")
    assert err.startswith("pactl: interrupted")
    assert time.monotonic() - started < 5


def test_a_launcher_that_waits_for_another_can_be_interrupted(launch: Call) -> None:
    where = ("--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--node-rank", 1)
    waiting = launch("--cpus", 1, "--nnodes", 2, *where, "train", *LONG, "--out", "run")
    waiting.wait_until_it_waits()
    waiting.process.send_signal(signal.SIGTERM)
    code, _, err = waiting.end(10)
    assert code == 130
    assert err.startswith("pactl: interrupted")


def test_one_process_alone_waits_for_nobody(launch: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "nowhere.invalid", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert launch(*LONG, "--epochs", 1, "--out", "run", command="train").end() == (0, "run\n", "")


def test_without_a_local_rank_there_is_one_process_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert Placement.here() == Placement(3, 4, 0, 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Placement.here() == Placement(3, 4, 1, 4)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "")
    assert Placement.here() is None, "a template of jobs leaves them empty"


def test_a_host_that_nobody_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_RESOLVING_SECONDS", 1)
    require_known("127.0.0.1")
    with pytest.raises(PactlError, match=r"the host .* is not known on this machine"):
        require_known("nowhere.invalid")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_bound_is_interrupted_as_well(launch: Call, gone: Call, trained: Path, number: signal.Signals) -> None:
    running = launch("--cpus", 2, "bound", trained, "--quant-epochs", 100_000)
    running.wait_until(lambda: len(running.ranks()) == 2 and all(map(has_met_others, running.ranks())))
    time.sleep(1)
    ranks, started = running.ranks(), time.monotonic()
    running.process.send_signal(number)
    code, out, err = running.end()
    assert (code, out) == (130, "")
    assert err.startswith("pactl: interrupted")
    assert "bound" in err
    assert err.count("\n") == 1
    assert time.monotonic() - started < 30
    assert gone(ranks)
    assert not (trained / "bound.json").exists()
