"""A plot of the page as a picture for a paper: the marks of the page's SVG, drawn by matplotlib.

Lengths are in points, measured from the left and the top. matplotlib's own settings are neither changed nor used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from typing import Any
from warnings import catch_warnings
from xml.etree.ElementTree import Element, fromstring

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Outline
from matplotlib.patheffects import withStroke

from pactl_cli import __version__
from pactl_cli.commands.page.document import FIGURES, named_runs
from pactl_cli.commands.page.plot import FINE, SHAPES
from pactl_cli.commands.page.style_sheet import StyleSheet
from pactl_cli.errors import PactlError
from pactl_cli.problem.display import Display
from pactl_cli.stages.report import Report

_COLUMN, _PAGE, _GAP = 244.8, 504.0, 27.0
"""The widths of a column, of a page with two columns, and of the gap between these."""
_CERTIFIED = {"abstention": "abstain", "calibration": "calibration"}
"""What has to be certified for a plot beside the error."""
_REM = 9.2
_PX = _REM / 16
_LINE, _EDGE = 1.4 * _REM, 0.4 * _REM
_MOST_DOTS = 20_000
"""The largest height of a bitmap, in pixels, however many runs it shows."""
_SETTINGS: Any = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "pactl"}
"""Settings that embed TrueType fonts in PDF, turn SVG's letters to outlines, and make files reproducible."""
_NOTHING = {"pdf": ("CreationDate",), "svg": ("Date",), "png": ()}
_OUTLINES: dict[str, tuple[Any, float]] = {
    SHAPES["dot"]: ("o", 11),
    SHAPES["diamond"]: (Outline([(0, -1), (1, 0), (0, 1), (-1, 0), (0, -1)], closed=True), 16),
    SHAPES["square"]: (Outline([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)], closed=True), 10),
    SHAPES["bar"]: (Outline([(-1, -6), (1, -6), (1, 6), (-1, 6), (-1, -6)], closed=True), 18),
}
"""matplotlib's markers for the page's, and their sizes in pixels of the page."""


@dataclass(frozen=True)
class _Box:
    """The place of a plot."""

    left: float
    top: float
    width: float
    height: float

    def x(self, share: float) -> float:
        """Return the horizontal place at a share of the width."""
        return self.left + share * self.width

    def y(self, share: float) -> float:
        """Return the vertical place at a share of the height."""
        return self.top + share * self.height


@dataclass(frozen=True)
class _Panel:
    """A plot with its title, legend and label."""

    title: str
    legend: list[Element]
    label: str
    plot: Element

    @classmethod
    def of(cls, element: Element) -> _Panel:
        """Return the panel in an element of the page."""
        found = element.find("svg")
        assert found is not None
        inner = element.findall("ul[@class='legend']/li") if element.tag == "div" else []
        return cls(element.findtext("h3", ""), inner, element.findtext("p[@class='y-label']", ""), found)

    @property
    def height(self) -> float:
        """The height of the plot, which the page gives as `height:13rem`."""
        return float(self.plot.get("style", "").removeprefix("height:").removesuffix("rem")) * _REM


def picture(reports: Sequence[Report], plot: str, form: str, display: Display) -> bytes:
    """Return a plot of runs as the bytes of a file: as wide as a column, or with several panels as wide as a page.

    Raises:
        PactlError: if there is nothing to draw.
    """
    section = FIGURES[plot](named_runs(reports))
    root = fromstring(section) if section else Element("section")
    panels = [_Panel.of(each) for each in root.findall("div/div[@class='panel']") or root.findall("svg/..")]
    if not panels:
        asked = f" --certify {_CERTIFIED[plot]}" if plot in _CERTIFIED else ""
        raise PactlError(f"--plot {plot}: these runs have nothing to draw", f"certify them: pactl bound RUN_DIR{asked}")
    for line in [*root.iterfind("ul[@class='absent']/li"), *root.iterfind("p[@class='note']")]:
        display.warn(line.text or "")
    with matplotlib.rc_context(_SETTINGS), catch_warnings(record=True, action="always") as warned:
        data = _saved(_Sheet().filled(root.findall("ul[@class='legend']/li"), panels), form)
    if any("missing from font" in str(each.message) for each in warned):
        display.warn("some characters of the names have no picture in the font DejaVu Sans")
    return data


