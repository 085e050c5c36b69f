"""The page's part on guarantees beside the error: claims, tables by class and group, and two figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from math import floor

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.guarantees import CONFIDENCES, THRESHOLDS, Event, Guarantee, accuracies
from pactl_cli.certificate.percent import percent, percent_at_least
from pactl_cli.certificate.questions import ABSTAIN, CALIBRATION
from pactl_cli.commands.guarantees import ByMember, Claim, claims, seen
from pactl_cli.commands.page.figures import MOST_HISTOGRAMS, NamedRun, figure, table, with_certificates
from pactl_cli.commands.page.markup import Child, Markup, tag
from pactl_cli.commands.page.plot import Axis, curves, drawing, key_of, legend, marker, percent_of, show_percent

_BORDERS = (0.0, *CONFIDENCES, 1.0)
_ROOM = 1.35
"""The upper end of the plot of abstention, relative to the bounds of interest."""
_HIGHEST = 1.15
"""The largest upper end of that plot, which leaves room for a number above a bound of 100 %."""


def guaranteed(runs: Sequence[NamedRun]) -> Markup | None:
    """Return a section with all claims of each run that guarantees more than its error."""
    drawn = [(run, c) for run, c in with_certificates(runs) if c.guarantees]
    if not drawn:
        return None
    articles = [
        tag(
            "div",
            tag("h3", run.name) if len(runs) > 1 else None,
            tag("ul", [_claim(claim) for claim in claims(certificate)], class_="claims"),
            [_by_member(certificate, each) for each in certificate.guarantees],
            class_="guaranteed",
        )
        for run, certificate in drawn[:MOST_HISTOGRAMS]
    ]
    return figure(
        "What else is guaranteed",
        "All claims about a run hold at once, with the confidence of its certificate. Each guarantee has a share of "
        "delta, and each of its events pays for it with the bits shown, beside those of the message.",
        articles,
        _left_out([run for run, _ in drawn]),
    )


def _claim(claim: Claim) -> Markup:
    """Return a claim with its price."""
    return tag("li", f"{claim.text[:1].upper()}{claim.text[1:]}.", tag("small", claim.price))


def _left_out(runs: Sequence[NamedRun]) -> Markup | None:
    """Return a list of the runs for which the page has no room."""
    lines = [tag("li", f"{run.name}: left out of a long page.") for run in runs[MOST_HISTOGRAMS:]]
    return tag("ul", lines, class_="absent") if lines else None


def _by_member(certificate: Certificate, guarantee: Guarantee) -> list[Markup]:
    """Return the legend, the table and the note of a guarantee by class or group; nothing for another one."""
    found = ByMember.of(certificate, guarantee)
    if found is None:
        return []
    scale = guarantee.bound or 1.0
    rows: list[list[Child]] = [
        [name, f"{event.errors:,} of {event.examples:,}", seen(event), percent(event.bound), _bar(event, scale)]
        for name, event in found.rows
    ]
    caption = f"Errors by {found.kind}, the largest bounds first"
    return [
        legend([key_of("square", "seen", "errors counted"), key_of("square", "count", "at most")]),
        table((found.kind, "errors", "error", "at most", f"0 to {percent(scale)}"), rows, caption),
        *([tag("p", found.rest, class_="note")] if found.rest else []),
    ]


def _bar(event: Event, scale: float) -> Markup:
    """Return a bar as long as the bound, and in it one for the counted errors; the largest bound fills the width."""
    ends = ("count", event.bound / scale), ("seen", event.errors / max(event.examples, 1) / scale)
    bars = [tag("rect", width=percent_of(end), height="100%", class_=style) for style, end in ends]
    return tag("svg", bars, class_="bar", aria_hidden="true")


_Panel = Callable[[str, str, Guarantee], Markup]


def _figure(
    runs: Sequence[NamedRun], what: str, panel: _Panel, *, title: str, sentence: str, entries: list[Markup]
) -> Markup | None:
    """Return a figure with a panel for each run that has a guarantee; None if none has."""
    found = [(run, guarantee) for run, c in with_certificates(runs) if (guarantee := c.guarantee(what))]
    panels = [panel(f"{what}-{place}", run.name, g) for place, (run, g) in enumerate(found[:MOST_HISTOGRAMS])]
    parts = legend(entries), tag("div", panels, class_="panels"), _left_out([run for run, _ in found])
    return figure(title, sentence, *parts) if found else None


# --- Abstention -------------------------------------------------------------------------------------------------------


def abstention(runs: Sequence[NamedRun]) -> Markup | None:
    """Return a figure of the certified error among accepted examples against the certified acceptance."""
    sentence = (
        "A classifier that abstains if its two largest logits are close makes fewer errors on what it accepts. Each of "
        f"the {len(THRESHOLDS)} margins is a point. All bounds hold at once, so you may choose a margin by looking. "
        "With few accepted examples, little is known of their errors, and the bound rises again."
    )
    entries = [
        key_of("line", "bound-headline", "certified"),
        key_of("line", "rate", "as counted"),
        key_of("diamond", "certificate", "the margin of the certificate"),
        key_of("line", "aim", "target error"),
    ]
    return _figure(runs, ABSTAIN, _abstaining, title="Saying: I don't know", sentence=sentence, entries=entries)


def _points(guarantee: Guarantee) -> list[tuple[Event, Event]]:
    """Return the events of errors among the accepted and of refusals, at each margin with a certified acceptance."""
    pairs = zip(guarantee.events[: len(THRESHOLDS)], guarantee.events[len(THRESHOLDS) :], strict=True)
    return [(wrong, refused) for wrong, refused in pairs if wrong.examples and refused.bound < 1]


def _abstaining(key: str, name: str, guarantee: Guarantee) -> Markup:
    """Return the panel of one run."""
    aim, bound, accepted = guarantee.abstain_error or 0.0, guarantee.bound or 0.0, guarantee.accepted or 0.0
    points = _points(guarantee)
    first = points[0][0].bound if points else bound
    y = Axis(
        0.0, min(_HIGHEST, _ROOM * max(first, bound, min(aim, 2 * bound))), show_percent, "error among the accepted"
    )
    inside = [(wrong, refused) for wrong, refused in points if wrong.bound <= y.high]
    least = min([accepted, *(1 - refused.bound for _, refused in inside)])
    x = Axis(min(0.9, floor(10 * least) / 10), 1.0, show_percent, "accepted")
    lines = [("aim", [(x.low, aim), (x.high, aim)])] if aim <= y.high else []
    if inside:
        counted = [(1 - refused.errors / refused.examples, wrong.errors / wrong.examples) for wrong, refused in inside]
        proved = [(1 - refused.bound, wrong.bound) for wrong, refused in inside]
        lines += [("rate", counted), ("bound-headline", proved)]
    told = percent(bound), percent_at_least(accepted)
    chosen = _chosen(x.place(accepted), 1 - y.place(bound), " of ".join(told))
    text = (
        f"At the margin {guarantee.margin:g}, at least {told[1]} are accepted, at most {told[0]} of these wrongly; the "
        f"target is {percent(aim)}"
    )
    marks = [curves(lines, x, y), chosen]
    plot = drawing(key, f"Abstention of {name}", text, x, y, marks, height="15rem")
    header = ("margin", "accepted", "of these wrong", "accept at least", "err on at most")
    numbers = table(header, _rows(inside, guarantee), f"Margins of {name}")
    return tag("div", tag("h3", name), plot, tag("p", f"{text}.", class_="note"), numbers, class_="panel")


def _chosen(x: float, y: float, text: str) -> Markup:
    """Return the mark of the certificate's margin, with its numbers at the plot's upper edge."""
    place, (side, shift) = percent_of(x), ("end", "-0.5em") if x > 0.5 else ("start", "0.5em")
    rule = tag("line", x1=place, x2=place, y1="0%", y2="100%", class_="here")
    value = tag("text", text, x=place, y="0%", dx=shift, dy="0.6em", class_=f"value haloed {side}")
    return Markup(rule + marker("diamond", "certificate", x, y) + value)


def _rows(points: Sequence[tuple[Event, Event]], guarantee: Guarantee) -> Iterable[list[Child]]:
    """Yield about a dozen rows: margins at equal distances, and the certificate's own."""
    stride = 1 + len(points) // 10
    chosen = None if guarantee.threshold is None else guarantee.events[guarantee.threshold]
    for place, (wrong, refused) in enumerate(points):
        if place % stride == 0 or wrong is chosen:
            margin = wrong.name.rpartition(" ")[2]
            yield [
                tag("strong", margin) if wrong is chosen else margin,
                percent_at_least(1 - refused.errors / refused.examples),
                seen(wrong),
                percent_at_least(1 - refused.bound),
                percent(wrong.bound),
            ]


