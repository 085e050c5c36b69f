"""The figures of a report: each has a heading, an explanation, a plot, and its numbers as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from pactl_cli.catalogue import BOUNDS, HEADLINE
from pactl_cli.certificate.certificate import Bounds, Certificate
from pactl_cli.certificate.percent import in_bits, percent
from pactl_cli.commands.page.markup import Child, Markup, tag
from pactl_cli.commands.page.plot import (
    Axis,
    curves,
    drawing,
    key_of,
    legend,
    marker,
    percent_of,
    show_count,
    show_percent,
    show_small,
)
from pactl_cli.errors import names_in_words
from pactl_cli.stages.claims import Histogram
from pactl_cli.stages.report import Details, Epoch, Report
from pactl_cli.stages.sweeps import bounds_by_delta, bounds_by_examples

PARTS = ("configuration", "codebook", "symbols", "threshold", "ledger")
COLOURS = 8
MOST_POINTS = 500
MOST_ATTEMPTS = 8
MOST_HISTOGRAMS = 12
_FARTHEST = 2
"""The plot of errors includes chance if that is at most this many times as large as all else."""


@dataclass(frozen=True)
class NamedRun:
    """A run on the page.

    Attributes:
        name: a short and unique name.
        style: the CSS classes of its colour and its dashes.
    """

    name: str
    style: str
    report: Report
    details: Details


def figure(title: str, sentence: Child, *content: Child) -> Markup:
    """Return a section with a title and an explanation."""
    return tag("section", tag("h2", title), tag("p", sentence, class_="says"), *content, class_="figure")


def table(header: Sequence[str], rows: Iterable[Sequence[Child]], caption: str) -> Markup:
    """Return a table; the first cell of a row is its heading, and the others carry the name of their column."""
    head = tag("tr", [tag("th", text, scope="col") for text in header])
    body = [
        tag("tr", tag("th", first, scope="row"), [tag("td", cell, data_label=f"{name} ") for name, cell in cells])
        for first, *rest in rows
        for cells in [list(zip(header[1:], rest, strict=True))]
    ]
    parts = tag("caption", caption), tag("thead", head), tag("tbody", body)
    return tag("div", tag("table", *parts), class_="scroll", tabindex="0", role="region", aria_label=caption)


def with_certificates(runs: Sequence[NamedRun]) -> list[tuple[NamedRun, Certificate]]:
    """Return the certified runs, each with its certificate."""
    return [(run, run.report.certificate) for run in runs if run.report.certificate]


def bound_against_test(runs: Sequence[NamedRun]) -> Markup | None:
    """Return a figure with one row of errors and bounds for each run."""
    certified = with_certificates(runs)
    if not certified:
        return None
    largest = max(max(c.error_bound, c.published.bound, c.holdout_bound or 0, c.test_error or 0) for _, c in certified)
    baselines = [c.chance_error or c.majority_error for _, c in certified]
    largest = max([largest, *(rate for rate in baselines if rate <= _FARTHEST * largest)])
    x = Axis(0.0, min(1.0, max(0.01, 1.08 * largest)), show_percent, "error")
    entries = [
        key_of("dot", "train", "training error, quantised"),
        key_of("dot", "test", "test error (a check, not used)"),
        key_of("bar", "holdout", "hold-out bound of the test set"),
        key_of("diamond", "certificate", "certificate"),
        key_of("diamond", "published", "published accounting"),
    ]
    text = "; ".join(
        f"{run.name}: test {percent(c.test_error)}, at most {percent(c.error_bound)}" for run, c in certified
    )
    rates = {style: [_rate(style, certificate) for _, certificate in certified] for style in _RATES}
    for style, name in _RATES.items():
        if near := [percent(rate) for rate in dict.fromkeys(rates[style]) if rate is not None and rate <= x.high]:
            entries.append(key_of("line", f"baseline {style}", f"{name} {names_in_words(near)}"))
    far = [rate for row in rates.values() for rate in row if rate is not None and rate > x.high]
    marks = [mark for style, row in rates.items() for mark in _baselines(style, row, x)]
    marks += [_errors_of(run.name, c, x, (row + 0.48) / len(certified)) for row, (run, c) in enumerate(certified)]
    plot = drawing(
        "errors", "The bound against the test error", text, x, None, marks, height=f"{4.2 * len(certified):.1f}rem"
    )
    beyond = f"Chance and the most frequent class, at {percent(min(far))} and more, lie to the right." if far else ""
    return figure(
        "The bound against the test error",
        "The thick line is the gap from the test error to the certificate. No test example was used to train or to "
        "certify.",
        legend(entries),
        plot,
        tag("p", beyond, class_="note") if far else None,
    )


_RATES = {"chance": "chance", "majority": "most frequent class"}
"""The names of the two baselines that look at no input, by CSS class."""


def _rate(style: str, certificate: Certificate) -> float | None:
    """Return the error of a baseline; None if it is unknown."""
    return certificate.chance_error if style == "chance" else certificate.majority_error


def _baselines(style: str, rates: Sequence[float | None], x: Axis) -> Iterable[Markup]:
    """Yield a vertical line for each stretch of rows with the same rate, if that lies on the plot."""
    row = 0
    for rate, group in groupby(rates):
        first, row = row, row + len(list(group))
        if rate is not None and rate <= x.high:
            ends = {"y1": percent_of(first / len(rates)), "y2": percent_of(row / len(rates))}
            place = percent_of(x.place(rate))
            yield tag("line", x1=place, x2=place, **ends, class_=f"baseline {style}")


def _errors_of(name: str, certificate: Certificate, x: Axis, y: float) -> Markup:
    """Return the marks of one run."""
    start = certificate.quantised_train_error if certificate.test_error is None else certificate.test_error
    ends = x.place(start), x.place(certificate.error_bound)
    height = percent_of(y)
    parts = [
        tag("text", name, x="0%", y=height, dy="-1.35em", class_="row-name haloed"),
        tag("line", x1="0%", x2="100%", y1=height, y2=height, class_="rule"),
        tag("line", x1=percent_of(ends[0]), x2=percent_of(ends[1]), y1=height, y2=height, class_="gap"),
        marker("diamond", "published", x.place(certificate.published.bound), y),
    ]
    if certificate.holdout_bound is not None:
        parts.append(marker("bar", "holdout", x.place(certificate.holdout_bound), y))
    parts.append(marker("dot", "train", x.place(certificate.quantised_train_error), y))
    if certificate.test_error is not None:
        parts.append(marker("dot", "test", x.place(certificate.test_error), y))
    parts.append(marker("diamond", "certificate", ends[1], y))
    side = "end" if ends[1] > 0.9 else "middle"
    text = percent(certificate.error_bound)
    parts.append(tag("text", text, x=percent_of(ends[1]), y=height, dy="1.75em", class_=f"value haloed {side}"))
    return Markup("".join(parts))


def where_bits_go(runs: Sequence[NamedRun]) -> Markup | None:
    """Return a figure with a stacked bar of bits for each run, and a table."""
    certified = with_certificates(runs)
    if not certified:
        return None
    named = [part for part in PARTS if part != "threshold" or any(c.bits.threshold for _, c in certified)]
    parts = {run.name: {part: getattr(certificate.bits, part) for part in named} for run, certificate in certified}
    x = Axis(0.0, max(1.0, 1.02 * max(sum(bits.values()) for bits in parts.values())), show_count, "bits")
    marks = [_bar(name, bits, x, row, len(parts)) for row, (name, bits) in enumerate(parts.items())]
    text = "; ".join(f"{run.name}: {in_bits(c.paid_bits)}" for run, c in certified)
    rows = [
        [run.name, *(f"{bits:,.6g}" for bits in parts[run.name].values()), f"{c.paid_bits:,.6g}", _nats(c)]
        for run, c in certified
    ]
    return figure(
        "Where the bits go",
        "The bound pays for every bit that describes the classifier. The last column is the number that enters the "
        "bound: nats per counted example.",
        legend(key_of("square", f"part-{part}", part) for part in named),
        drawing("bits", "Where the bits go", text, x, None, marks, height=f"{3.4 * len(parts):.1f}rem"),
        table(("run", *named, "in all", "nats an example"), rows, "Bits by part"),
    )


def _nats(certificate: Certificate) -> str:
    return f"{certificate.paid_bits * 0.6931471805599453 / certificate.bound_examples:.4f}"


def _bar(name: str, bits: dict[str, float], x: Axis, row: int, rows: int) -> Markup:
    """Return one row: a name above a bar of parts."""
    top, height, left = (row + 0.5) / rows, 0.3 / rows, 0.0
    marks = [tag("text", name, x="0%", y=percent_of(top), dy="-0.6em", class_="row-name")]
    for part, size in bits.items():
        if size:
            place, width = percent_of(x.place(left)), percent_of(x.place(left + size) - x.place(left))
            area = {"x": place, "y": percent_of(top), "width": width, "height": percent_of(height)}
            marks.append(tag("rect", tag("title", f"{part}: {size:,.6g} bits"), class_=f"part-{part}", **area))
        left += size
    return Markup("".join(marks))


def symbols(runs: Sequence[NamedRun]) -> Markup | None:
    """Return a figure with a small histogram for each certified run."""
    certified = with_certificates(runs)
    drawn = [(run, c, run.details.histogram) for run, c in certified if run.details.histogram]
    if not certified:
        return None
    panels = [_histogram(place, run, c, h) for place, (run, c, h) in enumerate(drawn[:MOST_HISTOGRAMS])]
    absent = [f"{run.name}: {run.details.reason}." for run, _ in certified if not run.details.histogram]
    absent += [f"{run.name}: left out of a long page." for run, *_ in drawn[MOST_HISTOGRAMS:]]
    return figure(
        "The symbols and the code's model",
        "How often each level occurs in the message (bars), and how often the adaptive code, which starts without "
        "frequencies, expects it at the end (lines). Heights are square roots, so that rare symbols are visible.",
        legend([key_of("square", "count", "symbols"), key_of("line", "model", "the code's model")]) if drawn else None,
        tag("div", panels, class_="panels"),
        tag("ul", [tag("li", line) for line in absent], class_="absent") if absent else None,
    )


def _histogram(place: int, run: NamedRun, certificate: Certificate, histogram: Histogram) -> Markup:
    """Return the panel of one run."""
    size, total = len(histogram.counts), certificate.intrinsic_dim
    expected = histogram.probabilities * total
    y = Axis(
        0.0, 1.08 * float(max(histogram.counts.max(), expected.max(), 1.0)), show_count, "symbols", "root", whole=True
    )
    low, high = float(histogram.levels[0]), float(histogram.levels[-1])
    x = Axis(-0.5, size - 0.5, lambda value: "", "level")
    gap = 0.12 / size
    marks: list[Markup] = []
    for symbol in range(size):
        left, width = percent_of(symbol / size + gap), percent_of(1 / size - 2 * gap)
        right, up = percent_of((symbol + 1) / size - gap), 1 - y.place(float(expected[symbol]))
        share = y.place(float(histogram.counts[symbol]))
        name = tag("title", f"{histogram.levels[symbol]:.4g}: {histogram.counts[symbol]:,}")
        area = {"x": left, "width": width, "y": percent_of(1 - share), "height": percent_of(share)}
        marks.append(tag("rect", name, class_="count", **area))
        marks.append(tag("line", x1=left, x2=right, y1=percent_of(up), y2=percent_of(up), class_="model"))
    for symbol in sorted({0, size // 2, size - 1}):
        text = f"{histogram.levels[symbol]:.3g}"
        marks.append(tag("text", text, x=percent_of((symbol + 0.5) / size), y="100%", dy="1.5em", class_="tick middle"))
    spent, entropy = certificate.bits.symbols, histogram.entropy_bits
    words = f"{total:,} symbols, {size} levels from {low:.4g} to {high:.4g}"
    cost = f"{spent:,} bits, {spent / total:.2f} a symbol; with known frequencies {entropy / total:.2f}."
    plot = drawing(f"symbols-{place}", f"Symbols of {run.name}", words, x, y, marks, height="11rem")
    return tag("div", tag("h3", run.name), plot, tag("p", f"{words}: {cost}", class_="note"), class_="panel")


_STAGES = {
    "prior": "Training of the prior",
    "train": "Training in the subspace",
    "bound": "Fine-tuning through the quantiser",
}


def learning(runs: Sequence[NamedRun]) -> Markup | None:
    """Return a figure with a panel for each stage that any run has been through, and one for the bits."""
    panels: list[Markup] = []
    for stage, title in _STAGES.items():
        points = {run.name: [e for e in run.details.epochs if e.stage == stage] for run in runs}
        panels += _learning_panel(f"learning-{stage}", title, runs, points, "error", "training error")
    bits = {run.name: [e for e in run.details.epochs if e.symbols_bits is not None] for run in runs}
    panels += _learning_panel("learning-bits", "Bits of the symbols meanwhile", runs, bits, "symbols_bits", "bits")
    unread = sum(run.details.unread_lines for run in runs)
    if not panels and not unread:
        return None
    note = f"{unread:,} lines of metrics could not be read." if unread else None
    return figure(
        "Learning curves",
        "Mean error over the batches of each epoch, while the weights still change, and on augmented images if there "
        "are any. It is not the error that is certified.",
        legend(key_of("line", run.style, run.name) for run in runs if run.details.epochs),
        tag("div", panels, class_="panels"),
        tag("p", note, class_="note") if note else None,
    )


def _learning_panel(
    key: str, title: str, runs: Sequence[NamedRun], points: dict[str, list[Epoch]], quantity: str, label: str
) -> list[Markup]:
    """Return the panel in a list, which is empty if there is nothing to draw."""
    styles = {run.name: run.style for run in runs}
    drawn = [curve for name, epochs in points.items() if epochs for curve in _attempts(name, styles[name], epochs)]
    values = {name: [(e.epoch, getattr(e, quantity)) for e in epochs] for name, _, epochs in drawn}
    if not values:
        return []
    all_values = [pair for pairs in values.values() for pair in pairs]
    longest, highest = max(epoch for epoch, _ in all_values), max(value for _, value in all_values)
    x = Axis(1.0, max(2.0, longest), show_count, "epoch", whole=True)
    is_share = quantity == "error"
    y = Axis(0.0, (1.05 * highest) or 0.01, show_percent if is_share else show_count, label)
    lines = [(style, part) for name, style, _ in drawn for part in _passes(values[name])]
    show = percent if is_share else lambda value: f"{value:,.0f}"
    text = "; ".join(f"{name}: from {show(p[0][1])} to {show(p[-1][1])}" for name, p in values.items())
    plot = drawing(key, title, text, x, y, curves(lines, x, y), height="13rem")
    names = legend(key_of("line", style, name) for name, style, _ in drawn) if len(drawn) > len(points) else None
    return [tag("div", tag("h3", title), names, plot, tag("p", f"{text}.", class_="note"), class_="panel")]


def _attempts(name: str, style: str, epochs: list[Epoch]) -> list[tuple[str, str, list[Epoch]]]:
    """Return the curves of one run: the name, the style and the epochs of each message that was tried."""
    tries = list(dict.fromkeys(e.attempt for e in epochs))[:MOST_ATTEMPTS]
    if len(tries) == 1:
        return [(name, style, epochs)]
    parts = [[e for e in epochs if e.attempt == each] for each in tries]
    names = [f"{name}: {each.in_words() if each else 'not said'}" for each in tries]
    return [(text, f"{style} try-{place}", part) for place, (text, part) in enumerate(zip(names, parts, strict=True))]


def _passes(pairs: list[tuple[int, float]]) -> list[list[tuple[float, float]]]:
    """Return a line for each time that the epochs start again, thinned to what can be seen."""
    starts = [0, *(place + 1 for place, (a, b) in enumerate(pairwise(pairs)) if b[0] <= a[0]), len(pairs)]
    stride = 1 + len(pairs) // MOST_POINTS
    return [[*pairs[a : b - 1 : stride], pairs[b - 1]] for a, b in pairwise(starts)]


def what_it_depends_on(name: str, certificate: Certificate) -> Markup:
    """Return a figure of one run's bounds over n and over delta, on the same scale."""
    by_examples, by_delta = bounds_by_examples(certificate), bounds_by_delta(certificate)
    highest = max(max(b.values()) for _, b in [*by_examples, *by_delta])
    y = Axis(0.0, min(1.0, 1.05 * highest), show_percent, "bound")
    n, delta = float(certificate.bound_examples), certificate.delta
    by_n = Axis(float(by_examples[0][0]), float(by_examples[-1][0]), show_count, "examples n", "log")
    by_d = Axis(by_delta[0][0], max(by_delta[-1][0], delta), show_small, "delta", "log")
    levels = {f"baseline {style}": rate for style in _RATES if (rate := _rate(style, certificate)) is not None}
    names = {f"baseline {style}": name for style, name in _RATES.items()}
    rates = levels | {"rate": certificate.quantised_train_error}
    panels = [_sweep("examples", by_examples, by_n, y, n, rates), _sweep("delta", by_delta, by_d, y, delta, rates)]
    entries = [key_of("line", _line_of(bound), bound) for bound in BOUNDS]
    entries.append(key_of("line", "rate", "the error rate itself"))
    entries += [key_of("line", style, f"{names[style]} {percent(at)}") for style, at in levels.items() if at <= y.high]
    rows = [[f"{size:,}", *map(percent, b.values())] for size, b in _every_factor_of_two(by_examples, n)]
    return figure(
        "The bound as a function of n and delta",
        f"The bounds of {name}, if the same {in_bits(certificate.paid_bits)} had the same error rate on more or "
        "fewer examples, or at another confidence. The mark is the certificate. Confidence is cheap: delta costs "
        f"its logarithm. The bounds do not hold jointly; the {HEADLINE} bound is the certificate.",
        legend(entries),
        tag("div", panels, class_="panels"),
        table(("examples", *BOUNDS), rows, "The bounds at the same error rate and bits"),
    )


