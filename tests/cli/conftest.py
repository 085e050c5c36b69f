"""The command line under test: called in this process, forked from a warm process, or really started."""

from __future__ import annotations

import ctypes
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from threading import Thread, Timer
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.commands.app import main

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class Outcome:
    """The exit code, stdout and stderr of a command."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return stdout, parsed as JSON."""
        return json.loads(self.out)

    def complaint(self, code: int) -> str:
        """Return the only line on stderr but for notes on the data; check the exit code and that stdout is empty."""
        assert (self.code, self.out) == (code, ""), self
        line = "".join(row for row in self.err.splitlines(True) if not row.startswith("pactl: note: --dataset "))
        assert line.startswith("pactl: "), self
        assert line.find("\n") == len(line) - 1, self
        assert "Traceback" not in self.err
        assert len(line) < 1500, "a line to read, not a dump"
        return line


# --- The surroundings -------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Compute with one thread in every process: on a tiny network more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set an empty working directory and home, and remove pactl's variables and the network."""
    monkeypatch.chdir(tmp_path)
    for name in ("PACTL_DATA_DIR", "XDG_CACHE_HOME", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr("urllib.request._opener", None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def give_up_override() -> Callable[[], None]:
    """Make root obey permissions in this thread; return a function that undoes it."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    before = sets[0]
    sets[0] &= ~0b111  # CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH

    def undo() -> None:
        sets[0] = before
        assert libc.capset(header, sets) == 0

    assert libc.capset(header, sets) == 0
    return undo


@pytest.fixture
def _ordinary_user() -> Iterator[None]:
    """Make permissions bind, even if the tests run as root."""
    if os.geteuid():
        yield
        return
    if sys.platform != "linux":
        pytest.skip("PERMISSIONS ARE NOT TESTED: root, on a system without Linux's capabilities")
    undo = give_up_override()
    try:
        yield
    finally:
        undo()


# --- Three ways to call it --------------------------------------------------------------------------------------------

Call = Callable[..., Outcome]


@pytest.fixture
def pactl(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return `pactl(*arguments, stdin=...)`, which runs in this process."""

    def call(*arguments: object, stdin: str | bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["pactl", *map(str, arguments)])
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(data), "utf-8"))
        capfd.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main()
        out, err = capfd.readouterr()
        return Outcome(int(leaving.value.code or 0), out, err)

    return call


