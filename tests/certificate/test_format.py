"""The constants and tables of the message format are frozen, except that tables may grow at their ends."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from pactl_cli import catalogue
from pactl_cli.certificate import format as fm
from pactl_cli.certificate.codes import BitReader, BitWriter
from pactl_cli.certificate.configuration import complete, read_configuration, write_configuration
from pactl_cli.certificate.format import FORMAT, FROZEN_BOUNDS
from pactl_cli.certificate.task import Brought, Task

GOLDEN = Path(__file__).parent / "golden"
ADVICE = (
    "append what is new at the END of its table, or raise FORMAT in certificate/format.py: messages that were written "
    "before would mean something else"
)


def format_description() -> dict[str, Any]:
    """Return the whole format as plain values; what is under `tables` may grow at its end."""
    constants = {
        "seed": fm.DEFAULT_SEED,
        "calibration": [
            fm.DEFAULT_CALIBRATION,
            fm.MAX_CALIBRATION_SHARE,
            fm.CALIBRATION_BATCH,
        ],
        "examples_per_dim": fm.EXAMPLES_PER_DIM,
        "fixed_statistics": [list(row) for row in fm.FIXED_STATISTICS],
        "numerical_margin": fm.NUMERICAL_MARGIN,
        "digits": [fm.DIGITS, fm.DIGIT_BITS],
        "largest": {
            "frozen_bytes": fm.MAX_FREEZE_BYTES,
            "levels": fm.MAX_LEVELS,
            "dim": fm.MAX_DIM,
        },
        "round_dims": list(fm.ROUND_DIMS),
    }
    tables = {
        "networks": [[row.name, row.width, row.batch_statistics] for row in catalogue.MODELS.values()],
        "projectors": list(catalogue.PROJECTORS),
        "views": list(catalogue.VIEWS),
        "codebooks": [form.partition(":")[2] for form in fm.codebook_forms()],
        "hypotheses": list(fm.HYPOTHESES),
        "fields": list(fm.FIELDS),
        "bounds": list(catalogue.BOUNDS),
    }
    networks = {name: row.model for name, row in catalogue.DATASETS.items()}
    return {"format": fm.FORMAT, "constants": constants, "dataset_networks": networks, "tables": tables}


def changes(frozen: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the names of the parts of the format that have changed."""
    tables = {name: now["tables"].get(name, [])[: len(rows)] for name, rows in frozen["tables"].items()}
    wrong = [f"tables.{name}" for name, rows in frozen["tables"].items() if tables[name] != rows]
    networks = frozen["dataset_networks"].items()
    wrong += [f"dataset_networks.{name}" for name, model in networks if now["dataset_networks"].get(name) != model]
    return wrong + [name for name in ("format", "constants") if frozen[name] != now[name]]


@pytest.fixture
def golden() -> dict[str, Any]:
    """Return the format as it was when it was first published."""
    content: dict[str, Any] = json.loads((GOLDEN / f"format-{FORMAT}.json").read_text())
    return content


def test_the_format_is_what_it_was(golden: dict[str, Any]) -> None:
    assert not (wrong := changes(golden, json.loads(json.dumps(format_description())))), f"{wrong}: {ADVICE}"


def test_what_is_appended_changes_nothing(golden: dict[str, Any]) -> None:
    now = copy.deepcopy(golden)
    for rows in now["tables"].values():
        rows.append("new")
    now["dataset_networks"]["new"] = "fc"
    assert changes(golden, now) == []


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to every leaf of a JSON value."""
    if not isinstance(value, dict | list):
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [leaf for key, item in items for leaf in leaves(item, (*path, key))]


def test_any_other_change_is_seen(golden: dict[str, Any]) -> None:
    for *way, last in leaves(golden):
        now = copy.deepcopy(golden)
        place = now
        for key in way:
            place = place[key]
        place[last] = "other"
        assert changes(golden, now), (*way, last)
    for name, rows in golden["tables"].items():
        for other in (rows[:-1], rows[::-1], ["new", *rows]):
            if other != rows:
                assert changes(golden, golden | {"tables": golden["tables"] | {name: other}}) == [f"tables.{name}"]


def test_the_bounds_of_a_certificate_are_those_of_the_format(golden: dict[str, Any]) -> None:
    assert golden["tables"]["bounds"] == list(FROZEN_BOUNDS)
    assert catalogue.HEADLINE in FROZEN_BOUNDS


@pytest.mark.parametrize("table", ["MODELS", "PROJECTORS", "VIEWS"])
def test_a_row_at_the_end_leaves_every_message_as_it_was(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This includes messages about a network that the receiver brings."""
    task = Task("digits", 1437, 1, Brought("nets:small"))
    names = {"MODELS": "model_name", "PROJECTORS": "intrinsic_mode", "VIEWS": "view"}
    rows = getattr(catalogue, table)

    def code(name: str) -> tuple[int, bytes]:
        writer = BitWriter()
        write_configuration(writer, complete({names[table]: name}, task), task)
        stated = read_configuration(BitReader(writer.to_bytes()), task)
        assert getattr(stated, names[table]) == name
        return writer.num_bits, writer.to_bytes()

    known = [*rows, *(["nets:small"] if table == "MODELS" else [])]
    before = [code(name) for name in known]
    monkeypatch.setitem(rows, "new", next(iter(rows.values())))
    assert [code(name) for name in known] == before
    assert code("new") not in before
