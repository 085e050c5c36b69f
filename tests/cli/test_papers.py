"""`report` for a paper and for spreadsheets: tables in LaTeX and CSV, and the page's plots as pictures."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from pactl_cli.commands.page import picture
from pactl_cli.commands.page.document import FIGURES, named_runs
from pactl_cli.commands.page.plot import PLOTS
from pactl_cli.commands.tables import escaped
from pactl_cli.problem.display import Silence
from pactl_cli.stages.report import report as read

Call = Callable[..., Any]
HOSTILE = [
    r"50%_a&b#c$d{e}f~g^h",
    "back\\slash|<bar>\"`'",
    "=cmd|'calc'!A0",
    "-minus",
    "@sum",
    "--dash---",
    "new\nline",
    "$x^2$",
    "\x1b[31mred",
]


def certificate(run: Path) -> Any:
    return json.loads((run / "bound.json").read_text())


def rounded_up(error: float, *, digits: str = "0.01") -> str:
    return str((Decimal(repr(error)) * 100).quantize(Decimal(digits), ROUND_CEILING))


@pytest.fixture
def hostile(certified: Path, tmp_path: Path) -> list[Path]:
    """Return copies of a run with names that LaTeX, a spreadsheet or a terminal would interpret."""
    return [Path(shutil.copytree(certified, tmp_path / "runs" / name)) for name in HOSTILE]


# --- CSV --------------------------------------------------------------------------------------------------------------


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text, newline="")))


def test_the_header_is_the_same_for_all_runs(pactl: Call, certified: Path, trained: Path, npz: Path) -> None:
    assert pactl("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--intrinsic-dim", 9, "--out", "other").code == 0
    many = ("--quant-epochs", 0, "--compare-posthoc", "--delta", ".05,.01")
    assert pactl("bound", "other", *many).code == 0
    headers = {pactl("report", run, "--csv", "-").out.splitlines()[0] for run in (certified, trained, "other")}
    assert len(headers) == 1
    columns = headers.pop().split(",")
    assert len(columns) == len(set(columns))
    assert {"bits.symbols", "bounds.catoni", "posthoc.bound", "at_other_deltas", "made_with.quant_epochs"} < set(
        columns
    )
    [row] = rows_of(pactl("report", "other", "--csv", "-").out)
    written = certificate(Path("other"))
    for name, cell in row.items():
        value = written
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, float):
            assert float(cell) == value, name
        elif isinstance(value, int):
            assert cell == str(value), name
    [other] = written["at_other_deltas"]
    assert row["at_other_deltas"] == f"{other['delta']!r}:{other['error_bound']!r}"


def test_no_cell_is_a_formula_and_every_name_comes_back(
    pactl: Call, hostile: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "runs")
    done = pactl("report", "--csv", "-", "--", *HOSTILE)
    rows = rows_of(done.out)
    assert [row["run_dir"].removeprefix("'") for row in rows] == HOSTILE
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert len(rows) == len(HOSTILE)


@pytest.mark.parametrize("name", ["model_name", "base_width", "seed"])
def test_no_cell_of_a_stranger_does_anything_to_a_terminal(
    pactl: Call, certified: Path, agree: Call, name: str
) -> None:
    document = certificate(certified)
    document["configuration"][name] = "\x1b]0;owned\x07\u202e"
    agree(certified, "bound.json", document)
    [row] = rows_of(pactl("report", certified, "--csv", "-").out)
    assert all(map(str.isprintable, row.values()))


# --- LaTeX ------------------------------------------------------------------------------------------------------------


def body(text: str) -> list[list[str]]:
    """Return the cells of a table's rows."""
    inside = text.partition("\\midrule\n")[2].partition("    \\bottomrule")[0]
    return [re.split(r"(?<!\\) ?& ?", line.strip().removesuffix(r" \\")) for line in inside.splitlines()]


