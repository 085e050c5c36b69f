"""Options and groups of options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pactl_cli.commands.completion import among, run_directory
from pactl_cli.commands.trackers import TRACKERS, known_tracker
from pactl_cli.processes.placement import Handoff, Placement
from pactl_cli.runs.fields import CERTIFICATE, DATA, MACHINE, NETWORK
from pactl_cli.runs.settings import BoundSettings, TrainSettings
from pactl_cli.stages.order import RUNS, Order

RUN = "Run directory"
"""The heading of options about the run directory."""

CertifiedRun = Annotated[
    Path,
    typer.Argument(metavar="RUN_DIR", help="A certified run, or - for stdin.", autocompletion=run_directory),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON even to a terminal.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=MACHINE)]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the run in --out.", rich_help_panel=RUN)]
LogOption = Annotated[
    str | None,
    typer.Option(
        help=f"Also log to {', '.join(TRACKERS)}.",
        metavar="WORD",
        rich_help_panel=RUN,
        callback=known_tracker,
        autocompletion=among((name, "") for name in TRACKERS),
    ),
]


@dataclass(frozen=True)
class RunOptions(Order):
    """The options of `train`, `transfer` and `prior` about the run directory, beside its settings."""

    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the run.", show_default="runs/TIME-DATASET-MODEL-PROJECTOR-dD", rich_help_panel=RUN
        ),
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, or begin it.", rich_help_panel=RUN)
    ] = False
    force: ForceOption = False
    config: Annotated[
        Path | None, typer.Option(help="YAML file of settings; options override it.", rich_help_panel=RUN)
    ] = None
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings as YAML and leave.", rich_help_panel=RUN)
    ] = False
    log: LogOption = None

    @contextmanager
    def target(self, settings: TrainSettings) -> Iterator[Path]:
        """Yield the run directory, as `Order.target` does; of several processes only rank 0 creates a new one."""
        place = Placement.here()
        if self.out is None and place is not None and place.rank:
            yield Path(RUNS)
            return
        with super().target(settings) as path:
            yield path

    def now(self) -> RunOptions:
        """Return these options, or those that resume the run if the launcher starts this command again."""
        handoff = Handoff.received()
        return replace(self, resume=True, force=False) if handoff and handoff.again else self

    @classmethod
    def among(cls, parameters: dict[str, Any]) -> RunOptions:
        """Return the options of this group from all parameters of a command."""
        return cls(**{field.name: parameters[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class NetworkOptions:
    """The options of commands that rebuild a certified classifier."""

    model_name: Annotated[
        str | None,
        typer.Option(
            help="The network; needed only if it is your own code (MODULE:FUNCTION) or very large.",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None

    def settings(self, command: str, **more: str) -> BoundSettings:
        """Return the options as checked settings.

        Args:
            command: the command's name, for complaints.
            more: options of the command's own.

        Raises:
            PactlError: naming every wrong value.
        """
        said = {field.name: getattr(self, field.name) for field in fields(self)} | more
        return BoundSettings.parse({name: value for name, value in said.items() if value is not None}, command)


_path_in_run = partial(
    typer.Option, show_default="the path that the run names, unless it lies inside the run", rich_help_panel=DATA
)


@dataclass(frozen=True)
class DataOptions(NetworkOptions):
    """The options of commands that count a classifier's errors again; where the run says data lie is not trusted."""

    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where named data sets lie; the path in the run is not used.",
            show_default="$PACTL_DATA_DIR, else the cache directory",
            rich_help_panel=DATA,
        ),
    ] = None
    dataset: Annotated[
        str | None,
        _path_in_run(help="The data, if they are your own: csv:PATH, npz:PATH, ..."),
    ] = None
    tokenizer: Annotated[
        str | None,
        _path_in_run(help="The tokenizer's file, if the data are texts that need one."),
    ] = None


@dataclass(frozen=True)
class VerifyOptions(DataOptions):
    """The options of `verify`."""

    groups: Annotated[
        Path | None,
        typer.Option(
            help="File with the group of each training example, if groups are guaranteed.",
            show_default=False,
            rich_help_panel=CERTIFICATE,
        ),
    ] = None
    device: DeviceOption = "auto"
