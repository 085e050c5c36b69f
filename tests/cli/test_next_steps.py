"""The commands that pactl tells people to run next work as printed: each is run as by a shell."""

from __future__ import annotations

import re
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Call = Callable[..., Any]

NETS = """
from torch import nn

def small(classes, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, classes))
"""


@pytest.fixture
def odd_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the options for a network and data of one's own; the data's path needs quotation marks in a shell."""
    (tmp_path / "nets_of_mine.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    draws = np.random.default_rng(0)
    y = draws.integers(0, 3, 240)
    (tmp_path / "my data").mkdir()
    np.savez(tmp_path / "my data" / "it's.npz", x_train=draws.normal(y[:, None], 1, (240, 9)), y_train=y)
    return ["--dataset", "npz:my data/it's.npz", "--model-name", "nets_of_mine:small", "--intrinsic-dim", "20"]


def told(line: str, before: str) -> list[str]:
    """Return the words, without `pactl`, of the command after some text in a line, split as by a shell."""
    found = re.search(rf"{before}: (pactl .*?)\)?$", line.strip().replace("\\\n", ""), re.MULTILINE)
    assert found, line
    return shlex.split(found[1])[1:]


def wait_for(pattern: str) -> None:
    deadline = time.monotonic() + 30
    while not list(Path().glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_says_how_to_go_on_also_without_out(
    start: Call, pactl: Call, odd_place: list[str], number: int
) -> None:
    process = start("train", *odd_place, "--epochs", 3000, "--batch_size=16")
    wait_for("runs/*/metrics.jsonl")
    process.signal(number)
    line = process.end().complaint(130)
    words = told(line, "go on with")
    assert words[0] == "train"
    assert "--resume" in words
    again = start(*words)
    time.sleep(0.5)
    again.signal(number)
    assert told(again.end().complaint(130), "go on with") == words, "the same once more"
    assert len(list(Path("runs").iterdir())) == 1
    assert pactl("report", *Path("runs").iterdir()).json()[0]["state"] == "unfinished"


def test_before_anything_is_written_the_line_begins_the_run(start: Call, odd_place: list[str]) -> None:
    short = ("train", *odd_place, "--epochs", 1)
    words = told(start(*short, blow=(1, signal.SIGINT)).end().complaint(130), "go on with")
    done = start(*words).end()
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("runs/")


def test_what_is_forced_is_forced_again_only_while_the_old_run_stands(
    start: Call, pactl: Call, odd_place: list[str]
) -> None:
    train = ("train", *odd_place, "--out", "mine")
    assert pactl(*train, "--epochs", 1).code == 0
    early = start(*train, "--epochs", 3000, "--force", blow=(1, signal.SIGINT)).end().complaint(130)
    assert "--force" in told(early, "go on with")
    process = start(*train, "--epochs", 3000, "--force")
    wait_for("mine/resume/state.safetensors")
    process.signal(signal.SIGINT)
    words = told(process.end().complaint(130), "go on with")
    assert "--resume" in words
    assert "--force" not in words


def test_bound_and_verify_say_what_to_repeat(start: Call, pactl: Call, odd_place: list[str], terminal: Any) -> None:
    network = odd_place[2:4]
    assert pactl("train", *odd_place, "--epochs", 1, "--out", "my run").code == 0
    process = start("bound", "my run", *network, "--quant-epochs", 100_000, "--batch-size", 8, "--no-use-kmeans")
    time.sleep(1)
    process.signal(signal.SIGINT)
    words = told(process.end().complaint(130), "certify again")
    assert words == ["bound", "my run", *words[2:]]
    words[words.index("100000")] = "0"
    assert (
        pactl("verify", "my run", *network)
        .complaint(2)
        .endswith("(run pactl bound 'my run' --model-name nets_of_mine:small)\n")
    )
    done = start(*words, stdout=terminal.path).end()
    assert done.code == 0, done.err
    assert pactl(*told(terminal.close(), "Check it")).code == 0


def test_an_incomplete_run_says_how_to_finish_it_but_trusts_no_code(
    start: Call, pactl: Call, odd_place: list[str]
) -> None:
    train = start("train", *odd_place, "--epochs", 40, "--out", "-my run")
    wait_for("-my run/resume/state.safetensors")
    train.signal(signal.SIGINT)
    assert train.end().code == 130
    line = pactl("bound", "./-my run").complaint(2)
    said = re.search(r"finish it with: pactl (.*), and (.*) if you trust it", line)
    assert said, line
    assert "code" in pactl(*shlex.split(said[1])).complaint(2)
    assert pactl(*shlex.split(f"{said[1]} {said[2]}")).code == 0
    assert pactl("bound", "./-my run", *odd_place[2:4], "--quant-epochs", 0).code == 0


def test_weights_that_no_message_has_say_what_they_are_for(pactl: Call, odd_place: list[str]) -> None:
    assert pactl("train", *odd_place, "--intrinsic-dim", 0, "--epochs", 1, "--out", "all of it").code == 0
    words = told(pactl("bound", "all of it", *odd_place[2:4]).complaint(2), "use it as a source")
    assert words[-2:] == ["--dataset", "ANOTHER"]
    draws = np.random.default_rng(1)
    np.savez("other.npz", x_train=draws.normal(0, 1, (100, 9)), y_train=draws.integers(0, 3, 100))
    assert pactl(*words[:-1], "npz:other.npz", "--epochs", 1).code == 0


@pytest.mark.slow
def test_an_interrupted_launch_says_the_launch_that_goes_on(start: Call, odd_place: list[str]) -> None:
    process = start("launch", "--cpus", 2, "train", *odd_place, "--epochs", 3000)
    wait_for("runs/*/metrics.jsonl")
    process.signal(signal.SIGINT)
    words = told(process.end().complaint(130), "go on with")
    assert words[:4] == ["launch", "--cpus", "2", "train"]
    words[words.index("--epochs") + 1] = "3000"
    again = start(*words)
    time.sleep(6)
    again.signal(signal.SIGINT)
    assert told(again.end().complaint(130), "go on with") == words
    assert len(list(Path("runs").iterdir())) == 1