def require_sound(text: str) -> None:
    """Check that braces balance, that rows have as many cells as there are columns, and that names are escaped."""
    code = re.sub(r"(?m)^%.*\n", "", text)
    assert code.startswith("\\begin{table}\n")
    bare = re.sub(r"\\[{}%&#$_\\]", "", code)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[%#~]", bare)
    [columns] = re.findall(r"\\begin\{tabular\}\{(\w+)\}", code)
    assert {len(row) for row in body(text)} == {len(columns)}


def test_the_table_for_a_paper_has_each_run_s_numbers_rounded_up(pactl: Call, certified: Path, trained: Path) -> None:
    assert pactl("report", certified, trained, "--latex", "table.tex").out == "table.tex\n"
    text, written = Path("table.tex").read_text(), certificate(certified)
    require_sound(text)
    first, second = body(text)
    errors = (written["quantised_train_error"], written["test_error"])
    assert first[:2] == [r"\texttt{certified}", "npz:tiny.npz"]
    assert first[2:6] == ["20", str(written["bound_examples"]), *map(rounded_up, errors)]
    assert first[6:] == [str(written["message_bits"]), rounded_up(written["error_bound"])]
    assert second == [r"\texttt{trained}", "npz:tiny.npz", "20", *["--"] * 5]
    [caption] = re.findall(r"\\caption\{.*", text)
    assert r"With probability at least $1 - \delta$" in caption
    assert r"($\delta = 0.05$)" in caption
    assert "A run without a bound is not certified." in caption
    assert "jointly" not in caption
    assert f"% {written['statement']} Check it: pactl verify {certified}" in text


def test_what_holds_jointly_is_said_and_what_does_not(pactl: Call, certified: Path, trained: Path) -> None:
    again = shutil.copytree(certified, "again")
    same = pactl("report", certified, again, "--latex", "-").out
    assert "the bounds hold jointly and choosing the lowest is paid for" in same
    assert pactl("bound", trained, "--quant-epochs", 0, "--delta", "1e-5,.01").code == 0
    mixed = pactl("report", certified, trained, "--latex", "-").out
    require_sound(mixed)
    assert "choosing the lowest is not paid for" in mixed
    assert r"($\delta$ as in its row)" in mixed
    assert r"The bounds of a row at several $\delta$ hold jointly." in mixed
    written = certificate(trained)
    [other] = written["at_other_deltas"]
    first, second = body(mixed)
    assert (first[7], first[9]) == ("$0.05$", "--")
    assert second[7:] == ["$10^{-5}$", rounded_up(written["error_bound"]), rounded_up(other["error_bound"])]
    assert r"at $\delta = 0.01$" in mixed


def test_a_hold_out_bound_and_label_noise_are_marked(pactl: Call, npz: Path) -> None:
    prior = ("prior", "--dataset", f"npz:{npz}", "--base-width", 16, "--epochs", 1, "--intrinsic-dim", 0)
    assert pactl(*prior, "--out", "held").code == pactl("bound", "held").code == 0
    noisy = ("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--label-noise", 0.1, "--intrinsic-dim", 5)
    assert pactl(*noisy, "--out", "noisy").code == pactl("bound", "noisy", "--quant-epochs", 0).code == 0
    text = pactl("report", "held", "noisy", "--latex", "-").out
    require_sound(text)
    first, second = body(text)
    assert first[-1].endswith(r"\rlap{\textsuperscript{a}}")
    assert second[-1].endswith("c}}")
    assert r"\textsuperscript{a}\,Hold-out bound" in text
    assert r"\textsuperscript{c}\,About new examples whose labels are replaced at random" in text
    assert "textsuperscript{b}" not in text


def test_names_are_printed_as_they_are(pactl: Call, hostile: list[Path]) -> None:
    text = pactl("report", *hostile, "--latex", "-").out
    require_sound(text)
    names = [row[0].removeprefix(r"\texttt{").removesuffix("}") for row in body(text)]
    assert names == [escaped(name) for name in HOSTILE]
    assert names[0] == r"50\%\_a\&b\#c\$d\{e\}f\textasciitilde{}g\textasciicircum{}h"
    assert names[5] == "-{}-dash-{}-{}-"
    assert names[6] == "new?line"
    assert "\x1b" not in text


# --- Pictures ---------------------------------------------------------------------------------------------------------

BEGINNINGS = {"pdf": b"%PDF-", "png": b"\x89PNG\r\n", "svg": b"<?xml"}


@pytest.mark.parametrize("form", BEGINNINGS)
def test_a_plot_is_written_in_each_form_the_same_each_time(pactl: Call, certified: Path, form: str) -> None:
    for name in (f"a.{form}", f"b.{form.upper()}"):
        done = pactl("report", certified, "--figure", name, "--plot", "bits")
        assert (done.code, done.out, done.err) == (0, f"{name}\n", "")
    data = Path(f"a.{form}").read_bytes()
    assert data.startswith(BEGINNINGS[form])
    assert Path(f"b.{form.upper()}").read_bytes() == data
    if form == "pdf":
        assert b"/FontFile2" in data
        assert b"/Type3" not in data
    if form == "svg":
        assert b"<text" not in data, "letters are outlines"
        assert fromstring(data).get("width") == "244.8pt"


@pytest.mark.parametrize("plot", PLOTS)
def test_a_picture_shows_what_the_page_shows(
    plot: str, certified: Path, trained: Path, quiet: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture has the page's words, legend and titles, and as many marks of each kind."""
    if plot in ("abstention", "calibration"):
        quiet("bound", certified, "--quant-epochs", 1, "--certify", "abstain,calibration", "--force")
    drawn: list[Any] = []
    monkeypatch.setattr(picture, "_saved", lambda figure, form: drawn.append(figure) or b"")
    reports = read([certified, trained], Silence())
    picture.picture(reports, plot, "svg", Silence())
    page = fromstring(FIGURES[plot](named_runs(reports)) or "")
    [axes] = drawn[0].axes
    words: list[Any] = [text.get_text() for text in axes.texts]
    entries: list[Any] = [entry[0].tail for entry in page.iterfind(".//ul[@class='legend']/li")]
    titles: list[Any] = [each.text for each in [*page.iterfind(".//h3"), *page.iterfind(".//p[@class='y-label']")]]
    assert sorted(words) == sorted([*(each.text or "" for each in page.iter("text")), *entries, *titles])
    assert len(words) > 5
    lines = [*page.iter("line"), *page.iter("polyline"), *page.iter("path")]
    assert len(axes.lines) == len(lines)
    assert len(axes.collections) == len([*page.iter("rect")])
    colours = {line.get_color() for line in axes.lines}
    assert not {colour for colour in colours if str(colour).startswith("var")}


def test_marks_lie_where_the_page_has_them(certified: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(picture, "_saved", lambda figure, form: drawn.append(figure) or b"")
    picture.picture(read([certified], Silence()), "errors", "svg", Silence())
    written = certificate(certified)
    place = {text.get_text(): text.get_position()[0] for text in drawn[0].axes[0].texts}
    ticks = {float(text[:-2]): x for text, x in place.items() if re.fullmatch(r"\d+(\.\d)? %", text)}
    (low, left), *_, (high, right) = sorted(ticks.items())
    certified_at = place[f"{rounded_up(written['error_bound'])} %"]
    expected = left + (100 * written["error_bound"] - low) / (high - low) * (right - left)
    assert certified_at == pytest.approx(expected, abs=0.2)


def test_names_are_not_taken_for_mathematics(pactl: Call, hostile: list[Path]) -> None:
    for plot in ("errors", "learning"):
        done = pactl("report", *hostile[-3:], "--figure", "a.pdf", "--plot", plot)
        assert (done.code, done.out) == (0, "a.pdf\n"), plot


def test_what_the_font_lacks_is_said(pactl: Call, certified: Path) -> None:
    run = shutil.copytree(certified, "名前")
    done = pactl("report", run, "--figure", "a.png")
    assert (done.code, done.out) == (0, "a.png\n")
    assert done.err == "pactl: note: some characters of the names have no picture in the font DejaVu Sans\n"


def test_a_picture_that_cannot_be_drawn_is_an_error(
    pactl: Call, certified: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("old.pdf").write_text("old")
    nothing = "--plot errors: these runs have nothing to draw (certify them: pactl bound RUN_DIR)"
    assert nothing in pactl("report", trained, "--figure", "old.pdf").complaint(2)
    assert "there is no such plot (choose from errors, abstention" in pactl(
        "report", certified, "--figure", "old.pdf", "--plot", "pie"
    ).complaint(2)
    assert "--plot bits is for --figure" in pactl("report", certified, "--plot", "bits").complaint(2)
    for name in ("figure", "figure.jpg", "-", certified):
        assert "does not end in .pdf, .svg or .png" in pactl("report", certified, "--figure", name).complaint(2)
    assert "exclude each other" in pactl("report", certified, "--figure", "a.pdf", "--latex", "-").complaint(2)
    assert "--figure nowhere/a.pdf cannot be written" in pactl(
        "report", certified, "--figure", "nowhere/a.pdf"
    ).complaint(2)
    monkeypatch.setattr("pactl_cli.commands.report.find_spec", lambda name: None)
    absent = "--figure needs matplotlib, which is not installed (pip install 'pactl[plot]')"
    assert absent in pactl("report", certified, "--figure", "old.pdf").complaint(2)
    assert Path("old.pdf").read_text() == "old"
    monkeypatch.undo()


def test_an_earlier_picture_is_replaced(pactl: Call, certified: Path) -> None:
    Path("old.pdf").write_text("old")
    assert pactl("report", certified, "--figure", "old.pdf").code == 0
    assert Path("old.pdf").read_bytes().startswith(b"%PDF-")
