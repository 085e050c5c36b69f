"""`pactl names`: a list of the names that options take."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from pactl_cli import catalogue
from pactl_cli.commands.completion import among
from pactl_cli.commands.layout import columns, definitions
from pactl_cli.errors import PactlError
from pactl_cli.runs.defaults import with_known_defaults
from pactl_cli.runs.settings import TrainSettings

KINDS = {table.kind: table for table in catalogue.TABLES}
HINT = "All names:  pactl names"
"""A line of help that stands for a list of names."""

_DEFAULTS = ("model_name", "epochs", "batch_size", "lr", "intrinsic_dim", "calibration_examples", "augment")


def names(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help=f"{', '.join(KINDS)}.",
            autocompletion=among((kind, table.title) for kind, table in KINDS.items()),
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with the facts of each name.")] = False,
) -> None:
    """List the names that options take. Without a kind, counts those of each kind."""
    if kind is not None and kind not in KINDS:
        raise PactlError(f"names {kind!r}: there is no such kind", f"choose from {', '.join(KINDS)}")
    if as_json:
        found: Any = {kind: facts(kind) for kind in KINDS} if kind is None else facts(kind)
        print(json.dumps(found, indent=2))
        return
    rows = [(each, f"{len(table):>3}  {table.option}") for each, table in KINDS.items()]
    if kind is not None:
        rows = [(name, line(row)) for name, row in KINDS[kind].items()]
    print("\n".join(definitions(rows, columns(sys.stdout))))


def facts(kind: str) -> list[dict[str, Any]]:
    """Return the facts of every name of a kind: a summary, its other names, the defaults of a data set."""
    found: list[dict[str, Any]] = []
    for row in KINDS[kind].values():
        found.append({"name": row.name, "summary": row.summary})
        if isinstance(row, catalogue.Model):
            found[-1] |= {"also": row.aliases, "base_width": row.width, "batch_norm": row.batch_statistics}
        if isinstance(row, catalogue.Dataset):
            found[-1]["defaults"] = defaults(row)
    return found


def defaults(entry: catalogue.Dataset) -> dict[str, Any]:
    """Return the default settings of `train` on a data set; None for those that depend on the data's content."""
    name = f"{entry.name}PATH" if entry.takes_path and not entry.is_code else entry.name
    known = with_known_defaults(TrainSettings(dataset=name, intrinsic_dim=0 if entry.is_source else None))
    return {name: getattr(known, name) for name in _DEFAULTS}


def line(row: Any) -> str:
    """Return a row's summary with its other names."""
    aliases: tuple[str, ...] = getattr(row, "aliases", ())
    return f"{row.summary} (also {', '.join(aliases)})" if aliases else str(row.summary)
