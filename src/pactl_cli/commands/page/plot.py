"""Plots as SVG: places are percentages of the drawing's size, so that a plot fits any width and text keeps its size.

The drawing area is the `svg` itself; tick labels stand outside of it, in margins that the style sheet leaves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10, sqrt
from typing import Literal

from pactl_cli.commands.page.markup import Child, Markup, tag

PLOTS = ("errors", "abstention", "calibration", "bits", "symbols", "learning", "bound")
"""The figures of a page, by the names that `--plot` takes."""

FINE = 10_000
"""The width and the height of a curve's own coordinate system, which is stretched to the drawing."""


def show_percent(value: float) -> str:
    """Return the label of a tick in percent."""
    return f"{100 * value:.6g} %"


def show_count(value: float) -> str:
    """Return the label of a tick that counts, in a few characters."""
    for unit, size in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def show_small(value: float) -> str:
    """Return the label of a tick below 1, such as 1e-5."""
    return f"{value:g}".replace("e-0", "e-")


@dataclass(frozen=True)
class Axis:
    """A map from values to shares of a length.

    Attributes:
        low, high: the ends, low < high; on a logarithmic axis above 0.
        show: gives the label of a value.
        label: the quantity that the axis shows.
        kind: the scale; `root` shows small values beside large ones, and zero.
        whole: whether values are whole numbers.
        borders: values from end to end that are drawn equally far apart, whatever `kind` is; or none.
    """

    low: float
    high: float
    show: Callable[[float], str]
    label: str
    kind: Literal["linear", "log", "root"] = "linear"
    whole: bool = False
    borders: tuple[float, ...] = ()

    def _stretch(self, value: float) -> float:
        if self.borders:
            place = min(bisect_right(self.borders, value), len(self.borders) - 1)
            low, high = self.borders[place - 1], self.borders[place]
            return place + (value - high) / (high - low)
        if self.kind == "log":
            return log10(max(value, self.low))
        return sqrt(max(value, 0.0)) if self.kind == "root" else value

    def place(self, value: float) -> float:
        """Return the share of the length at which a value lies, in 0 .. 1."""
        low, high = self._stretch(self.low), self._stretch(self.high)
        return min(1.0, max(0.0, (self._stretch(value) - low) / (high - low)))

    def ticks(self) -> list[float]:
        """Return a few round values between the ends, far enough apart to be read."""
        if self.kind == "linear" and not self.borders:
            step = _round_step((self.high - self.low) / 5, whole=self.whole)
            first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
            return [place * step for place in range(first, last + 1)]
        chosen: list[float] = []
        for value in self.borders or _round_values(self.low, self.high):
            between = self.whole and value % 1
            if not between and (not chosen or self.place(value) - self.place(chosen[-1]) > 0.13):
                chosen.append(value)
        return chosen


def _round_step(length: float, *, whole: bool) -> float:
    """Return the least of 1, 2, 2.5 and 5 times a power of ten that is at least `length`; if `whole`, at least 1."""
    length = max(length, 1.0) if whole else length
    power = 10.0 ** floor(log10(length))
    factors = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    return next(factor * power for factor in factors if factor * power >= length * (1 - 1e-9))


