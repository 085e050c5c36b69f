"""The numbers of runs as tables for other programs: CSV for spreadsheets, LaTeX for papers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from csv import DictWriter
from io import StringIO
from math import ceil
from typing import Any

from pactl_cli import __version__
from pactl_cli.catalogue import BOUNDS
from pactl_cli.certificate.certificate import HOLD_OUT, BitParts, Certificate, Posthoc, Published
from pactl_cli.certificate.percent import percent
from pactl_cli.commands.guarantees import claims
from pactl_cli.commands.page.markup import plain
from pactl_cli.errors import shell_command
from pactl_cli.runs.settings import BoundSettings
from pactl_cli.stages.claims import LEFT_OUT
from pactl_cli.stages.report import Report, are_comparable

_PARTS: dict[str, Iterable[str]] = {
    "bits": BitParts.model_fields,
    "bounds": BOUNDS,
    "published": Published.model_fields,
    "posthoc": Posthoc.model_fields,
    "made_with": BoundSettings().made_with,
}
"""The facts that consist of several values, with the names of these: each value has a column."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_LONGEST_NAME, _LONGEST_TEXT = 60, 1 << 12


def as_csv(reports: Sequence[Report]) -> str:
    """Return the numbers of runs as CSV (RFC 4180), one row each; the header is the same for all runs.

    An apostrophe stands before a text that a spreadsheet would take for a formula.
    """
    text = StringIO()
    facts = [run.facts() for run in reports]
    columns = [column for fact in facts[0] if fact != "assumptions" for column in _columns(fact)]
    writer = DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(
        {name: _harmless(name, value) for fact in run for name, value in _cells(fact, run[fact])} for run in facts
    )
    return text.getvalue()


def _columns(fact: str) -> list[str]:
    return [f"{fact}.{part}" for part in _PARTS[fact]] if fact in _PARTS else [fact]