def _saved(figure: Figure, form: str) -> bytes:
    file, creator = BytesIO(), {"Software" if form == "png" else "Creator": f"pactl {__version__}"}
    dots = min(300, _MOST_DOTS / figure.get_size_inches()[1])
    figure.savefig(file, format=form, dpi=dots, metadata=creator | dict.fromkeys(_NOTHING[form]))
    return file.getvalue()


class _Sheet:
    """A canvas that grows with the panels drawn on it."""

    def __init__(self) -> None:
        self._style_sheet, self._order = StyleSheet(), count(1)
        self._figure = Figure(dpi=72)
        renderer: Any = FigureCanvasAgg(self._figure).get_renderer()  # type: ignore[no-untyped-call]
        self._size_of: Callable[[str, FontProperties, bool], tuple[float, float, float]]
        self._size_of = renderer.get_text_width_height_descent
        self._axes: Axes = self._figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()

    def filled(self, legend: list[Element], panels: list[_Panel]) -> Figure:
        """Draw panels in two columns below a legend; return the figure."""
        width = _COLUMN if len(panels) == 1 else _PAGE
        column = width - 2 * _EDGE if len(panels) == 1 else (width - _GAP) / 2 - _EDGE
        top = self._legend(legend, _Box(_EDGE, _EDGE, width - 2 * _EDGE, 0))
        for row in (panels[place : place + 2] for place in range(0, len(panels), 2)):
            top = max(
                self._panel(panel, _Box(_EDGE + i * (column + _GAP), top, column, 0)) for i, panel in enumerate(row)
            )
        self._figure.set_size_inches(width / 72, top / 72)
        self._axes.set_xlim(0, width)
        self._axes.set_ylim(top, 0)
        return self._figure

    def _panel(self, panel: _Panel, box: _Box) -> float:
        """Draw a panel; return where it ends."""
        top = box.top
        if panel.title:
            self._write(panel.title, box.left, top + 0.8 * _LINE, 0.87, weight="bold")
            top += 1.1 * _LINE
        top = self._legend(panel.legend, _Box(box.left, top, box.width, 0))
        if panel.label:
            self._write(
                panel.label,
                box.left,
                top + 0.8 * _LINE,
                0.78,
                color=self._style_sheet.style_of(Element("p", {"class": "y-label"}))["color"],
            )
            top += 1.1 * _LINE
        is_rows = "rows" in panel.plot.get("class", "").split()
        left, right = (0.9, 0.6) if is_rows else (3.4, 0.9)
        plot = _Box(
            box.left + left * _REM,
            top + 0.4 * _REM,
            box.width - (left + right) * _REM,
            panel.height * (1.15 if is_rows else 1),
        )
        self._draw(panel.plot, plot)
        return plot.top + plot.height + 3.2 * _REM

    def _legend(self, entries: Iterable[Element], box: _Box) -> float:
        """Draw a legend, on as many lines as it needs; return where it ends."""
        x, y, font = box.left, box.top, FontProperties(size=0.78 * _REM)
        for entry in entries:
            [drawing] = entry
            text, mark = drawing.tail or "", float(drawing.get("width", 0)) * _PX + 0.35 * _REM
            width = mark + self._size_of(text, font, False)[0]
            if x > box.left and x + width > box.left + box.width:
                x, y = box.left, y + _LINE
            for shape in drawing:
                self._mark(shape, x + (9 if shape.tag == "path" else 0) * _PX, y + 0.5 * _LINE, x)
            self._write(text, x + mark, y + 0.5 * _LINE + 0.27 * _REM, 0.78)
            x += width + 1.4 * _REM
        return y + 1.3 * _LINE if x > box.left else y

    def _mark(self, shape: Element, x: float, y: float, left: float) -> None:
        """Draw the mark of an entry of a legend."""
        if shape.tag == "path":
            self._point(shape, x, y)
        else:
            ends = [left + float(shape.get(name, 0)) * _PX for name in ("x1", "x2")]
            self._line(shape, ends, [y, y])

    def _draw(self, plot: Element, box: _Box) -> None:
        """Draw the marks of a plot, in their order."""
        for mark in plot:
            match mark.tag:
                case "line":
                    x, y = _shares(mark, "x1", "x2"), _shares(mark, "y1", "y2")
                    self._line(mark, [*map(box.x, x)], [*map(box.y, y)])
                case "rect":
                    self._bar(mark, box)
                case "text":
                    self._text(mark, box)
                case "svg" if mark.get("class") == "curves":
                    for curve in mark:
                        points = [pair.split(",") for pair in curve.get("points", "").split()]
                        xs, ys = ([int(pair[axis]) / FINE for pair in points] for axis in (0, 1))
                        self._line(curve, [*map(box.x, xs)], [*map(box.y, ys)])
                case "svg":
                    [place], [height] = _shares(mark, "x"), _shares(mark, "y")
                    self._point(mark[0], box.x(place), box.y(height))

    def _line(self, mark: Element, xs: list[float], ys: list[float]) -> None:
        look = self._style_sheet.style_of(mark)
        width, dashes = float(look.get("stroke-width", 1)), look.get("stroke-dasharray", "").split()
        style: Any = (0, [float(dash) / width for dash in dashes]) if dashes else "-"
        caps: Any = {"solid_capstyle": "butt", "solid_joinstyle": "round"}
        alpha = float(look.get("stroke-opacity", 1))
        how: Any = {"color": look["stroke"], "linewidth": width * _PX, "linestyle": style, "alpha": alpha}
        self._axes.plot(xs, ys, zorder=next(self._order), clip_on=False, **how, **caps)

    def _bar(self, mark: Element, box: _Box) -> None:
        x, y, width, height = _shares(mark, "x", "y", "width", "height")
        ends, colour = [box.x(x), box.x(x + width)], self._style_sheet.style_of(mark)["fill"]
        order = next(self._order)
        self._axes.fill_between(ends, box.y(y), box.y(y + height), color=colour, linewidth=0, zorder=order)

    def _point(self, path: Element, x: float, y: float) -> None:
        look, (marker, size) = self._style_sheet.style_of(path), _OUTLINES[path.get("d", "")]
        edge: Any = {
            "markeredgecolor": look.get("stroke", "none"),
            "markeredgewidth": float(look.get("stroke-width", 0)) * _PX,
        }
        face: Any = {"markerfacecolor": look["fill"], "markersize": size * _PX, "marker": marker}
        self._axes.plot([x], [y], zorder=next(self._order), clip_on=False, linestyle="none", **face, **edge)

    def _text(self, mark: Element, box: _Box) -> None:
        look, (x, y) = self._style_sheet.style_of(mark), _shares(mark, "x", "y")
        size = float(look["font-size"].removesuffix("rem"))
        dx, dy = (float(mark.get(name, "0em").removesuffix("em")) * size * _REM for name in ("dx", "dy"))
        side = {"middle": "center", "end": "right"}.get(look.get("text-anchor", ""), "left")
        weight = "bold" if look.get("font-weight") else "normal"
        how: Any = {"color": look["fill"], "horizontalalignment": side, "weight": weight}
        if halo := look.get("stroke"):
            how["path_effects"] = [withStroke(linewidth=float(look["stroke-width"]) * _PX, foreground=halo)]
        self._write(mark.text or "", box.x(x) + dx, box.y(y) + dy, size, **how)

    def _write(self, text: str, x: float, y: float, size: float, **how: Any) -> None:
        """Write text on its baseline; matplotlib does not read it as mathematics."""
        order = next(self._order)
        self._axes.text(x, y, text, size=size * _REM, parse_math=False, zorder=order, family="DejaVu Sans", **how)


def _shares(mark: Element, *names: str) -> list[float]:
    """Return attributes such as `12.5%` as shares."""
    return [float(mark.get(name, "0").removesuffix("%")) / 100 for name in names]
