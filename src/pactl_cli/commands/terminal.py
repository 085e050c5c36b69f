"""What people see: progress on stderr where it is a terminal, tables, one-line errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from pactl_cli.catalogue import HEADLINE
from pactl_cli.errors import on_one_line

if TYPE_CHECKING:
    from pathlib import Path

    from pactl_cli.certificate.certificate import Certificate
    from pactl_cli.problem.display import Bar
    from pactl_cli.stages.verify import Verdict


class Terminal:
    """A stage's display: bars and lines on stderr, nothing where that is not a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[Bar]:
        """A bar with what is done and the time that is left, of 79 columns."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[note]}", markup=False),
            _Left(),
        )
        with Bars(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bars:
            task = bars.add_task(title, total=None, note="")

            def advance(done: int, total: int, note: str = "") -> None:
                bars.update(task, completed=done, total=total or None, note=note or f"{done:,}/{total:,}")

            yield advance

    def say(self, text: str) -> None:
        """One line, if somebody is there to read it."""
        if self._console.is_terminal:
            self._console.print(Text(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """One line on stderr, whatever that is."""
        print(f"pactl: note: {on_one_line(text)}", file=sys.stderr)


class _Left(ProgressColumn):
    """The time that is left, where that is known."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """`0:01:02 left`."""
        seconds = task.time_remaining
        return Text("" if seconds is None else f"{timedelta(seconds=round(seconds))} left")


@contextmanager
def starting() -> Iterator[None]:
    """A line on a terminal's stderr while the libraries are loaded, which takes seconds."""
    console = Console(stderr=True)
    with console.status("loading PyTorch") if console.is_terminal else nullcontext():
        yield


def percent(error: float | None) -> str:
    """An error rate in percent, rounded up; a dash where there is none."""
    return "-" if error is None else f"{ceil(Decimal(repr(float(error))) * 10**4) / 100:.2f} %"


def print_certificate(certificate: Certificate, check: str) -> None:
    """The certificate as tables, on stdout.

    What may come from a file or a user is Text, in which brackets and colons are only themselves.

    Args:
        check: the command that verifies it.
    """
    console = Console(file=sys.stdout, highlight=False)
    counted = f"({certificate.errors:,} of {certificate.bound_examples:,})"
    others = {name: bound for name, bound in certificate.bounds.items() if name != HEADLINE}
    rows = [
        ("certificate", f"[bold green]{percent(certificate.error_bound)}[/bold green]"),
        ("training error, quantised", f"{percent(certificate.quantised_train_error)}  {counted}"),
        ("training error, before quantising", percent(certificate.train_error)),
        ("test error (a check, not used)", percent(certificate.test_error)),
        ("hold-out bound of the test set", percent(certificate.holdout_bound)),
        ("", ""),
        ("message", f"{certificate.message_bits:,} bits"),
        ("  configuration", f"{certificate.bits.configuration:,}"),
        ("  codebook", f"{certificate.bits.codebook:,}"),
        (f"  {certificate.intrinsic_dim:,} symbols, {certificate.levels} levels", f"{certificate.bits.symbols:,}"),
        ("ledger", f"{certificate.ledger_bits:g} bits"),
        ("", ""),
        (f"other bounds: {', '.join(others)}", "  ".join(map(percent, others.values()))),
        ("published accounting", f"{percent(certificate.published.bound)}  ({certificate.published.bits:,.0f} bits)"),
    ]
    if posthoc := certificate.posthoc:
        result = f"{percent(posthoc.bound)}  ({posthoc.bits:,.0f} bits)"
        rows.append((f"published path, k-means K = {posthoc.levels}", result))
    facts = Table.grid(padding=(0, 2))
    for row in rows:
        facts.add_row(*row)
    assumed = Table.grid(padding=(0, 1))
    for line in certificate.assumptions:
        assumed.add_row("-", Text(line))
    for part in (Text(certificate.statement, "bold"), facts, "It assumes:", assumed):
        console.print(Padding(part, (1 if part is not assumed else 0, 2, 0, 2)))
    console.print(Text(f"\n  Check it: {check}\n"), soft_wrap=True)


def print_certified(found: Certificate | Sequence[tuple[Path, Certificate]], check: str, *, as_json: bool) -> None:
    """A certificate, or those of several runs, the best first, on stdout: as tables, or as JSON.

    Args:
        check: the command that verifies it, if it is one.
    """
    if not isinstance(found, Sequence):
        print(found.model_dump_json(indent=2)) if as_json else print_certificate(found, check)
        return
    ranked = sorted(found, key=lambda entry: entry[1].error_bound)
    if as_json:
        facts = [{"run_dir": str(path)} | certificate.model_dump(mode="json") for path, certificate in ranked]
        print(json.dumps(facts, indent=2))
        return
    console = Console(file=sys.stdout, highlight=False)
    header = f"\n  {'certificate':>11}  {'training':>9}  {'test':>9}  {'bits':>9}  run"
    console.print(Text(header, "bold"), soft_wrap=True)
    for path, certificate in ranked:
        errors = percent(certificate.quantised_train_error), percent(certificate.test_error)
        numbers = f"{percent(certificate.error_bound):>11}  {errors[0]:>9}  {errors[1]:>9}"
        console.print(Text(f"  {numbers}  {certificate.paid_bits:>9,.6g}  {path}"), soft_wrap=True)
    console.print()


def print_verdict(verdict: Verdict, directory: Path, *, as_json: bool) -> None:
    """What was verified, on which data, and what is assumed, on stdout."""
    certificate = verdict.certificate
    if as_json:
        facts = {"verified": True, "run_dir": str(directory), "error_bound": certificate.error_bound}
        facts |= {"data": verdict.data, "not_looked_at": verdict.NOT_LOOKED_AT, "assumptions": certificate.assumptions}
        print(json.dumps(facts, indent=2))
        return
    print(f"verified: {directory}")
    print(f"  {certificate.statement}")
    print(f"  Data: {verdict.data}.")
    print(f"  Not looked at: {'; '.join(verdict.NOT_LOOKED_AT)}.")
    print("  What cannot be verified, and is assumed:")
    for line in certificate.assumptions:
        print(f"  - {line}")
