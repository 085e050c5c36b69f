"""`pactl report`: the runs as a table on the terminal, as JSON, or as a page."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pactl_cli.commands.page.markup import plain
from pactl_cli.commands.terminal import percent
from pactl_cli.errors import PactlError

if TYPE_CHECKING:
    from pactl_cli.stages.report import Report

_COLUMNS = ("run", "d", "train", "test", "bits", "certificate", "published", "hold-out")
_NAMED = ("model_name", "intrinsic_mode")
_NOTE = "Not verified here: pactl verify RUN_DIR. Bits: configuration + codebook + symbols + ledger."


def report(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="Runs to show, or - for stdin.")],
    html: Annotated[
        Path | None, typer.Option(help="Write a page with plots, readable without a network or a script.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON even to a terminal.")] = False,
) -> None:
    """Show runs side by side, as their files say. Prints a table, or the path of a page."""
    from pactl_cli.commands.app import run_directories
    from pactl_cli.stages.report import report as run_stage

    if html is not None and as_json:
        raise PactlError("--html and --json exclude each other", "give one of them")
    reports = run_stage(run_directories(run_dirs))
    if html is not None:
        _write_page(html, reports)
        print(html)
    elif as_json or not sys.stdout.isatty():
        print(json.dumps([run.facts() for run in reports], indent=2))
    else:
        _print_table(reports)


def _write_page(path: Path, reports: Sequence[Report]) -> None:
    """The page as a file, whole or not at all."""
    from pactl_cli.commands.page.document import page
    from pactl_cli.runs.directory import FILES, replace_file

    if path.is_dir() or path.name in FILES:
        raise PactlError(f"--html {path} is the name of something else", "name a file for the page")
    try:
        replace_file(path, page(reports).encode("utf-8", "replace"))
    except OSError as error:
        raise PactlError(
            f"--html {path} cannot be written: {os.strerror(error.errno or 0)}", "choose another place"
        ) from error


def _print_table(reports: Sequence[Report]) -> None:
    """A row of two lines for each run."""
    table = Table(box=None, padding=(0, 0, 1, 2), header_style="bold", pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "run" else "right", no_wrap=name != "run", overflow="fold")
    for run in reports:
        table.add_row(*_row(run))
    console = Console(file=sys.stdout, highlight=False)
    console.print()
    console.print(table)
    console.print(_NOTE, style="dim")


def _row(run: Report) -> list[Text]:
    """A run's cells; what comes from files is plain text, never markup."""
    named = [plain(run.named(fact), 60) for fact in _NAMED if run.named(fact)]
    about = " ".join([plain(run.dataset or run.kind, 60), *named])
    certificate, dim = run.certificate, run.named("intrinsic_dim")
    shown_dim = Text("-" if dim is None else f"{dim:,}" if isinstance(dim, int) else plain(dim, 12))
    name = Text.assemble((plain(run.path), "bold"), "\n", (about, "dim"))
    if certificate is None:
        return [name, shown_dim, *(Text("-") for _ in range(4)), Text(run.state, "dim"), Text("-")]
    bits, published = certificate.bits, certificate.published
    in_all = certificate.message_bits + certificate.ledger_bits
    parts = f"{bits.configuration} + {bits.codebook} + {bits.symbols:,} + {bits.ledger:g}"
    return [
        name,
        shown_dim,
        Text(percent(certificate.quantised_train_error)),
        Text(percent(certificate.test_error)),
        Text.assemble(f"{in_all:,.6g}", "\n", (parts, "dim")),
        Text(percent(certificate.error_bound), "bold green"),
        Text.assemble(percent(published.bound), "\n", (f"{published.bits:,.0f} bits", "dim")),
        Text(percent(certificate.holdout_bound)),
    ]