# --- Calibration ------------------------------------------------------------------------------------------------------


def calibration(runs: Sequence[NamedRun]) -> Markup | None:
    """Return a figure with reliability diagrams that have certified bands."""
    sentence = (
        "The confidence is the classifier's largest probability. The accuracy on new examples of a confidence lies "
        "within its band, for all bins at once. If confidence equals accuracy, the bands lie on the diagonal. Both "
        "axes are stretched towards 100 %. Bins without examples are left out."
    )
    entries = [
        key_of("square", "count", "certified accuracy"),
        key_of("dot", "train", "as counted"),
        key_of("line", "rate", "confidence = accuracy"),
    ]
    title = "Whether its confidence can be believed"
    return _figure(runs, CALIBRATION, _reliability, title=title, sentence=sentence, entries=entries)


def _reliability(key: str, name: str, guarantee: Guarantee) -> Markup:
    """Return the panel of one run."""
    x, y = (Axis(0.0, 1.0, show_percent, label, borders=_BORDERS) for label in ("confidence", "accuracy"))
    bands, dots, rows, gap = list[Markup](), list[Markup](), list[list[Child]](), 0.01
    ends = zip(pairwise(_BORDERS), guarantee.events, accuracies(guarantee), strict=False)
    for (left, right), wrong, (low, high) in ends:
        if not wrong.examples:
            continue
        accuracy = 1 - wrong.errors / wrong.examples
        start, end, top, bottom = x.place(left) + gap, x.place(right) - gap, 1 - y.place(high), 1 - y.place(low)
        words = f"{show_percent(left)} to {show_percent(right)}"
        told = tag("title", f"{words}: at least {percent_at_least(low)}, at most {percent(high)}")
        area = {"x": start, "width": end - start, "y": top, "height": max(bottom - top, 0.0)}
        bands.append(tag("rect", told, class_="count", **{side: percent_of(share) for side, share in area.items()}))
        dots.append(marker("dot", "train", (start + end) / 2, 1 - y.place(accuracy)))
        numbers = percent_at_least(low), percent_at_least(accuracy), percent(high)
        rows.append([words, f"{wrong.examples:,}", *numbers])
    text = "; ".join(f"{row[0]}: accuracy between {row[2]} and {row[4]}" for row in rows) or "No bin has an example"
    diagonal = curves([("rate", [(0.0, 0.0), (1.0, 1.0)])], x, y)
    plot = drawing(key, f"Reliability of {name}", text, x, y, [bands, diagonal, dots], height="19rem")
    header = ("confidence", "examples", "accuracy at least", "as counted", "at most")
    return tag("div", tag("h3", name), plot, table(header, rows, f"Accuracy by confidence of {name}"), class_="panel")
