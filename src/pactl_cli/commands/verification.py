"""What `pactl verify` is told of a run, and with which words people go on after a run was certified."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pactl_cli import catalogue
from pactl_cli.commands.terminal import print_certified
from pactl_cli.errors import shell_command
from pactl_cli.runs.fields import CERTIFICATE, DATA, MACHINE, NETWORK
from pactl_cli.runs.settings import BoundSettings

if TYPE_CHECKING:
    from pactl_cli.certificate.certificate import Certificate
    from pactl_cli.problem.display import Display
    from pactl_cli.stages.advice import Advice
    from pactl_cli.stages.bound import Certified


@dataclass(frozen=True)
class NetworkOptions:
    """What whoever rebuilds a classifier is told of its network."""

    model_name: Annotated[
        str | None,
        typer.Option(
            help="The network, if it is somebody's own code, MODULE:FUNCTION, or very large: only then is it built.",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None

    def settings(self, command: str, **more: str) -> BoundSettings:
        """The same as settings, checked.

        Args:
            command: that was given these options.
            more: options that it has of its own.

        Raises:
            PactlError: naming what is wrong.
        """
        said = {field.name: getattr(self, field.name) for field in fields(self)} | more
        return BoundSettings.parse({name: value for name, value in said.items() if value is not None}, command)


@dataclass(frozen=True)
class DataOptions(NetworkOptions):
    """What whoever counts a classifier's errors is told, beside a run directory, whose own words are not believed."""

    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where named data sets lie: never where the run says.",
            show_default="$PACTL_DATA_DIR, else the cache directory",
            rich_help_panel=DATA,
        ),
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option(
            help="The data, if they are somebody's own: csv:PATH, npz:PATH, ...",
            show_default="the path that the run names, unless it lies inside the run",
            rich_help_panel=DATA,
        ),
    ] = None
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="The tokenizer's file, if the data are texts that one splits.",
            show_default="the path that the run names, unless it lies inside the run",
            rich_help_panel=DATA,
        ),
    ] = None


@dataclass(frozen=True)
class VerifyOptions(DataOptions):
    """What `verify` is told."""

    groups: Annotated[
        Path | None,
        typer.Option(
            help="The group of each training example, if the certificate is about groups.",
            show_default=False,
            rich_help_panel=CERTIFICATE,
        ),
    ] = None
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=MACHINE)] = "auto"


def verification(path: Path, certificate: Certificate, settings: BoundSettings) -> str:
    """Return the command that verifies a certificate that was just made."""
    return shell_command("verify", path, **finding(path, certificate, settings))


def advice_on(path: Path, certificate: Certificate, settings: BoundSettings) -> Advice | None:
    """Return what to say of a certificate that was just made, if it says nothing."""
    from pactl_cli.runs.directory import RunDirectory
    from pactl_cli.stages.advice import advice

    if certificate.says_something:
        return None
    return advice(certificate, path, RunDirectory.open(path).read_settings(), finding(path, certificate, settings))


def show_certified(
    best: Certified, settings: BoundSettings, display: Display, *, as_json: bool, every: Sequence[Certified] = ()
) -> None:
    """Print a certificate that was just made, or every one, as a table on a terminal and else as JSON, and what to say
    of the best if it says nothing.
    """
    path, certificate = best
    advice, as_json = advice_on(path, certificate, settings), as_json or not sys.stdout.isatty()
    if advice and (as_json or every):
        display.warn(advice.in_words())
    print_certified(every or certificate, verification(path, certificate, settings), advice, as_json=as_json)


def finding(path: Path, certificate: Certificate, settings: BoundSettings) -> dict[str, Any]:
    """Return the options with which other commands find the data and the network of a certified run, by name.

    What was handed over from Python has no name for them: a function takes its place.
    """
    from pactl_cli.problem.machine import data_directory
    from pactl_cli.runs.directory import RunDirectory

    model, kept = certificate.configuration["model_name"], RunDirectory.open(path).read_settings()
    is_named = catalogue.is_brought(model) or settings.model_name
    found, is_code = settings.data_dir or kept.data_dir, catalogue.dataset_entry(kept.dataset).is_code
    is_elsewhere = kept.dataset in catalogue.DATASETS and found and found != data_directory(None)
    return {
        "model_name": (settings.model_name if catalogue.is_handed(model) else model) if is_named else None,
        "dataset": settings.dataset or (_code(kept.dataset) if is_code else None),
        "tokenizer": settings.tokenizer,
        "groups": settings.groups_file,
        "data_dir": found if is_elsewhere else None,
    }


def _code(name: str) -> str:
    """Return the name of code by which a shell can name it."""
    return "MODULE:FUNCTION" if catalogue.is_handed(name) else name