def _every_factor_of_two(by_examples: list[tuple[int, Bounds]], n: float) -> list[tuple[int, Bounds]]:
    """Return the sizes nearest to n times powers of four, each once."""
    wanted = [n * 4.0**power for power in (-2, -1, 0, 1, 2)]
    nearest = [min(by_examples, key=lambda entry: abs(entry[0] / size - 1)) for size in wanted]
    return [next(group) for _, group in groupby(nearest, key=lambda entry: entry[0])]


def _line_of(bound: str) -> str:
    """Return the CSS class of a bound's line: the headline's own, or one of three for the others."""
    others = [name for name in BOUNDS if name != HEADLINE]
    return "bound-headline" if bound == HEADLINE else f"bound-{1 + others.index(bound) % 3}"


def _exactly(value: float) -> str:
    """Return an end of a sweep as text."""
    return show_small(value) if value < 1 else f"{value:,.0f}"


_SWEEPS = {"examples": "Over the number of examples", "delta": "Over the probability to fail"}


def _sweep(
    key: str, points: Sequence[tuple[float, Bounds]], x: Axis, y: Axis, here: float, levels: dict[str, float]
) -> Markup:
    """Return one panel of the bounds."""
    lines = [(style, [(x.low, level), (x.high, level)]) for style, level in levels.items() if level <= y.high]
    lines += [(_line_of(name), [(at, b[name]) for at, b in points]) for name in reversed(BOUNDS)]
    at, bound = x.place(here), next(b[HEADLINE] for value, b in points if value == here)
    marks = [
        tag("line", x1=percent_of(at), x2=percent_of(at), y1="0%", y2="100%", class_="here"),
        curves(lines, x, y),
        marker("diamond", "certificate", at, 1 - y.place(bound)),
    ]
    first, last = points[0], points[-1]
    text = (
        f"The {HEADLINE} bound goes from {percent(first[1][HEADLINE])} at {_exactly(first[0])} "
        f"to {percent(last[1][HEADLINE])} at {_exactly(last[0])}"
    )
    title = _SWEEPS[key]
    plot = drawing(key, title, text, x, y, marks, height="15rem")
    return tag("div", tag("h3", title), plot, tag("p", f"{text}.", class_="note"), class_="panel")
