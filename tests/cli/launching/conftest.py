"""Launches of real processes, for the tests of this folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Call = Callable[..., Any]
SCRIPT = Path(sys.executable).with_name("pactl")


@dataclass
class Launch:
    """A running `pactl launch`."""

    process: subprocess.Popen[str]

    def end(self, timeout: float = 300.0) -> tuple[int, str, str]:
        """Return the exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err

    def ranks(self) -> list[int]:
        """Return the process ids of its ranks, in order."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return sorted(map(int, children.read_text().split()))

    def begun(self, run: Path) -> list[int]:
        """Wait until a run has been saved once; return the process ids of its ranks."""
        self.wait_until((run / "resume" / "state.safetensors").exists)
        return self.ranks()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition while the launch runs."""
        end = time.monotonic() + 240
        while not condition():
            assert self.process.poll() is None, self.end()
            assert time.monotonic() < end
            time.sleep(0.01)

    def computed_seconds(self) -> float:
        """Return how long processors have worked for the launcher itself."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_until_it_waits(self) -> None:
        """Wait until it has imported torch, and hardly computes for a second."""
        before, since = 0.0, time.monotonic()

        def waits() -> bool:
            nonlocal before, since
            if time.monotonic() - since < 1:
                return False
            used, last = self.computed_seconds(), before
            before, since = used, time.monotonic()
            return last > 1 and used - last < 0.1

        self.wait_until(waits)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launch]]:
    """Yield `launch(*arguments)`: the installed `pactl launch`, in a new directory, with another torchrun on PATH."""
    tools = tmp_path / "other-tools"
    tools.mkdir()
    for name in ("torchrun", "python"):
        (tools / name).write_text("#!/bin/sh\necho the wrong one was called; exit 99\n")
        (tools / name).chmod(0o755)
    started: list[Launch] = []

    def start(*arguments: object, stdin: str = "", command: str = "launch") -> Launch:
        script = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "pactl_cli"]
        process = subprocess.Popen(
            [*script, command, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(stdin)
        started.append(Launch(process))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.process.communicate()


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray[Any, Any]]) -> Path:
    """Return the first 101 examples of the tiny data set as a file."""
    path = tmp_path_factory.mktemp("data") / "odd.npz"
    np.savez(path, **arrays | {"x_train": arrays["x_train"][:101], "y_train": arrays["y_train"][:101]})
    return path


@pytest.fixture(scope="session")
def train(odd: Path, quick: tuple[object, ...]) -> tuple[object, ...]:
    """Return a short training that pays for bits and whose last batches have 5 examples, without a value of `--out`."""
    rate = ("--rate-weight", 0.5, "--rate-from", 0.5, "--ema", 0.9, "--smoothing", 0.1)
    return ("train", "--dataset", f"npz:{odd}", *quick, "--batch-size", 32, *rate, "--out")


@pytest.fixture(scope="session")
def alone(quiet: Call, train: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run of a single process."""
    return Path(quiet(*train, tmp_path_factory.mktemp("alone") / "run"))


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture(scope="session")
def gone() -> Callable[..., bool]:
    """Return `gone(pids)`, which waits a little and returns whether the processes have ended."""

    def wait(pids: list[int], seconds: float = 20.0) -> bool:
        end = time.monotonic() + seconds
        while any(map(is_alive, pids)) and time.monotonic() < end:
            time.sleep(0.02)
        return not any(map(is_alive, pids))

    return wait
