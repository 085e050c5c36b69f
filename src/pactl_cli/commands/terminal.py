"""What people see: progress on stderr where it is a terminal, tables, one-line errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pactl_cli.catalogue import HEADLINE
from pactl_cli.certificate.percent import percent
from pactl_cli.commands.layout import columns, command_lines, wrapped
from pactl_cli.errors import on_one_line
from pactl_cli.problem.bars import bar_on
from pactl_cli.processes.heap import keep_freed_memory

if TYPE_CHECKING:
    from pathlib import Path

    from pactl_cli.certificate.certificate import Certificate
    from pactl_cli.problem.display import Bar
    from pactl_cli.stages.advice import Advice
    from pactl_cli.stages.verify import Verdict


class Terminal:
    """A stage's display: bars and lines on stderr, nothing where that is not a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def progress(self, title: str) -> AbstractContextManager[Bar]:
        """A bar, where that is seen."""
        return bar_on(self._console, title)

    def say(self, text: str) -> None:
        """A sentence, if somebody is there to read it."""
        if self._console.is_terminal:
            self._console.print(Text("\n".join(wrapped(text, columns(sys.stderr)))), soft_wrap=True)

    def warn(self, text: str) -> None:
        """A line on stderr, whatever that is."""
        complain(f"note: {text}")


def complain(text: str) -> None:
    """Print a sentence on stderr: one line, or on a terminal as many as it needs, no word or command broken."""
    print("\n".join(wrapped(f"pactl: {on_one_line(text)}", columns(sys.stderr))), file=sys.stderr)


@contextmanager
def starting() -> Iterator[None]:
    """Prepare for a stage: a line on a terminal's stderr while the libraries are loaded, which takes seconds."""
    keep_freed_memory()
    console = Console(stderr=True)
    with console.status("loading PyTorch") if console.is_terminal else nullcontext():
        yield


def print_certificate(certificate: Certificate, check: str, advice: Advice | None) -> None:
    """The certificate as tables, on stdout.

    What may come from a file or a user is Text, in which brackets and colons are only themselves.

    Args:
        check: the command that verifies it.
        advice: what to say of one that says nothing.
    """
    from pactl_cli.commands.guarantees import lines

    console, width = Console(file=sys.stdout, highlight=False), columns(sys.stdout)
    facts = Table.grid(padding=(0, 2))
    for row in _rows(certificate):
        facts.add_row(*row)
    console.print(Text("\n".join(["", *wrapped(certificate.statement, width, "  ")]), "bold"), soft_wrap=True)
    if advice:
        reasons = wrapped(f"{advice.reason} Next, {advice.why}:", width, "  ")
        console.print(Text("\n".join(["", *reasons, command_lines(advice.command, width)])), soft_wrap=True)
    console.print(Padding(facts, (1, 2)))
    if jointly := [*lines(certificate, width)]:
        console.print(
            Text("\n".join(["  All of this holds at once, each event at its price:", *jointly, ""])), soft_wrap=True
        )
    said = ["  It assumes:", *_listed(certificate.assumptions, width), "", command_lines(check, width, "  Check it: ")]
    console.print(Text("\n".join([*said, ""])), soft_wrap=True)


def _listed(sentences: Iterable[str], width: int | None) -> Iterator[str]:
    """Their lines."""
    for each in sentences:
        yield from wrapped(each, width, "  - ")


def _rows(certificate: Certificate) -> list[tuple[str, str]]:
    """The certificate's numbers, each with what it is."""
    counted = f"({certificate.errors:,} of {certificate.bound_examples:,})"
    levels = "1 level" if certificate.levels == 1 else f"{certificate.levels} levels"
    others = {name: bound for name, bound in certificate.bounds.items() if name != HEADLINE}
    rows = [
        ("certificate", f"[bold green]{percent(certificate.error_bound)}[/bold green]"),
        *((f"  at delta {each.delta:g}, jointly", percent(each.error_bound)) for each in certificate.at_other_deltas),
        ("always the most frequent class, on S", percent(certificate.majority_error)),
        ("training error, quantised", f"{percent(certificate.quantised_train_error)}  {counted}"),
        ("training error, before quantising", percent(certificate.train_error)),
        ("test error (a check, not used)", percent(certificate.test_error)),
        ("hold-out bound of the test set", percent(certificate.holdout_bound)),
        ("", ""),
        ("message", f"{certificate.message_bits:,} bits"),
        ("  configuration", f"{certificate.bits.configuration:,}"),
        ("  codebook", f"{certificate.bits.codebook:,}"),
        (f"  {certificate.intrinsic_dim:,} symbols, {levels}", f"{certificate.bits.symbols:,}"),
        *[("  threshold below which it abstains", f"{certificate.bits.threshold}")] * bool(certificate.bits.threshold),
        ("ledger", f"{certificate.ledger_bits:g} bits"),
        *((f"  {charge.reason}", f"{charge.bits:g}") for charge in certificate.ledger),
        ("", ""),
        (f"other bounds: {', '.join(others)}", "  ".join(map(percent, others.values()))),
        ("published accounting", f"{percent(certificate.published.bound)}  ({certificate.published.bits:,.0f} bits)"),
    ]
    if posthoc := certificate.posthoc:
        result = f"{percent(posthoc.bound)}  ({posthoc.bits:,.0f} bits)"
        rows.append((f"published path, k-means K = {posthoc.levels}", result))
    return rows


def print_certified(
    found: Certificate | Sequence[tuple[Path, Certificate]], check: str, advice: Advice | None, *, as_json: bool
) -> None:
    """A certificate, or those of several runs, the best first, on stdout: as tables, or as JSON.

    Args:
        check: the command that verifies it, if it is one.
        advice: what to say of it on a terminal, if it says nothing.
    """
    from pactl_cli.commands.guarantees import in_short

    if not isinstance(found, Sequence):
        print(found.model_dump_json(indent=2)) if as_json else print_certificate(found, check, advice)
        return
    ranked = sorted(found, key=lambda entry: entry[1].loss)
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
        headline = certificate.guarantee(certificate.headline)
        more = f"  ({in_short(headline)})" if headline else ""
        console.print(Text(f"  {numbers}  {certificate.paid_bits:>9,.6g}  {path}{more}"), soft_wrap=True)
    console.print()


def print_verdict(verdict: Verdict, directory: Path, *, as_json: bool) -> None:
    """What was verified, on which data, and what is assumed, on stdout."""
    from pactl_cli.commands.guarantees import claims

    certificate = verdict.certificate
    if as_json:
        facts = {"verified": True, "run_dir": str(directory), "error_bound": certificate.error_bound}
        facts["guarantees"] = {each.what: each.as_dict() for each in claims(certificate)}
        facts |= {"data": verdict.data, "not_looked_at": verdict.NOT_LOOKED_AT, "assumptions": certificate.assumptions}
        print(json.dumps(facts, indent=2))
        return
    width, not_seen = columns(sys.stdout), "; ".join(verdict.NOT_LOOKED_AT)
    print(f"verified: {directory}")
    print("\n".join(wrapped(certificate.statement, width, "  ")))
    if held := [claim.text for claim in claims(certificate)]:
        print("\n".join(["  All of this holds at once:", *_listed(held, width)]))
    for said in (f"Data: {verdict.data}.", f"Not looked at: {not_seen}."):
        print("\n".join(wrapped(said, width, "  ")))
    print("  What cannot be verified, and is assumed:")
    print("\n".join(_listed(certificate.assumptions, width)))