def _round_values(low: float, high: float) -> list[float]:
    """Return powers of ten between two values; if these are few, also their doubles and fivefolds; zero if in range."""
    least = low if low > 0 else high / 1e4
    exponents = range(floor(log10(least)), ceil(log10(high)) + 1)
    factors = (1,) if low > 0 and high / low >= 1e3 else (1, 2, 5)
    values = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    return [0.0] * (low <= 0) + [value for value in values if least * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def percent_of(share: float) -> str:
    """Return a share as a place in a drawing."""
    return f"{100 * share:.3f}%"


def drawing(key: str, title: str, description: str, x: Axis, y: Axis | None, marks: Child, *, height: str) -> Markup:
    """Return a plot: grid, ticks, labels and marks.

    Args:
        key: a name that is unique on the page.
        y: the vertical axis; None if rows have names of their own, and then the grid has vertical lines.
        height: a CSS length.
    """
    ids = f"{key}-title", f"{key}-description"
    heading = tag("title", title, id=ids[0]), tag("desc", description, id=ids[1])
    rules = [_x_tick(x, value, ruled=y is None) for value in x.ticks()]
    rules += [_y_tick(y, value) for value in y.ticks()] if y else []
    base = tag("line", x1="0%", x2="100%", y1="100%", y2="100%", class_="base")
    name = tag("text", x.label, x="100%", y="100%", dy="2.9em", class_="label end")
    picture = tag(
        "svg",
        *(heading, rules, base, name, marks),
        class_="plot" if y else "plot rows",
        role="img",
        aria_labelledby=" ".join(ids),
        style=f"height:{height}",
    )
    above = tag("p", y.label, class_="y-label", aria_hidden="true") if y else None
    return Markup((above or "") + picture)


def _x_tick(axis: Axis, value: float, *, ruled: bool) -> Markup:
    place = percent_of(axis.place(value))
    text = tag("text", axis.show(value), x=place, y="100%", dy="1.5em", class_="tick middle")
    line = tag("line", x1=place, x2=place, y1="0%", y2="100%", class_="rule") if ruled else ""
    return Markup(line + text)


def _y_tick(axis: Axis, value: float) -> Markup:
    place = percent_of(1 - axis.place(value))
    line = tag("line", x1="0%", x2="100%", y1=place, y2=place, class_="rule")
    return Markup(line + tag("text", axis.show(value), x="0%", y=place, dx="-0.7em", dy="0.33em", class_="tick end"))


def curves(lines: Iterable[tuple[str, Sequence[tuple[float, float]]]], x: Axis, y: Axis) -> Markup:
    """Return lines through points, each with its class; a line of one point is drawn as a dot."""
    drawn = []
    for style, points in lines:
        places = [(round(FINE * x.place(a)), round(FINE * (1 - y.place(b)))) for a, b in points]
        if len(places) == 1:
            places *= 2
        path = " ".join(f"{a},{b}" for a, b in places)
        drawn.append(tag("polyline", points=path, class_=f"curve {style}", vector_effect="non-scaling-stroke"))
    box = {"viewBox": f"0 0 {FINE} {FINE}", "preserveAspectRatio": "none"}
    return tag("svg", drawn, x="0", y="0", width="100%", height="100%", class_="curves", **box)


SHAPES = {
    "dot": "M0 -5.5A5.5 5.5 0 1 1 -0.01 -5.5Z",
    "diamond": "M0 -8L8 0L0 8L-8 0Z",
    "square": "M-5 -5H5V5H-5Z",
    "bar": "M-1.5 -9H1.5V9H-1.5Z",
}


def marker(shape: str, style: str, x: float, y: float) -> Markup:
    """Return a mark of a fixed size at a place."""
    path = tag("path", d=SHAPES[shape], class_=style)
    return tag("svg", path, x=percent_of(x), y=percent_of(y), width="1", height="1", class_="marker")


def key_of(shape: str, style: str, text: str) -> Markup:
    """Return an entry of a legend: a mark and its meaning."""
    if shape == "line":
        mark = tag("line", x1="1", x2="27", y1="9", y2="9", class_=f"curve {style}")
        picture = tag("svg", mark, width="28", height="18", aria_hidden="true")
    else:
        mark = tag("path", d=SHAPES[shape], transform="translate(9 9)", class_=style)
        picture = tag("svg", mark, width="18", height="18", aria_hidden="true")
    return tag("li", picture, text)


def legend(entries: Iterable[Markup]) -> Markup:
    """Return a legend, a list of marks with their meanings."""
    return tag("ul", list(entries), class_="legend")
