"""The reference decoder agrees with the program on every message, and its page with the program's tables."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable
from fractions import Fraction
from importlib.util import module_from_spec, spec_from_file_location
from math import nextafter
from pathlib import Path
from time import process_time
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pactl_cli import catalogue
from pactl_cli.certificate import format as fm
from pactl_cli.certificate.codebook import Codebook, FreeLevels, Grid
from pactl_cli.certificate.codes import DecodeError
from pactl_cli.certificate.configuration import complete
from pactl_cli.certificate.message import Message, decode, encode
from pactl_cli.certificate.risk_bounds import binomial_bound
from pactl_cli.certificate.task import Brought, Task

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT, PAGE = DOCS / "reference_decoder.py", DOCS / "message-format.md"


def loaded() -> ModuleType:
    """Return the script as a module."""
    spec = spec_from_file_location("reference_decoder", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = loaded()

# --- The script and its page ------------------------------------------------------------------------------------------


def test_it_is_short_and_needs_numpy_alone() -> None:
    texts = [(DOCS / name).read_text(encoding="utf-8") for name in (SCRIPT.name, "reference_bounds.py")]
    assert all(len(text.splitlines()) < 300 for text in texts)
    parsed = (node for text in texts for node in ast.walk(ast.parse(text)))
    nodes = [node for node in parsed if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes}
    others = {str(name).partition(".")[0] for name in names} - sys.stdlib_module_names
    assert others == {"numpy", "reference_bounds"}


def written_network(row: catalogue.Model) -> str:
    return row.name + (f":{row.width}" if row.width else "") + "*" * row.batch_statistics


TABLES: dict[str, list[str]] = {
    "fields": list(fm.FIELDS),
    "datasets": [f"{row.name}={row.model}{'*' * bool(row.normalisation)}" for row in catalogue.DATASETS.values()],
    "networks": [written_network(row) for row in catalogue.MODELS.values()],
    "intrinsic_mode": list(catalogue.PROJECTORS),
    "view": list(catalogue.VIEWS),
    "hypothesis": list(fm.HYPOTHESES),
    "dimensions": list(map(str, fm.ROUND_DIMS)),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_the_page_are_the_programs(name: str) -> None:
    assert REFERENCE.TABLES[name] == TABLES[name]
    assert len(re.findall(rf"^```text {name}$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) == 1


def test_the_page_has_a_row_for_every_field_and_the_forms_of_codebooks() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", text, re.MULTILINE) == list(fm.FIELDS)
    assert [form.partition(":")[2] for form in fm.codebook_forms()] == ["Grid", "FreeLevels"]
    assert {row.normalisation for row in catalogue.DATASETS.values()} == {None, fm.CALIBRATION}


# --- Messages ---------------------------------------------------------------------------------------------------------

SOURCE = {"intrinsic_dim": 0, "model_name": "resnet18", "base_width": None, "calibration_examples": 0}
PRIOR = {"intrinsic_dim": 0, "model_name": "convnet", "base_width": 24, "normalisation": "calibration"}
TASKS = [
    Task("mnist", 60_000, 1),
    Task("digits", 719, 1, calibration_pool=700, defaults=PRIOR | {"image_size": 16}),
    Task("cifar10", 50_000, 3, defaults=SOURCE | {"normalisation": catalogue.IMAGENET_STATISTICS, "image_size": None}),
    Task("glyphs:digits", 60_000, 1),
    Task("npz:tiny.npz", 25, 3),
    Task("npz:a,b.npz", 250, 1, inputs="features"),
    Task("digits,npz:mine.npz", 2000, 1),
    Task("folder:photos", 1_300_000, 3),
    Task("folder:texts", 1300, 1, inputs="tokens"),
    Task("folder:rows", 1300, 1, inputs="features"),
    Task("csv:cancer.csv", 569, 1, inputs="features"),
    Task("parquet:x", 569, 1, inputs="mapping"),
    Task("csv:texts.csv", 569, 1, inputs="tokens"),
    Task("digits", 1437, 1, Brought("nets:small", 7, batch_statistics=True)),
    Task("digits", 1437, 1, Brought("nets:small"), defaults={"intrinsic_dim": 0, "model_name": "nets:small"}),
]
STEP = st.sampled_from([2.0**-24, 0.0625, 1.0, 65504.0])
CODEBOOKS = st.one_of(
    st.builds(Grid, STEP, st.integers(1, 40)),
    st.just(Grid(1.0, 0)),
    st.just(Grid(0.5, 511)),
    st.sets(st.integers(-2048, 2048), min_size=1, max_size=12).map(
        lambda levels: FreeLevels(tuple(level / 32 for level in sorted(levels)))
    ),
    st.just(FreeLevels((-65504.0, -(2.0**-24), 0.0, 2.0**-24, 65504.0))),
)


def numbers(channels: int, lowest: int) -> st.SearchStrategy[tuple[float, ...]]:
    number = st.integers(lowest, 2**14 - 1).map(lambda digits: digits / 10**4)
    return st.tuples(*[number] * channels)


@st.composite
def statements(draw: st.DrawFn) -> tuple[Message, Task]:
    """Draw a message about a task; each field of its header may have its default."""
    task = draw(st.sampled_from(TASKS))
    model = draw(st.none() | st.sampled_from([*catalogue.MODELS, *([task.brought.name] if task.brought else ())]))
    width = task.model(model or complete({}, task).model_name).width
    codebook: Codebook = draw(CODEBOOKS)
    symbols = draw(st.lists(st.integers(0, codebook.size - 1), max_size=60))
    values: dict[str, st.SearchStrategy[Any]] = {
        "base_width": st.none() if width is None else st.integers(1, 4096),
        "intrinsic_mode": st.sampled_from(list(catalogue.PROJECTORS)),
        "seed": st.one_of(st.integers(130, 145), st.integers(0, 2**63 - 1)),
        "calibration_examples": st.integers(0, task.train_examples),
        "normalisation": st.just("calibration") | st.tuples(numbers(task.channels, 0), numbers(task.channels, 1)),
        "label_noise": st.integers(0, 10**4).map(lambda digits: digits / 10**4),
        "image_size": st.integers(1, 10**4),
        "freeze": st.text(max_size=50),
        "lora_rank": st.integers(0, 10**4),
        "view": st.sampled_from(list(catalogue.VIEWS)),
    }
    given = {name: draw(st.none() | value) for name, value in values.items()}
    configuration = complete(given | {"model_name": model, "intrinsic_dim": len(symbols)}, task)
    return Message(configuration, codebook if symbols else None, np.array(symbols, dtype=np.int64)), task


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def read(data: bytes, task: Task, most: int = 10_000) -> tuple[dict[str, Any], list[float], int]:
    """Return the header, the coordinates and the length of a message according to the reference decoder."""
    message = REFERENCE.Message(data, as_json(task.as_dict()))
    header = message.header()
    REFERENCE.require(header["intrinsic_dim"] <= most, "too many")
    levels = message.codebook() if header["intrinsic_dim"] else []
    symbols = message.symbols(header["intrinsic_dim"], len(levels)) if levels else []
    rest = message.bits[message.position :]
    REFERENCE.require(len(rest) < 8 and not any(rest), "something follows")
    return header, [levels[symbol] for symbol in symbols], message.position


def expected(message: Message, bits: int) -> tuple[dict[str, Any], list[float], int]:
    return as_json(message.configuration.as_dict()), message.coordinates().tolist(), bits


@given(statements())
def test_every_message_is_read(statement: tuple[Message, Task]) -> None:
    message, task = statement
    encoded = encode(message, task)
    assert read(encoded.data, task) == expected(message, encoded.bits)


GOLDEN = [
    (TASKS[0], "662cd6001675aefafdc9b0d300", 97),
    (TASKS[0], "640996ae431a1ca0fa3c41002efbe0", 115),
    (TASKS[4], "93800680", 25),
    (TASKS[0], "6628a146cc09ed05d0ea4ceff3ce8c21d74de0ba80", 161),
    (TASKS[0], "71009a4c80", 33),
]
"""The golden messages of test_message.py: both forms of codebooks, a default d, a normalisation, and d = 0."""


@pytest.mark.parametrize(("task", "coded", "bits"), GOLDEN)
def test_golden_messages(task: Task, coded: str, bits: int) -> None:
    data = bytes.fromhex(coded)
    assert read(data, task) == expected(decode(data, task)[0], bits)


def test_the_tables_of_the_page_are_those_that_are_frozen() -> None:
    frozen = json.loads((Path(__file__).parent / "golden" / f"format-{fm.FORMAT}.json").read_text())
    tables, plain = frozen["tables"], REFERENCE.TABLES
    for name, key in (("projectors", "intrinsic_mode"), ("views", "view"), ("hypotheses", "hypothesis")):
        assert plain[key][: len(tables[name])] == tables[name]
    rows = [[name, int(width) if width else None, star == "*"] for name, width, star in REFERENCE.NETWORKS]
    assert rows[: len(tables["networks"])] == tables["networks"]
    assert plain["fields"] == tables["fields"]
    assert frozen["constants"]["round_dims"] == REFERENCE.ROUND
    networks = {name: row.rstrip("*") for name, row in REFERENCE.DATASETS.items()}
    assert networks | frozen["dataset_networks"] == networks


def outcome(reader: Callable[[], Any]) -> Any:
    """Return what a reader returns, or None if the bits are not a message."""
    try:
        return reader()
    except (DecodeError, ValueError, LookupError, OverflowError):
        return None


def agree(data: bytes, task: Task) -> bool:
    """Check that both programs read the same from some bits; return True if these are a message."""
    known = outcome(lambda: decode(data, task, 10_000))
    found = outcome(lambda: read(data, task))
    assert found == (None if known is None else expected(known[0], known[1].bits)), data.hex()
    return found is not None


@given(statements(), st.data())
def test_both_accept_the_same_of_messages_with_a_bit_flipped(
    statement: tuple[Message, Task], data: st.DataObject
) -> None:
    message, task = statement
    coded = bytearray(encode(message, task).data)
    place = data.draw(st.integers(0, 8 * len(coded) - 1))
    coded[place // 8] ^= 128 >> place % 8
    agree(bytes(coded), task)


@given(st.binary(max_size=24), st.sampled_from(TASKS))
@settings(max_examples=300)
@example(b"", TASKS[0])
@example(b"\x80", TASKS[1])
@example(bytes([0b01101101, 0b10000000]), TASKS[0])  # d = 4 in a roundabout way
def test_both_accept_the_same_bits(data: bytes, task: Task) -> None:
    agree(data, task)


def test_both_accept_the_same_of_all_short_messages() -> None:
    accepted = [agree(number.to_bytes(2), task) for task in TASKS[:3] for number in range(0, 1 << 16, 31)]
    assert 30 < sum(accepted) < len(accepted) / 2


# --- The bound --------------------------------------------------------------------------------------------------------

CASES = [
    (n, errors, bits, delta)
    for n, counts in ((1, (0, 1)), (37, (0, 1, 18, 36, 37)), (1437, (0, 3, 833, 1436)))
    for errors in counts
    for bits in (0, 1, 0.25, 150, 151.7, 4000)
    for delta in (0.5, 0.05, 1e-12)
]


@pytest.mark.parametrize("case", [*CASES, (60_000, 3012, 3854, 0.05), (60_000, 59_000, 17.3, 1e-3)], ids=str)
def test_the_programs_bound_is_accepted_and_no_other(case: tuple[int, int, float, float]) -> None:
    n, errors, bits, delta = case
    bound = binomial_bound(errors=errors, examples=n, bits=bits, delta=delta)
    exact = Fraction(bits)
    REFERENCE.require_bound(bound, errors, n, exact, delta)
    for wrong in (bound * (1 - 2e-12), min(bound * (1 + 3e-9), nextafter(1, 0)), 1.0):
        if (wrong < bound and bound < 1) or bound * (1 + 2e-9) < wrong:
            with pytest.raises(ValueError, match="a bound"):
                REFERENCE.require_bound(wrong, errors, n, exact, delta)


def test_a_large_sample_takes_seconds() -> None:
    start = process_time()
    bound = binomial_bound(errors=30_000, examples=60_000, bits=8000, delta=0.05)
    REFERENCE.require_bound(bound, 30_000, 60_000, 8000, 0.05)
    assert process_time() - start < 5
