"""`pactl report`: runs compared in a table, as JSON, on a page or in a plot."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from pactl_cli.certificate.percent import in_bits, percent
from pactl_cli.commands.completion import among, run_directory
from pactl_cli.commands.layout import columns, command_lines, wrapped
from pactl_cli.commands.option_groups import JsonOption
from pactl_cli.commands.options import with_options
from pactl_cli.commands.page.markup import plain
from pactl_cli.commands.page.plot import PLOTS
from pactl_cli.commands.piped import run_directories
from pactl_cli.commands.terminal import Terminal
from pactl_cli.errors import BAD_INPUT, FAILED, PactlError, not_written

if TYPE_CHECKING:
    from pactl_cli.problem.display import Display
    from pactl_cli.stages.report import Report

_COLUMNS = {"d": 9, "train": 8, "test": 8, "bits": 17, "certificate": 11, "published": 12, "hold-out": 8}
"""The table's columns and their widths."""
_FORMS = ("pdf", "svg", "png")
_NAMED = ("model_name", "intrinsic_mode")
_NOTE = "Bits: configuration+codebook+symbols+ledger. Unverified: pactl verify RUN_DIR."


@dataclass(frozen=True)
class Outputs:
    """The options of `report`: what it writes, and where. At most one output can be given."""

    html: Annotated[
        Path | None, typer.Option(help="Write a page with plots, readable without a network or a script; - for stdout.")
    ] = None
    csv: Annotated[
        Path | None, typer.Option(help="Write every run's numbers as a table, a row each; - for stdout.")
    ] = None
    latex: Annotated[
        Path | None, typer.Option(help="Write a table for a paper (booktabs), a row each; - for stdout.")
    ] = None
    figure: Annotated[Path | None, typer.Option(help="Write a plot of the page as FILE.pdf, .svg or .png.")] = None
    plot: Annotated[
        str | None,
        typer.Option(
            help=f"The plot for --figure: {', '.join(PLOTS)}.",
            show_default=PLOTS[0],
            metavar="WORD",
            autocompletion=among((name, "") for name in PLOTS),
        ),
    ] = None
    as_json: JsonOption = False

    def require_one(self) -> None:
        """Raise PactlError if several outputs are asked for, or a plot that does not exist or cannot be drawn."""
        if sum(bool(each) for each in (self.html, self.csv, self.latex, self.figure, self.as_json)) > 1:
            raise PactlError("--html, --csv, --latex, --figure and --json exclude each other", "give one of them")
        if self.plot is not None and self.figure is None:
            raise PactlError(f"--plot {self.plot} is for --figure", "name a file: --figure FILE.pdf")
        if self.plot is not None and self.plot not in PLOTS:
            raise PactlError(f"--plot {self.plot}: there is no such plot", f"choose from {', '.join(PLOTS)}")
        if self.figure is not None and _form(self.figure) not in _FORMS:
            raise PactlError(f"--figure {self.figure} does not end in .pdf, .svg or .png", "such as errors.pdf")
        if self.figure is not None and find_spec("matplotlib") is None:
            raise PactlError("--figure needs matplotlib, which is not installed", "pip install 'pactl[plot]'")

    def give(self, reports: Sequence[Report], display: Display) -> None:
        """Write the output that is asked for; without one, print the table on a terminal and JSON elsewhere."""
        if self.html is not None:
            from pactl_cli.commands.page.document import page

            _write("--html", self.html, page(reports))
        elif self.csv is not None:
            from pactl_cli.commands.tables import as_csv

            _write("--csv", self.csv, as_csv(reports))
        elif self.latex is not None:
            from pactl_cli.commands.tables import as_latex

            _write("--latex", self.latex, as_latex(reports))
        elif self.figure is not None:
            from pactl_cli.commands.page.picture import picture

            _write("--figure", self.figure, picture(reports, self.plot or PLOTS[0], _form(self.figure), display))
        elif self.as_json or not sys.stdout.isatty():
            print(json.dumps([run.facts() for run in reports], indent=2))
        else:
            _print_table(reports)


