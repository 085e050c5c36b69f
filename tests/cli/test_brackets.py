"""A terminal shows brackets and colons in names of files as they are: rich does not take them for markup."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pactl_cli.commands import terminal as shown

Call = Callable[..., Any]

NAMES = ("[v2]", "[bold]", "a[/v2]b", "[/bold]", "[link=x]", ":smile:", "\\[v2]", "plain")


@pytest.mark.parametrize("name", NAMES)
def test_a_certificate_about_data_in_such_a_place(
    start: Call, terminal: Any, npz: Path, quick: Any, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`a[/v2]b` is a directory `a[` with a child `v2]b`; a certificate has the last part of a file's path."""
    monkeypatch.setenv("COLUMNS", "500")  # no line is broken
    data = tmp_path / name / f"{Path(name).name}.npz"
    data.parent.mkdir(parents=True)
    shutil.copy(npz, data)
    run = tmp_path / name / "run"
    assert start("train", "--dataset", f"npz:{data}", *quick, "--epochs", 1, "--out", run).end().code == 0
    done = start("bound", run, "--quant-epochs", 0, stdout=terminal.path).end()
    text = terminal.close()
    assert (done.code, done.err) == (0, "")
    assert f"pactl verify {shlex.quote(str(run))}" in text
    assert f'"npz:{data.name}"' in text


@pytest.mark.parametrize("name", NAMES)
def test_a_report_of_runs_in_such_a_place(start: Call, terminal: Any, certified: Path, name: str) -> None:
    run = certified.parent / name / "run"
    run.parent.mkdir(parents=True)
    certified.rename(run)
    assert start("report", run, stdout=terminal.path).end().code == 0
    assert str(run) in terminal.close()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_while_one_waits(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = StringIO()
    display = shown.Terminal()
    display._console = Console(file=screen, force_terminal=True, width=200, color_system=None)
    display.say(f"reading {name}")
    with redirect_stderr(StringIO()), display.progress(f"at {name}") as advance:
        advance(1, 2)
    text = screen.getvalue()
    assert f"reading {name}\n" in text
    assert f"at {name}" in text
