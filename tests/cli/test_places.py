"""Places that are unlike a disk at home: file systems without modes or locks, users whom nobody knows, others."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pactl_cli.commands.option_groups import RunOptions
from pactl_cli.problem.machine import data_directory
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.stages import order

Call = Callable[..., Any]
BRIEF = ("--epochs", 1, "--intrinsic-dim", 5)


def refusing(number: int) -> Callable[..., Any]:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.fixture(params=[errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def _poor_file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that has no modes, no links, no locks and no flushing."""
    for place, name, number in (
        (os, "chmod", errno.EPERM),
        (os, "fchmod", errno.EPERM),
        (os, "link", errno.EPERM),
        (os, "fsync", errno.EINVAL),
        (fcntl, "flock", request.param),
        (fcntl, "lockf", request.param),
    ):
        monkeypatch.setattr(place, name, refusing(number))


@pytest.mark.usefixtures("_poor_file_system")
def test_everything_works_on_a_poor_file_system(pactl: Call, tmp_path: Path) -> None:
    assert pactl("train", *BRIEF, "--out", "run").code == 0
    assert pactl("train", *BRIEF, "--out", "run", "--force").code == 0
    assert pactl("bound", "run", "--quant-epochs", 1).code == 0
    assert pactl("verify", "run").code == 0
    assert pactl("train", "--out", "run", "--resume").code == 0
    assert pactl("report", "run", "--html", "report.html").code == 0
    assert pactl("permute", "--dataset", "digits").code == 0
    (tmp_path / "data").mkdir()
    line = pactl("train", "--dataset", "mnist", "--data-dir", "data").complaint(2)
    assert "Error downloading" in line  # for want of a network, not of a lock
    assert not list((tmp_path / "data").iterdir())


def test_a_name_of_data_that_is_not_utf8_is_in_the_certificate_as_far_as_it_can_be(
    pactl: Call, npz: Path, tmp_path: Path
) -> None:
    data = f"npz:{os.fsdecode(os.fsencode(tmp_path) + b'/a' + bytes([255]) + b'.npz')}"
    os.link(npz, data.removeprefix("npz:"))
    assert pactl("train", "--dataset", data, *BRIEF, "--out", "run").code == 0
    assert '"dataset": "npz:a?.npz"' in pactl("bound", "run", "--quant-epochs", 0).out
    assert pactl("verify", "run").code == 0


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_is_not_one_that_cannot_flush(
    pactl: Call, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(number))
    assert f"manifest.json cannot be written: {os.strerror(number)}" in pactl(
        "train", *BRIEF, "--out", "run"
    ).complaint(1)


# --- Directories of their own -----------------------------------------------------------------------------------------


class _Noon(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls(2026, 1, 2, 12)


def test_commands_of_one_second_have_directories_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "datetime", _Noon)
    options, settings = RunOptions(), TrainSettings()
    with ExitStack() as commands:
        places = [commands.enter_context(options.target(settings)) for _ in range(3)]
        assert len({*places}) == 3
        assert all(stat.S_ISDIR(place.stat().st_mode) for place in places)
        (places[1] / "manifest.json").touch()
    assert list(tmp_path.rglob("*")) == [
        tmp_path / "runs",
        tmp_path / places[1],
        tmp_path / places[1] / "manifest.json",
    ]


def test_nothing_is_left_of_a_command_that_wrote_nothing(pactl: Call, tmp_path: Path) -> None:
    assert pactl("train", "--dataset", "npz:absent.npz").code == 2
    assert pactl("launch", "--cpus", 1, "train", "--dataset", "npz:absent.npz").code == 2
    assert not list(tmp_path.iterdir())
    (tmp_path / "runs").mkdir()
    assert pactl("train", "--dataset", "npz:absent.npz").code == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]


def test_a_place_for_runs_that_is_none_is_said(pactl: Call, tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to("nowhere")
    assert "--out runs/" in pactl("train", *BRIEF).complaint(2)


def test_a_sweep_in_the_background(start: Call, tmp_path: Path) -> None:
    sweep = [start("train", *BRIEF, "--seed", seed) for seed in range(3)]
    runs = {run.end().out.strip() for run in sweep}
    assert len(runs) == 3
    assert all((tmp_path / run / "checkpoint.safetensors").exists() for run in runs)


# --- Users and systems ------------------------------------------------------------------------------------------------


def test_a_user_whom_nobody_knows(pactl: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert data_directory(None).is_absolute()
    assert pactl("info").json()["data_directory"] == str(data_directory(None))
    assert pactl("train", *BRIEF, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 1).code == 0
    assert "--data-dir ~/data is not a directory" in pactl("train", "--data-dir", "~/data").complaint(2)
    assert "npz:~/x.npz" in pactl("train", "--dataset", "npz:~/x.npz").complaint(2)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train"], ["info"]])
def test_where_it_cannot_work_it_says_so(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['fcntl'] = None\nsys.platform = 'win32'\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    entry = "from pactl_cli.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", entry, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "pactl: this is win32, and pactl needs Linux or macOS (on Windows: in WSL)\n"


# --- Several processes ------------------------------------------------------------------------------------------------


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port of this machine, at which rank 0 of one process is to be met."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    return port


@pytest.mark.usefixtures("meeting")
def test_a_job_of_one_pod_has_no_local_rank(start: Call) -> None:
    done = start("train", *BRIEF, "--out", "run").end()
    assert (done.code, done.out) == (0, "run\n"), done


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_waits_for_others_can_be_stopped(
    start: Call, meeting: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    waiting = start("train", *BRIEF, "--out", "run")
    for _ in range(300):
        with socket.socket() as visitor:
            if not visitor.connect_ex(("127.0.0.1", meeting)):
                break
        time.sleep(0.1)
    time.sleep(0.3)
    waiting.signal(number)
    assert waiting.end(20).complaint(130).startswith("pactl: interrupted")


def test_a_port_in_use_is_said(shell: Call) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        meeting = f"--nnodes 2 --node-rank 0 --rdzv-endpoint 127.0.0.1:{port}"
        done = shell(f"pactl launch --cpus 1 {meeting} train --epochs 1 --out run")
    assert done.code == 1
    assert done.err.startswith(f"pactl: cannot listen at 127.0.0.1:{port}: the port is in use"), done