@with_options(Outputs)
def report(
    run_dirs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN_DIR...", help="Runs to show, or - for stdin.", autocompletion=run_directory),
    ],
    options: Outputs,
) -> None:
    """Compare runs, as their files describe them. Prints a table, or the path of a page or a file."""
    from pactl_cli.stages.report import report as run_stage

    options.require_one()
    directories, display = run_directories(run_dirs), Terminal()
    reports = run_stage(directories, display)
    options.give(reports, display)
    if len(reports) < len(directories):
        raise typer.Exit(FAILED)


def _form(figure: Path) -> str:
    """Return the ending of a figure's name."""
    return figure.suffix[1:].lower()


def _write(option: str, path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all, and print its path; for the path `-`, print the content instead."""
    from pactl_cli.runs.copying import require_other_file
    from pactl_cli.runs.directory import replace_file

    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    if str(path) == "-":
        print(data.decode(), end="")
        return
    require_other_file(path, option)
    try:
        replace_file(path, data)
    except OSError as error:
        raise not_written(f"{option} {path}", error, BAD_INPUT) from error
    print(path)


def _print_table(reports: Sequence[Report]) -> None:
    """Print for each run its name, a line of numbers and a line of their parts, in 80 columns."""
    console = Console(file=sys.stdout, highlight=False)
    lines = [_line(_COLUMNS.keys(), "bold")]
    for run in reports:
        named = [plain(run.named(fact), 60) for fact in _NAMED if run.named(fact)]
        about = " ".join([plain(run.dataset or run.kind, 60), *named])
        lines += [Text(), Text.assemble((plain(run.path), "bold"), "  ", (about, "dim")), *_numbers(run)]
        lines += _notes(run)
    abstains = any(run.certificate and run.certificate.bits.threshold for run in reports)
    note = _NOTE.replace("ledger. ", "ledger+threshold.\n") if abstains else _NOTE
    for line in [*lines, Text(), Text(note, "dim")]:
        console.print(line, soft_wrap=True)  # as Text: rich must take no words of a file for markup


def _notes(run: Report) -> Iterator[Text]:
    """Yield further lines on a certificate: what holds jointly with it, and advice if it says nothing."""
    from pactl_cli.commands.guarantees import in_short

    if run.certificate and run.certificate.at_other_deltas:
        others = (f"{percent(each.error_bound)} at delta {each.delta:g}" for each in run.certificate.at_other_deltas)
        yield Text(f"  jointly: {', '.join(others)}")
    if run.certificate and run.certificate.guarantees:
        held = f"jointly: {', '.join(map(in_short, run.certificate.guarantees))}"
        yield from map(Text, wrapped(held, columns(sys.stdout), "  "))
    if advised := run.advice():
        width = columns(sys.stdout)
        yield from map(Text, wrapped(plain(f"{advised.reason} Next, {advised.why}:", 1000), width, "  "))
        yield Text(command_lines(advised.command, width))


def _line(cells: Iterable[str], style: str = "") -> Text:
    """Return cells in columns, aligned to the right."""
    return Text(" ".join(f"{cell:>{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True)), style)


def _numbers(run: Report) -> list[Text]:
    """Return the lines of a run's numbers."""
    certificate, dim = run.certificate, run.named("intrinsic_dim")
    shown_dim = "-" if dim is None else f"{dim:,}" if isinstance(dim, int) else plain(dim, 9)
    if certificate is None:
        return [_line([shown_dim, "-", "-", "-", run.state, "-", "-"])]
    bits, published = certificate.bits, certificate.published
    numbers = [
        shown_dim,
        percent(certificate.quantised_train_error),
        percent(certificate.test_error),
        f"{certificate.paid_bits:,.6g}",
        percent(certificate.error_bound),
        percent(published.bound),
        percent(certificate.holdout_bound),
    ]
    parts = f"{bits.configuration}+{bits.codebook}+{bits.symbols:,}+{bits.ledger:.3g}"
    parts += f"+{bits.threshold}" if bits.threshold else ""
    line = _line(numbers)
    line.highlight_words([numbers[4]], "bold green")
    return [line, _line(["", "", "", parts, "", in_bits(round(published.bits)), ""], "dim")]
