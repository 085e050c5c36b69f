"""Pages that are generated from the program are as it would generate them, and `pactl names` knows every name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pactl_cli import catalogue
from pactl_cli.commands.app import app
from pactl_cli.commands.published import options_table
from pactl_cli.commands.reference import PAGES, catalogue_page

DOCS = Path(__file__).parents[1] / "docs"
TABLES = (catalogue.DATASETS, catalogue.MODELS, catalogue.PROJECTORS, catalogue.RECIPES)
NAMES = [(name, entry.summary) for table in TABLES for name, entry in table.items()]


@pytest.mark.parametrize("page", PAGES)
def test_a_generated_page_is_up_to_date(page: str) -> None:
    """If not: python -m pactl_cli.commands.reference docs."""
    assert (DOCS / page).read_text(encoding="utf-8") == PAGES[page]()


@pytest.mark.parametrize("table", catalogue.TABLES, ids=lambda table: table.kind)
def test_the_command_that_lists_names_has_every_one(table: catalogue.Table[Any]) -> None:
    text = CliRunner().invoke(app, ["names", table.kind]).output
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert len(lines) == len(table)
    for (name, row), line in zip(table.items(), lines, strict=True):
        assert line.startswith(f"{name} {row.summary}")


def test_the_table_of_published_options_is_that_of_the_errors() -> None:
    assert options_table() in (DOCS / "published-scripts.md").read_text(encoding="utf-8")


def test_the_catalogue_page_has_every_name_and_misses_one_that_is_taken_away() -> None:
    page = catalogue_page()
    for name, summary in NAMES:
        line = f"| `{name}` | {summary}"
        assert len(re.findall(re.escape(line), page)) == 1
        assert line not in page.replace(line, "")


@pytest.mark.parametrize(("page", "least"), [("reliability.md", 30), ("threat-model.md", 40)])
def test_every_line_of_the_tables_has_its_test(page: str, least: int) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\|(?!---| what).*\|$", text, re.MULTILINE)
    assert len(rows) >= least
    for row in rows:
        file, name = re.fullmatch(r"\| .+ \| .+ \| `(.+)::(.+)` \|", row).groups()  # type: ignore[union-attr]
        assert f"\ndef {name}(" in (DOCS.parent / "tests" / file).read_text(encoding="utf-8"), row
