"""Certificates and verdicts on stdout: tables on a terminal, JSON elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pactl_cli.catalogue import HEADLINE
from pactl_cli.certificate.percent import in_bits, percent
from pactl_cli.commands.layout import columns, command_lines, wrapped
from pactl_cli.commands.next_steps import location_options, verify_command
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.runs.settings import BoundSettings

if TYPE_CHECKING:
    from pactl_cli.certificate.certificate import Certificate
    from pactl_cli.problem.display import Display
    from pactl_cli.stages.advice import Advice
    from pactl_cli.stages.bound import Certified
    from pactl_cli.stages.verify import Verdict


def print_certified(
    best: Certified, settings: BoundSettings, display: Display, *, as_json: bool, every: Sequence[Certified] = ()
) -> None:
    """Print a new certificate, or every one of several, with advice if the best says nothing.

    Args:
        as_json: print JSON even to a terminal.
        every: the certificates of all runs, if all are to be printed.
    """
    path, certificate = best
    advice, as_json = _advice(path, certificate, settings), as_json or not sys.stdout.isatty()
    if advice and (as_json or every):
        display.warn(advice.in_words())
    if every:
        _print_every(sorted(every, key=lambda entry: entry[1].loss), as_json=as_json)
    elif as_json:
        print(certificate.model_dump_json(indent=2))
    else:
        _print_certificate(certificate, verify_command(path, certificate, settings), advice)


def _advice(path: Path, certificate: Certificate, settings: BoundSettings) -> Advice | None:
    """Return what to try if a new certificate says nothing."""
    from pactl_cli.stages.advice import advice

    if certificate.says_something:
        return None
    found_with = location_options(path, certificate, settings)
    return advice(certificate, path, RunDirectory.open(path).read_settings(), found_with)


def _print_every(ranked: Sequence[Certified], *, as_json: bool) -> None:
    """Print the certificates of several runs, one line each on a terminal."""
    from pactl_cli.commands.guarantees import in_short

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


def _print_certificate(certificate: Certificate, check: str, advice: Advice | None) -> None:
    """Print a certificate as tables.

    Words from a file or a user are printed as Text, in which rich takes brackets and colons for no markup.

    Args:
        check: the command that verifies it.
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
    """Yield the lines of a list of sentences."""
    for each in sentences:
        yield from wrapped(each, width, "  - ")


def _rows(certificate: Certificate) -> list[tuple[str, str]]:
    """Return the certificate's numbers with their names."""
    counted = f"({certificate.errors:,} of {certificate.bound_examples:,})"
    dim, levels = certificate.intrinsic_dim, certificate.levels
    symbols = f"{dim:,} symbol{'s' * (dim != 1)}, {levels} level{'s' * (levels != 1)}"
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
        ("message", in_bits(certificate.message_bits)),
        ("  configuration", f"{certificate.bits.configuration:,}"),
        ("  codebook", f"{certificate.bits.codebook:,}"),
        *[(f"  {symbols}", f"{certificate.bits.symbols:,}")] * bool(dim),
        *[("  threshold below which it abstains", f"{certificate.bits.threshold}")] * bool(certificate.bits.threshold),
        ("ledger", in_bits(certificate.ledger_bits)),
        *((f"  {charge.reason}", f"{charge.bits:g}") for charge in certificate.ledger),
        ("", ""),
        (f"other bounds: {', '.join(others)}", "  ".join(map(percent, others.values()))),
        (
            "published accounting",
            f"{percent(certificate.published.bound)}  ({in_bits(round(certificate.published.bits))})",
        ),
    ]
    if posthoc := certificate.posthoc:
        result = f"{percent(posthoc.bound)}  ({in_bits(round(posthoc.bits))})"
        rows.append((f"published path, k-means K = {posthoc.levels}", result))
    return rows


def print_verdict(verdict: Verdict, directory: Path, *, as_json: bool) -> None:
    """Print what was verified, on which data, and what is assumed."""
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