def _cells(fact: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each cell of a fact; absent parts have no cell."""
    if fact in _PARTS:
        yield from ((f"{fact}.{part}", each) for part, each in (value or {}).items())
    elif fact == "at_other_deltas":
        yield fact, " ".join(f"{each['delta']!r}:{each['error_bound']!r}" for each in value or ())
    elif fact == "guarantees":
        yield fact, " ".join(_flat(each) for each in value or ())
    else:
        yield fact, value


def _flat(guarantee: dict[str, Any]) -> str:
    """Return a guarantee as `what:bound`, or for abstention as `what:bound:accepted`."""
    numbers = (guarantee[name] for name in ("bound", "accepted"))
    return ":".join([guarantee["what"], *(repr(number) for number in numbers if number is not None)])


def _harmless(column: str, value: Any) -> Any:
    """Return a value that is no formula; a text without control characters, unless it is the path that the user names.

    The texts of a run may be a stranger's.
    """
    if not isinstance(value, str):
        return value
    text = value if column == "run_dir" else plain(value, _LONGEST_TEXT)
    return f"'{text}" if text.startswith(_FORMULA) else text


_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "\N{REPLACEMENT CHARACTER}": "?",
} | {character: f"\\{character}" for character in "&%$#_{}"}
_NOTES = {
    "a": "Hold-out bound of the weights that training started from ($d = 0$ or every coordinate zero), which were "
    "trained on none of the $n$ examples.",
    "b": "About new examples other than those left out because the classifier has seen them or their like.",
    "c": "About new examples whose labels are replaced at random as often as in training.",
}
_JOINT = (
    "According to their files, the runs have the same examples and starting weights; each message encodes its "
    "configuration, so the bounds hold jointly and choosing the lowest is paid for."
)
_APART = (
    "The runs differ in their examples, their starting weights or $\\delta$: each bound holds with its own confidence, "
    "and choosing the lowest is not paid for."
)


def escaped(text: object) -> str:
    """Return text that LaTeX prints as it is, on one line and not too long.

    >>> escaped("50%_a&b\\n")
    '50\\\\%\\\\_a\\\\&b?'
    """
    found = "".join(_SPECIAL.get(character, character) for character in plain(text, _LONGEST_NAME))
    return re.sub("-(?=-)", "-{}", found)  # LaTeX prints two hyphens as a dash


def as_latex(reports: Sequence[Report]) -> str:
    """Return a table for a paper, one row for each run; percentages and bits are rounded up. It needs booktabs."""
    certified = [run.certificate for run in reports if run.certificate]
    others = sorted({each.delta for c in certified for each in c.at_other_deltas}, reverse=True)
    deltas = {c.delta for c in certified}
    several = len(deltas) > 1
    head = ["Run", "Data", "$d$", "$n$", r"Train (\%)", r"Test (\%)", "Bits", *([r"$\delta$"] * several)]
    head += [r"Bound (\%)", *(f"at $\\delta = {_bare(delta)}$" for delta in others)]
    lines = [
        f"% Made by pactl {__version__} from run directories. Nothing was verified here. The preamble needs",
        r"% \usepackage{booktabs}.",
        *_sources(reports),
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{_caption(reports, others)}}}",
        r"  \medskip",
        f"  \\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
        r"    \toprule",
        f"    {' & '.join(head)} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(_row(run, others, several=several))} \\\\" for run in reports),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _sources(reports: Sequence[Report]) -> Iterator[str]:
    """Yield a comment for each run: its statement, and the command that checks it."""
    for run in reports:
        said = f"{run.certificate.statement} Check it: " if run.certificate else f"{run.state}, not certified. "
        yield f"% {plain(said, 2000)}{plain(shell_command('verify' if run.certificate else 'bound', run.path), 2000)}"
        more = claims(run.certificate)[1:] if run.certificate else []
        yield from (f"% Jointly with it: {plain(claim.text, 2000)} ({plain(claim.price)})." for claim in more)


def _caption(reports: Sequence[Report], others: Sequence[float]) -> str:
    """Return the caption: what the bounds say, with what confidence, and which of them hold jointly."""
    certified = [run.certificate for run in reports if run.certificate]
    deltas = sorted({c.delta for c in certified})
    at = f"$\\delta = {_bare(deltas[0])}$" if len(deltas) == 1 else r"$\delta$ as in its row"
    said = [
        f"Certified error rates. With probability at least $1 - \\delta$ over the draw of the $n$ examples that are "
        f"counted ({at}), the classifier of a run errs on at most the bound of new examples. $d$: the numbers that "
        "training found; bits: the length of the message that describes the classifier. The test set is used only for "
        "its own column. Percentages are rounded up."
    ]
    if not certified:
        said = ["Runs without certificates."]
    elif len(certified) < len(reports):
        said.append("A run without a bound is not certified.")
    if others:
        said.append(r"The bounds of a row at several $\delta$ hold jointly.")
    if len(certified) > 1:
        said.append(_JOINT if are_comparable(reports) else _APART)
    marks = {mark for c in certified for mark in _marks(c)}
    said += [f"\\textsuperscript{{{mark}}}\\,{_NOTES[mark]}" for mark in sorted(marks)]
    return " ".join(said)


def _marks(certificate: Certificate) -> Iterator[str]:
    """Yield the marks of the notes without which a bound in the table would be misread."""
    if certificate.hypothesis == HOLD_OUT:
        yield "a"
    if any(certificate.side_information.get(name) for name in LEFT_OUT):
        yield "b"
    if certificate.configuration.get("label_noise"):
        yield "c"


def _row(run: Report, others: Sequence[float], *, several: bool) -> list[str]:
    """Return the cells of a run."""
    certificate, dim = run.certificate, run.named("intrinsic_dim")
    name = plain(run.path.resolve().name if run.path.name in ("", ".", "..") else run.path.name)
    cells = [f"\\texttt{{{escaped(name)}}}", escaped(run.dataset or run.kind)]
    cells.append(_grouped(dim) if type(dim) is int else "--")
    if certificate is None:
        return [*cells, *["--"] * (5 + several + len(others))]
    marks = ",".join(_marks(certificate))
    cells += [
        _grouped(certificate.bound_examples),
        _percent(certificate.quantised_train_error),
        _percent(certificate.test_error),
        _grouped(ceil(certificate.paid_bits)),
        *([f"${_bare(certificate.delta)}$"] * several),
        _percent(certificate.error_bound) + (f"\\rlap{{\\textsuperscript{{{marks}}}}}" if marks else ""),
    ]
    further = {each.delta: _percent(each.error_bound) for each in certificate.at_other_deltas}
    return cells + [further.get(delta, "--") for delta in others]


def _percent(error: float | None) -> str:
    """Return a rate in percent, rounded up, without the unit."""
    return percent(error).removesuffix(" %") if error is not None else "--"


def _grouped(count: int) -> str:
    return f"{count:,}".replace(",", "{,}")


def _bare(delta: float) -> str:
    """Return a delta as LaTeX mathematics."""
    mantissa, _, exponent = f"{delta!r}".partition("e")
    if not exponent:
        return mantissa
    power = f"10^{{{int(exponent)}}}"
    return power if mantissa == "1" else f"{mantissa} \\cdot {power}"
