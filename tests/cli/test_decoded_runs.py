"""The decoder of another hand: it accepts certificates of every kind, and none that was altered."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from random import Random
from runpy import run_path
from typing import Any

import numpy as np
import pytest

from pactl_cli.certificate.codes import DecodeError
from pactl_cli.certificate.format import FORMAT
from pactl_cli.certificate.message import decode
from pactl_cli.certificate.task import Task

Call = Callable[..., Any]
Document = dict[str, Any]

SCRIPT = Path(__file__).parents[2] / "docs" / "reference_decoder.py"
GOLDEN = Path(__file__).parent / "golden" / f"format-{FORMAT}"
CHECK: Callable[[Path], int] = run_path(str(SCRIPT))["main"]


def document(run: Path) -> Document:
    content: Document = json.loads((run / "bound.json").read_text())
    return content


def rewrite(run: Path, said: Document) -> Path:
    (run / "bound.json").write_text(json.dumps(said))
    return run


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy of the run that is kept."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


# --- Every kind of run ------------------------------------------------------------------------------------------------


def test_it_runs_alone_and_says_what_the_message_says(golden: Path) -> None:
    words = [sys.executable, "-I", "-X", "importtime", str(SCRIPT), str(golden)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "numpy" in done.stderr
    assert not [name for name in ("pactl", "torch", "scipy", "yaml") if name in done.stderr]
    said = document(golden)
    assert f"{said['errors']} errors" in done.stdout
    assert json.dumps(said["configuration"]) in done.stdout
    message, _ = decode((golden / "message.bin").read_bytes(), Task.from_dict(said["side_information"]["task"]))
    first = " ".join(f"{value:g}" for value in message.coordinates().tolist()[:8])
    assert f"20 coordinates, the first: {first}\n" in done.stdout


def test_it_says_in_a_line_what_is_wrong(golden: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bits = document(golden)["message_bits"]
    rewrite(golden, document(golden) | {"message_bits": bits - 1})
    assert CHECK(golden) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"{golden}: ValueError: bound.json says message_bits is {bits - 1}, not {bits}\n"
    assert CHECK(golden / "absent") == 1
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_key_that_it_does_not_know_is_listed(golden: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rewrite(golden, document(golden) | {"statistics_sha256": "0" * 64})
    assert CHECK(golden) == 0
    assert " statistics_sha256 " in capfd.readouterr().out


TRAIN = ("train", "--epochs", 2)
AGAIN = ("--source", "{trained}", "--prior-epochs", 0)
RUNS: list[tuple[tuple[object, ...], tuple[object, ...]]] = [
    (TRAIN, ("--codebook", "kmeans", "--levels", "auto", "--delta", ".1,.05,1e-9", "--misc-extra-bits", 3.7)),
    (("prior", "--prior-epochs", 2, "--epochs", 1, "--intrinsic-dim", 5, "--model-name", "convnet"), ("--delta", 0.5)),
    (("prior", "--prior-epochs", 2, "--intrinsic-dim", 0), ()),
    ((*TRAIN, "--freeze", "^1", "--label-noise", 0.1234, "--image-size", 9, "--seed", 5, "--intrinsic-dim", 7), ()),
    ((*TRAIN, "--model-name", "convnet", "--calibration-examples", 20), ()),
    ((*TRAIN, "--normalise", "calibration"), ("--codebook", "bins", "--compare-posthoc")),
    ((*TRAIN, "--lora-rank", 2, "--augment", "crop"), ()),
    ((*TRAIN, "--intrinsic-mode", "head", "--train-subset", -0.4, "--duplicates", "drop"), ()),
    ((*TRAIN, "--intrinsic-mode", "film", "--intrinsic-dim", 1), ("--levels", 2, "--no-use-kmeans")),
    (("transfer", "{trained}", "--epochs", 1, "--intrinsic-dim", 12, "--train-subset", -0.9), ()),
    (("transfer", "{trained}", "--intrinsic-dim", 0, "--train-subset", -0.9, "--image-size", 8), ()),
    (("prior", *AGAIN, "--epochs", 1, "--train-subset", 0.91), ()),
]
SLOW = pytest.mark.slow
QUICK = 4
"""How many of them are made by default."""


@pytest.mark.parametrize(
    ("words", "how"), [*RUNS[:QUICK], *(pytest.param(*run, marks=SLOW) for run in RUNS[QUICK:])], ids=str
)
def test_it_accepts(pactl: Call, trained: Path, npz: Path, words: tuple[object, ...], how: tuple[object, ...]) -> None:
    named = [str(trained) if word == "{trained}" else word for word in words]
    assert pactl(*named, "--dataset", f"npz:{npz}", "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 1, *how).code == 0
    assert CHECK(Path("run")) == 0


def test_it_accepts_a_run_of_a_part_of_the_data(certified: Path) -> None:
    assert CHECK(certified) == 0


def table(path: Path) -> str:
    """A table of two numbers and a category."""
    random = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["a", "b", "c", "kind"])
        for number in range(200):
            rows.writerow([*random.random(2).round(3), random.choice(["x", "y"]), number % 2])
    return f"csv:{path}"


def texts(path: Path) -> str:
    """Short texts of two kinds."""
    for number in range(120):
        file = path / "train" / ("long", "short")[number % 2] / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{number} " + "word " * (number % 2 + 1))
    return f"folder:{path}"


@SLOW
@pytest.mark.parametrize("write", [table, texts])
def test_it_accepts_tables_and_texts(pactl: Call, tmp_path: Path, write: Callable[[Path], str]) -> None:
    dataset = write(tmp_path / "my data")
    label = ("--label", "kind") if write is table else ()
    for words in (("train", "--epochs", 1), ("prior", "--prior-epochs", 1, "--epochs", 1)):
        assert pactl(*words, "--dataset", dataset, *label, "--out", "run", "--force").code == 0
        assert pactl("bound", "run", "--quant-epochs", 1).code == 0
        assert CHECK(Path("run")) == 0


# --- Altered certificates ---------------------------------------------------------------------------------------------

Path_ = tuple[Any, ...]
_SIDE = ("train_examples", "excluded_examples", "copies_left_out")
_NOT_CHECKED = ("program_version", "made_with", "assumptions", "data_sha256", "train_nll_bits", "published", "posthoc")


def leaves(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The way to every value that holds no others."""
    if not isinstance(value, dict | list) or not value:
        yield path
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(item, (*path, key))