def quietly(*arguments: object) -> str:
    """Return the stdout of a command that must succeed, run in this process."""
    before, out, err = sys.argv, StringIO(), StringIO()
    sys.argv = ["pactl", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as leaving:
            main()
    finally:
        sys.argv = before
    assert not leaving.value.code, err.getvalue()
    return out.getvalue().strip()


@dataclass
class Process:
    """A running `pactl`."""

    pid: int
    streams: tuple[str, str, str]
    wait: Callable[[float], int]
    code: int | None = None

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def end(self, timeout: float = 60.0) -> Outcome:
        """Return the outcome once the process has ended; the code is negative if a signal killed it."""
        if self.code is None:
            self.code = self.wait(timeout)
        texts = (Path(place).read_text() if Path(place).is_file() else "" for place in self.streams[1:])
        return Outcome(self.code, *texts)


class Terminal:
    """A pseudo-terminal whose output is read."""

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        self.path = os.ttyname(self._slave)
        self._seen = b""
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # what Linux says at the end
            while piece := os.read(self._master, 4096):
                self._seen += piece

    def close(self) -> str:
        """Return all that was written to it, once its writers are gone."""
        os.close(self._slave)
        self._reader.join(10)
        os.close(self._master)
        return self._seen.decode().replace("\r\n", "\n")


@pytest.fixture
def terminal() -> Terminal:
    """Return a terminal, which must be closed; `start` takes its `path` as a stream."""
    return Terminal()


@pytest.fixture(scope="session")
def _warm() -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("warm_process.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "warm\n"
        yield process
        process.kill()


@pytest.fixture
def start(
    _warm: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> Iterator[Callable[..., Process]]:
    """Return `start(*arguments)`, which forks a process from a warm one.

    `blow=(k, signal)` sends it a signal just before its k-th change (write, rename, removal) below `tmp_path`.
    """
    assert _warm.stdin is not None
    assert _warm.stdout is not None
    pipe_in, pipe_out = _warm.stdin, _warm.stdout
    started: list[Process] = []

    def ask(job: dict[str, Any]) -> int:
        pipe_in.write(json.dumps(job) + "\n")
        pipe_in.flush()
        return int(pipe_out.readline())

    def call(
        *arguments: object,
        stdin: str = os.devnull,
        stdout: str | None = None,
        stderr: str | None = None,
        threads: int = 1,
        blow: tuple[int, int] | None = None,
    ) -> Process:
        place = tmp_path_factory.mktemp("streams")
        streams = (stdin, stdout or str(place / "out"), stderr or str(place / "err"))
        pid = ask(
            {
                "arguments": list(map(str, arguments)),
                "cwd": str(tmp_path),
                "env": dict(os.environ),
                "streams": streams,
                "threads": threads,
                "blow": blow,
            }
        )

        def wait(timeout: float) -> int:
            timer = Timer(timeout, os.kill, (pid, signal.SIGABRT))
            timer.start()
            try:
                return ask({"wait": pid})
            finally:
                timer.cancel()

        started.append(Process(pid, streams, wait))
        return started[-1]

    yield call
    for process in started:
        if process.code is None:
            process.signal(signal.SIGKILL)
            process.wait(10)


@pytest.fixture
def shell(tmp_path: Path) -> Call:
    """Return `shell(script)`: bash runs it with `set -o pipefail`; `pactl` and `python` are this environment's."""
    tools = tmp_path / ".tools"
    tools.mkdir()
    (tools / "pactl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pactl_cli "$@"\n')
    (tools / "pactl").chmod(0o755)
    (tools / "python").symlink_to(sys.executable)

    def run(script: str, **environment: str) -> Outcome:
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail\n{script}"],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def quiet() -> Callable[..., str]:
    """Return `quiet(*arguments)`, which gives the stdout of a command that must succeed and needs no `capfd`."""
    return quietly


# --- Data and runs ----------------------------------------------------------------------------------------------------


def prototypes(side: int = 8, train: int = 300, test: int = 100, classes: int = 3) -> dict[str, np.ndarray[Any, Any]]:
    """Return noisy copies of one random image per class: easy, but not without errors."""
    random = np.random.default_rng(0)
    centres = random.random((classes, side, side))

    def part(count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        labels = np.arange(count) % classes
        noisy = centres[labels] + 0.35 * random.standard_normal((count, side, side))
        return (255 * noisy.clip(0, 1)).astype(np.uint8), labels

    return dict(zip(ARRAYS, (*part(train), *part(test)), strict=True))


@pytest.fixture(scope="session")
def arrays() -> dict[str, Any]:
    """Return the tiny data set's arrays by name. Copy before you change them."""
    return prototypes()


@pytest.fixture(scope="session")
def npz(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, Any]) -> Path:
    """Return the tiny data set as a file: 300 and 100 images of 8 x 8 in three classes."""
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    np.savez(path, **arrays)
    return path


QUICK = ("--base-width", 16, "--intrinsic-dim", 20, "--epochs", 12, "--lr", 0.1)


@pytest.fixture(scope="session")
def quick() -> tuple[object, ...]:
    """Return options with which the tiny data set is learnt in a second."""
    return QUICK


@pytest.fixture(scope="session")
def _session_runs(tmp_path_factory: pytest.TempPathFactory, npz: Path) -> Path:
    place = tmp_path_factory.mktemp("runs")
    train = ("train", "--dataset", f"npz:{npz}", *QUICK, "--train-subset", 0.9)
    quietly(*train, "--out", place / "trained")
    shutil.copytree(place / "trained", place / "certified")
    quietly("bound", place / "certified", "--quant-epochs", 5)
    return place


@pytest.fixture
def trained(_session_runs: Path, tmp_path: Path) -> Path:
    """Return a trained run that the test may change."""
    return Path(shutil.copytree(_session_runs / "trained", tmp_path / "trained"))


@pytest.fixture
def certified(_session_runs: Path, tmp_path: Path) -> Path:
    """Return a certified run that the test may change; S is nine tenths of the data, so that it has indices."""
    return Path(shutil.copytree(_session_runs / "certified", tmp_path / "certified"))


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, tuple[int, bytes]]]:
    """Return `tree(path)`, which gives the modes and the contents of everything below a path."""

    def look(path: Path) -> dict[str, tuple[int, bytes]]:
        return {
            str(item.relative_to(path)): (item.lstat().st_mode, item.read_bytes() if item.is_file() else b"")
            for item in sorted(path.rglob("*"))
        }

    return look


def as_written(document: dict[str, Any]) -> bytes:
    """Return a certificate's bytes in the program's own form, or any JSON if it is no certificate."""
    text = json.dumps(document)
    try:
        return Certificate.model_validate_json(text).to_bytes()
    except ValidationError:
        return text.encode()


@pytest.fixture(scope="session")
def agree() -> Callable[..., None]:
    """Return `agree(run, name, content, field=...)`, which forges a file and makes the manifest agree with it.

    Fields of the manifest may be changed, too. A document is written as the program would write it.
    """

    def write(run: Path, name: str | None = None, content: Any = b"", **fields: object) -> None:
        if isinstance(content, dict):
            content = as_written(content)
        if name is not None:
            (run / name).write_bytes(content.encode() if isinstance(content, str) else content)
        manifest = json.loads((run / "manifest.json").read_text())
        manifest["files"] = {known: sha256((run / known).read_bytes()).hexdigest() for known in manifest["files"]}
        (run / "manifest.json").write_text(json.dumps(manifest | fields))

    return write
