"""What a command tells people to do next, in words that a shell takes as they are printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pactl_cli import catalogue
from pactl_cli.commands.run_options import RunOptions
from pactl_cli.errors import INTERRUPTED, PactlError, StoppedError, shell_command
from pactl_cli.processes.placement import Handoff
from pactl_cli.runs.directory import RunDirectory


def launcher() -> str:
    """Return the command line of the `pactl launch` that started this process; "" if none has."""
    handoff = Handoff.received()
    return handoff.called if handoff else ""


def going_on(kind: str, given: dict[str, Any], options: RunOptions, target: Path, launched: str) -> str:
    """Return which command goes on with a run, wherever it was stopped, or begins what has not begun.

    Args:
        kind: the command's name.
        given: the settings that were on the command line.
        launched: the launcher's command line, if there is one.
    """
    settings = dict(given)
    source = settings.pop("source", None) if kind == "transfer" else None
    if launched:
        settings.pop("device", None)  # the launcher says it
    replaces = options.force and not _is_running(target)
    how = {"force": True} if replaces else {"resume": True}
    words = [kind] if source is None else [kind, source]
    return "go on with: " + shell_command(
        *words, launched=launched, **settings, config=options.config, out=target, log=options.log, **how
    )


def certify_command(target: Path, given: dict[str, Any], launched: str) -> str:
    """Return the command that certifies a run, with what the command that trained it was told of code and places."""
    dataset = given.get("dataset", "digits")
    names = ("model_name", "data_dir", *(("dataset",) if catalogue.dataset_entry(dataset).is_code else ()))
    named = {name: given[name] for name in names if name in given}
    return shell_command("bound", target, launched=launched, **named)


def certifying(directories: list[Path], given: dict[str, Any], launched: str) -> str:
    """Return which command certifies runs again."""
    said = {name: value for name, value in given.items() if not (launched and name == "device")}
    return "certify again: " + shell_command("bound", *directories, launched=launched, **said)


def _is_running(target: Path) -> bool:
    """Whether a run has begun there and has not ended."""
    try:
        return not RunDirectory.open(target).is_complete()
    except PactlError:
        return False


@contextmanager
def advising(advice: Callable[[], str]) -> Iterator[None]:
    """Says what to do after all that stops the work inside, without being wrong with it."""
    try:
        yield
    except StoppedError as error:
        error.hint = "; ".join(filter(None, (error.hint, advice())))
        raise
    except KeyboardInterrupt as error:
        raise PactlError("interrupted", advice(), INTERRUPTED) from error