def is_checkable(path: Path_) -> bool:
    """Whether the decoder promises to notice another value."""
    match path:
        case ("side_information", "task", name):
            return name in ("dataset", "train_examples", "inputs")
        case ("side_information", *rest):
            return rest[0] in _SIDE or rest == ["inputs", "kind"]
        case ("bounds", name):
            return name == "binomial"
    return path[0] not in _NOT_CHECKED


def other(value: Any, random: Random) -> Any:
    """Another value of the same type, or of another."""
    match value:
        case bool():
            return not value
        case int():
            return random.choice([value + 1, value - 1, value + random.randint(2, 999), float(value), str(value)])
        case float():
            return random.choice([value * (1 + 1e-6) + 1e-9, value * (1 - 1e-6) - 1e-9, random.random(), 2.0, None])
        case str():
            place = random.randrange(len(value) or 1)
            return value[:place] + chr((ord(value[place : place + 1] or "a") + 1) % 128) + value[place + 1 :]
        case None:
            return random.choice([0, 0.5, "x", False, []])
    return [{}]


def altered(said: Document, random: Random) -> tuple[Path_, Document]:
    """A certificate in which something that can be checked is another, or absent."""
    path = random.choice([path for path in leaves(said) if is_checkable(path)])
    changed = deepcopy(said)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    if random.random() < 0.1 and isinstance(place, dict):
        del place[path[-1]]
    else:
        place[path[-1]] = other(place[path[-1]], random)
    return path, changed


