"""Where a run goes, and where its settings come from: the options that `train`, `transfer` and `prior` share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from pactl_cli.commands.completion import among
from pactl_cli.commands.trackers import TRACKERS, known_tracker
from pactl_cli.processes.placement import Handoff, Placement
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.stages.order import RUNS, Order

PANEL = "Run directory"

LogOption = Annotated[
    str | None,
    typer.Option(
        help=f"Also log to {', '.join(TRACKERS)}.",
        metavar="WORD",
        rich_help_panel=PANEL,
        callback=known_tracker,
        autocompletion=among((name, "") for name in TRACKERS),
    ),
]


@dataclass(frozen=True)
class RunOptions(Order):
    """What `train`, `transfer` and `prior` are told of the run directory, beside its settings."""

    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write.", show_default="runs/TIME-DATASET-MODEL-PROJECTOR-dD", rich_help_panel=PANEL
        ),
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.", rich_help_panel=PANEL)] = (
        False
    )
    force: Annotated[bool, typer.Option("--force", help="Replace the run in --out.", rich_help_panel=PANEL)] = False
    config: Annotated[
        Path | None, typer.Option(help="Settings as YAML; options override them.", rich_help_panel=PANEL)
    ] = None
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings as YAML and leave.", rich_help_panel=PANEL)
    ] = False
    log: LogOption = None

    @contextmanager
    def target(self, settings: TrainSettings) -> Iterator[Path]:
        """Where the run goes, as `Order.target` says: of several processes the first alone makes it."""
        place = Placement.here()
        if self.out is None and place is not None and place.rank:
            yield Path(RUNS)
            return
        with super().target(settings) as path:
            yield path

    def now(self) -> RunOptions:
        """These, or, where a launcher has started again what it had begun, those that go on with that."""
        handoff = Handoff.received()
        return replace(self, resume=True, force=False) if handoff and handoff.again else self

    @classmethod
    def among(cls, parameters: dict[str, Any]) -> RunOptions:
        """Those among all parameters of a command."""
        return cls(**{field.name: parameters[field.name] for field in fields(cls)})
