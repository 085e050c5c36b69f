"""The commands that pactl tells people to run next, quoted for a shell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pactl_cli import catalogue
from pactl_cli.commands.option_groups import RunOptions
from pactl_cli.errors import INTERRUPTED, PactlError, StoppedError, shell_command
from pactl_cli.processes.placement import Handoff
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.runs.settings import BoundSettings

if TYPE_CHECKING:
    from pactl_cli.certificate.certificate import Certificate


def launcher() -> str:
    """Return the command line of the `pactl launch` that started this process; "" without one."""
    handoff = Handoff.received()
    return handoff.called if handoff else ""


def resume_advice(kind: str, given: dict[str, Any], options: RunOptions, target: Path, launched: str) -> str:
    """Return how to go on with a run, wherever it was stopped, or to begin one that has not begun.

    Args:
        kind: the command's name.
        given: the settings of the command line.
        launched: the launcher's command line, or "".
    """
    settings = dict(given)
    source = settings.pop("source", None) if kind == "transfer" else None
    if launched:
        settings.pop("device", None)  # the launcher sets it
    replaces = options.force and not _is_running(target)
    how = {"force": True} if replaces else {"resume": True}
    words = [kind] if source is None else [kind, source]
    return "go on with: " + shell_command(
        *words, launched=launched, **settings, config=options.config, out=target, log=options.log, **how
    )


def _is_running(target: Path) -> bool:
    """Return whether a run has begun there and has not ended."""
    try:
        return not RunDirectory.open(target).is_complete()
    except PactlError:
        return False


def bound_command(target: Path, given: dict[str, Any], launched: str) -> str:
    """Return the command that certifies a run; it names the code and the places that the training command named."""
    dataset = given.get("dataset", "digits")
    names = ("model_name", "data_dir", *(("dataset",) if catalogue.dataset_entry(dataset).is_code else ()))
    named = {name: given[name] for name in names if name in given}
    return shell_command("bound", target, launched=launched, **named)


def bound_advice(directories: list[Path], given: dict[str, Any], launched: str) -> str:
    """Return how to certify runs again."""
    said = {name: value for name, value in given.items() if not (launched and name == "device")}
    return "certify again: " + shell_command("bound", *directories, launched=launched, **said)


def verify_command(path: Path, certificate: Certificate, settings: BoundSettings) -> str:
    """Return the command that verifies a new certificate."""
    return shell_command("verify", path, **location_options(path, certificate, settings))


def location_options(path: Path, certificate: Certificate, settings: BoundSettings) -> dict[str, Any]:
    """Return the options by which other commands find the data and the network of a certified run, by name.

    A placeholder stands for what was handed over from Python and has no name.
    """
    from pactl_cli.problem.machine import data_directory

    model, kept = certificate.configuration["model_name"], RunDirectory.open(path).read_settings()
    is_named = catalogue.is_brought(model) or settings.model_name
    found, is_code = settings.data_dir or kept.data_dir, catalogue.dataset_entry(kept.dataset).is_code
    is_elsewhere = kept.dataset in catalogue.DATASETS and found and found != data_directory(None)
    code = "MODULE:FUNCTION" if catalogue.is_handed(kept.dataset) else kept.dataset
    return {
        "model_name": (settings.model_name if catalogue.is_handed(model) else model) if is_named else None,
        "dataset": settings.dataset or (code if is_code else None),
        "tokenizer": settings.tokenizer,
        "groups": settings.groups_file,
        "data_dir": found if is_elsewhere else None,
    }


@contextmanager
def advising(advice: Callable[[], str]) -> Iterator[None]:
    """Add advice to every error that stops the work inside from outside, and turn Ctrl-C into such an error."""
    try:
        yield
    except StoppedError as error:
        error.hint = "; ".join(filter(None, (error.hint, advice())))
        raise
    except KeyboardInterrupt as error:
        raise PactlError("interrupted", advice(), INTERRUPTED) from error