@pytest.mark.parametrize("seed", range(3))
def test_two_hundred_alterations_of_the_certificate_are_refused(golden: Path, seed: int) -> None:
    random, said = Random(seed), document(golden)
    for _ in range(200):
        path, changed = altered(said, random)
        if json.dumps(changed) != json.dumps(said):
            assert CHECK(rewrite(golden, changed)) == 1, (path, changed)


def test_alterations_of_a_hold_out_certificate_at_several_deltas_are_refused(pactl: Call, npz: Path) -> None:
    words = ("--dataset", f"npz:{npz}", "--prior-epochs", 1, "--intrinsic-dim", 0, "--out", "run")
    assert pactl("prior", *words).code == 0
    assert pactl("bound", "run", "--delta", ".05,.01", "--misc-extra-bits", 2).code == 0
    run, random = Path("run"), Random(0)
    said = document(run)
    assert CHECK(run) == 0
    for _ in range(200):
        path, changed = altered(said, random)
        assert json.dumps(changed) == json.dumps(said) or CHECK(rewrite(run, changed)) == 1, (path, changed)
    forged = deepcopy(said)
    forged["ledger_bits"], forged["bits"]["ledger"] = -2.0, -2.0
    forged["ledger"][0]["bits"] = -2.0
    assert CHECK(rewrite(run, forged)) == 1


def test_a_key_that_stands_twice_is_refused(golden: Path) -> None:
    text, errors = (golden / "bound.json").read_text(), f'"errors": {document(golden)["errors"]}'
    assert CHECK(golden) == 0
    assert errors in text
    (golden / "bound.json").write_text(text.replace(errors, f'"errors": 3, {errors}'))
    assert CHECK(golden) == 1


@pytest.mark.parametrize("content", ["", "[]", "null", "{}", "[" * 10_000, '{"errors": NaN}', "\ufeff{}"])
def test_what_is_no_certificate_is_refused(golden: Path, content: str) -> None:
    (golden / "bound.json").write_text(content)
    assert CHECK(golden) == 1


# --- Altered messages -------------------------------------------------------------------------------------------------


def flipped(data: bytes, place: int) -> bytes:
    coded = bytearray(data)
    coded[place // 8] ^= 128 >> place % 8
    return bytes(coded)


def test_every_alteration_of_the_message_is_refused(golden: Path) -> None:
    data = (golden / "message.bin").read_bytes()
    random = Random(0)
    wrong = [flipped(data, place) for place in range(8 * len(data))] + [data[:-1], data + b"\0", b""]
    wrong += [random.randbytes(len(data)) for _ in range(100)]
    for content in wrong:
        (golden / "message.bin").write_bytes(content)
        assert CHECK(golden) == 1


def test_with_its_hash_altered_too_only_another_message_of_that_length_passes(
    golden: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another symbol or step is another classifier: that it makes more errors, only the data can tell."""
    data, said = (golden / "message.bin").read_bytes(), document(golden)
    task = Task.from_dict(said["side_information"]["task"])
    known = decode(data, task)[0]
    passed = []
    for place in range(8 * len(data)):
        content = flipped(data, place)
        (golden / "message.bin").write_bytes(content)
        rewrite(golden, said | {"message_sha256": sha256(content).hexdigest()})
        try:
            message, encoded = decode(content, task)
            is_consistent = message.configuration == known.configuration and encoded.bits == said["message_bits"]
            is_consistent &= said["levels"] == (message.codebook.size if message.codebook else 0)
        except DecodeError:
            is_consistent = False
        assert (CHECK(golden) == 0) == is_consistent
        passed += [place] if is_consistent else []
        if is_consistent:
            assert message.coordinates().tolist() != known.coordinates().tolist()
            first = " ".join(f"{value:g}" for value in message.coordinates().tolist()[:8])
            assert f"the first: {first}\n" in capfd.readouterr().out
    assert min(passed) >= said["bits"]["configuration"]
    assert max(passed) < said["message_bits"]
    assert len(passed) < 8 * len(data) / 2
