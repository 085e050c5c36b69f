"""A table from its file to a certificate, and every way in which something of S could have come into it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_breast_cancer

Call = Callable[..., Any]

TABLE = ("--label", "y", "--epochs", 30, "--batch-size", 32)
DIFFERS, SIXTH, FORM = 1, 5, 1
"""Bits: something differs from the default; the sixth field, in Elias gamma; whether calibration says it."""
FIXED_BITS = DIFFERS + SIXTH + FORM + 2 * 14
"""Two constants of four digits."""


def write(path: str, count: int = 300, seed: int = 0, town: str = "Bonn Ulm Trier", names: str = "a,b,town,y") -> str:
    """Write rows of which two numbers on unlike scales, and a town, say the class; every seventh lacks a number."""
    random = np.random.default_rng(seed)
    towns = town.split()
    with Path(path).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(names.split(","))
        for place in range(count):
            label, one = place % 2, random.integers(len(towns))
            a = "" if place % 7 == 3 else f"{1e4 * (label + random.normal() / 4):.3f}"
            rows.writerow([a, f"{random.normal() + label:.3f}", towns[one], ("no", "yes")[label]])
    return f"csv:{path}"


@pytest.fixture
def train(pactl: Call) -> Call:
    def run(*options: object, command: str = "train", out: str = "run") -> Any:
        return pactl(command, "--missing", "constant", *TABLE, *options, "--out", out)

    return run


def refusal(outcome: Any) -> str:
    """Return the line that ends a command, after what is said of the columns."""
    assert (outcome.code, outcome.out) == (2, ""), outcome
    *notes, line = outcome.err.splitlines()
    assert all(note.startswith("pactl: note: ") for note in notes)
    return str(line)


def bound(pactl: Call, *runs: str) -> Any:
    return pactl("bound", *runs, "--quant-epochs", 3, "--json")


def test_a_table_is_certified_and_verified(pactl: Call, train: Call) -> None:
    trained = train("--dataset", write("people.csv", 600))
    assert trained.code == 0, trained.err
    assert "its columns are 2 of numbers, 1 of categories (town)" in trained.err
    certificate = bound(pactl, "run").json()
    assert certificate["error_bound"] < 0.35
    assert certificate["bits"]["configuration"] == 1
    assert certificate["bound_examples"] == 540
    assert certificate["configuration"]["normalisation"] == "calibration"
    information = certificate["side_information"]
    assert information["class_names"] == ["no", "yes"]
    assert information["inputs"]["tensors"]["inputs"]["shape"] == [2 * 2 + 3]
    assert any("names of the table's columns" in sentence for sentence in certificate["assumptions"])
    assert pactl("verify", "run").code == 0
    kept = yaml.safe_load(Path("run/config.yml").read_text())
    assert (kept["normalise"], kept["categories"], kept["calibration_examples"]) == ("calibration", None, 60)
    write("moved.csv", 600)
    assert pactl("verify", "run", "--dataset", "csv:moved.csv").code == 0
    write("moved.csv", 600, names="a,c,town,y")
    assert "its training set differs" in pactl("verify", "run", "--dataset", "csv:moved.csv").err


def test_fixed_constants_are_paid_for_and_categories_need_a_list_or_examples(pactl: Call, train: Call) -> None:
    data = write("people.csv")
    complaint = refusal(train("--dataset", data, "--normalise", "fixed"))
    assert 'the categories of column "town" are those of calibration examples, and there are none' in complaint
    Path("towns.yml").write_text("town: [Ulm, Bonn]")
    fixed = ("--dataset", data, "--categories", "towns.yml")
    assert train(*fixed, "--normalise", "fixed").code == 0
    certificate = bound(pactl, "run").json()
    assert certificate["bits"]["configuration"] == 1 + FIXED_BITS
    assert certificate["side_information"]["inputs"]["tensors"]["inputs"]["shape"] == [2 * 2 + 2]
    assert certificate["bound_examples"] == 300
    assert pactl("verify", "run").code == 0
    kept = yaml.safe_load(Path("run/config.yml").read_text())
    assert kept["categories"] == {"town": ["Ulm", "Bonn"]}
    assert train(*fixed, out="other").code == 0
    assert bound(pactl, "run", "other").code == 0  # which examples are for calibration, a message says
    assert train("--dataset", data, out="third").code == 0
    complaint = refusal(bound(pactl, "other", "third"))
    assert "which their messages do not encode" in complaint


def test_runs_that_write_rows_otherwise_are_not_compared(pactl: Call) -> None:
    Path("x.csv").write_text("x,y\n" + "".join(f"{place},{place % 2}\n" for place in range(100)))
    for missing in ("refuse", "constant"):
        options = ("--dataset", "csv:x.csv", *TABLE, "--intrinsic-dim", 5, "--missing", missing)
        assert pactl("train", *options, "--out", missing).code == 0
    assert "which their messages do not encode" in refusal(bound(pactl, "refuse", "constant"))


def test_a_narrow_table_has_no_more_dimensions_than_its_network_weights(pactl: Call) -> None:
    Path("x.csv").write_text("x,y\n" + "".join(f"{place % 50},{place % 50 // 25}\n" for place in range(500)))
    options = ("--dataset", "csv:x.csv", "--label", "y", "--epochs", 30, "--base-width", 2)
    assert pactl("train", *options, "--out", "run").code == 0
    certificate = bound(pactl, "run").json()
    assert certificate["intrinsic_dim"] == 10  # of 12 weights; one for ten examples would be 50
    assert pactl("verify", "run").code == 0
    assert "trained, which is 12 (" in pactl("train", *options, "--intrinsic-dim", 50, "--out", "no").err


def test_a_config_file_holds_a_mapping_and_the_option_a_file(pactl: Call, train: Call) -> None:
    data = write("people.csv")
    Path("run.yml").write_text("categories: towns.yml")
    assert "--categories 'towns.yml'" in train("--dataset", data, "--config", "run.yml").complaint(2)
    Path("run.yml").write_text("categories: {town: [Ulm]}")
    assert train("--dataset", data, "--config", "run.yml").code == 0
    for content, says in (("town: Ulm", "does not hold lists"), ("[", "cannot be read"), ("- [a]", "does not hold")):
        Path("towns.yml").write_text(content)
        assert says in train("--dataset", data, "--categories", "towns.yml").complaint(2)
    assert "no such file" in train("--dataset", data, "--categories", "absent.yml").complaint(2).lower()


def test_a_prior_calibrates_on_its_own_examples(pactl: Call, train: Call) -> None:
    trained = train("--dataset", write("people.csv", 400), "--prior-epochs", 20, command="prior")
    assert trained.code == 0, trained.err
    certificate = bound(pactl, "run").json()
    assert (certificate["bound_examples"], certificate["configuration"]["calibration_examples"]) == (200, 200)
    assert certificate["error_bound"] < 0.35
    assert pactl("verify", "run").code == 0


def test_a_transfer_writes_rows_as_its_source_did(pactl: Call, train: Call) -> None:
    assert train("--dataset", write("source.csv", 400, seed=1), out="source").code == 0
    target = ("--dataset", write("target.csv", seed=2, town="Bonn Trier Kiel"))
    moved = pactl("transfer", "source", "--missing", "constant", *TABLE, *target, "--out", "run")
    assert moved.code == 0, moved.err
    certificate = bound(pactl, "run").json()
    assert certificate["bound_examples"] == 300  # nothing is taken out: mean, deviation and towns are the source's
    assert certificate["bits"]["configuration"] == 1
    assert certificate["error_bound"] < 0.35
    assert pactl("verify", "run").code == 0
    told = ("--missing", "constant", *TABLE, *target, "--normalise", "calibration")
    assert pactl("transfer", "source", *told, "--out", "c").code == 0
    certificate = bound(pactl, "c").json()
    assert certificate["bits"]["configuration"] == 1 + DIFFERS + SIXTH + FORM
    assert certificate["bound_examples"] == 270


@pytest.mark.parametrize(
    ("names", "options", "says"),
    [
        ("b,a2,town,y", (), 'the column "a" is in one of the tables only'),
        ("a,b,town,y", ("--missing", "refuse"), 'column "a" has no value'),
        ("a,b,town,y", ("--categories", "towns.yml"), 'the categories of column "town" differ'),
    ],
)
def test_a_transfer_to_a_table_of_other_columns_is_refused(
    pactl: Call, train: Call, names: str, options: tuple[str, ...], says: str
) -> None:
    Path("towns.yml").write_text("town: [Kiel]")
    assert train("--dataset", write("source.csv", seed=1), out="source").code == 0
    target = write("target.csv", seed=2, names=names)
    told = ("--missing", "constant", *TABLE, "--dataset", target, *options)
    assert says in refusal(pactl("transfer", "source", *told, "--out", "run"))


def test_nothing_but_a_table_takes_up_a_table(pactl: Call, train: Call) -> None:
    assert train("--dataset", write("source.csv", seed=1), out="source").code == 0
    np.savez("x.npz", x_train=np.random.default_rng(0).normal(size=(200, 7)), y_train=np.arange(200) % 2)
    complaint = refusal(pactl("transfer", "source", "--dataset", "npz:x.npz", "--out", "run"))
    assert "only one of the two is a table" in complaint


def test_rows_that_a_source_has_seen_are_left_out(pactl: Call, train: Call) -> None:
    assert train("--dataset", write("source.csv", 200, seed=1), out="source").code == 0
    seen, new = Path("source.csv").read_text().splitlines(), Path(write("new.csv", 200, seed=2)[4:]).read_text()
    Path("both.csv").write_text(new + "\n".join(seen[1:51]))
    told = ("--missing", "constant", *TABLE, "--dataset", "csv:both.csv")
    assert pactl("transfer", "source", *told, "--out", "run").code == 0
    certificate = bound(pactl, "run").json()
    assert certificate["side_information"]["excluded_examples"] == 50


@pytest.mark.parametrize("data", ["digits", "npz:x.npz"])
def test_calibration_is_for_images_and_features_too(pactl: Call, data: str) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(400) % 2
    np.savez("x.npz", x_train=1e4 * (labels[:, None] + random.normal(size=(400, 5)) / 4), y_train=labels)
    told = ("--dataset", data, "--normalise", "calibration", "--epochs", 5, "--intrinsic-dim", 40)
    assert pactl("train", *told, "--out", "run").code == 0
    certificate = bound(pactl, "run").json()
    assert certificate["configuration"]["normalisation"] == "calibration"
    assert certificate["configuration"]["calibration_examples"] == {"digits": 143}.get(data, 40)
    assert pactl("verify", "run").code == 0


def test_calibration_is_refused_for_tokens(pactl: Call) -> None:
    np.savez("x.npz", x_train=np.arange(800).reshape(200, 4) % 9, y_train=np.arange(200) % 2)
    complaint = refusal(pactl("train", "--dataset", "npz:x.npz", "--normalise", "calibration", "--out", "run"))
    assert "sequences of 4 integers have no mean and standard deviation (use --normalise fixed)" in complaint


def test_too_few_rows_to_calibrate_are_refused(pactl: Call, train: Call) -> None:
    complaint = refusal(train("--dataset", write("people.csv", 19)))
    assert "--normalise calibration needs at least 2 calibration examples, and there are 1" in complaint


def test_rows_are_permuted_without_a_label(pactl: Call) -> None:
    assert pactl("permute", "--dataset", write("people.csv", 20), "--out", "order.npy").code == 0
    assert sorted(np.load("order.npy").tolist()) == list(range(20))


def test_a_label_has_no_meaning_for_images(pactl: Call) -> None:
    assert "--label y: it has no meaning for --dataset digits" in pactl("train", "--label", "y").complaint(2)


@pytest.mark.slow
def test_breast_cancer_by_its_defaults(pactl: Call) -> None:
    data = load_breast_cancer()
    with Path("cancer.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*data.feature_names, "diagnosis"])
        rows.writerows([*row, data.target_names[label]] for row, label in zip(data.data, data.target, strict=True))
    assert pactl("train", "--dataset", "csv:cancer.csv", "--label", "diagnosis", "--out", "run").code == 0
    certificate = json.loads(pactl("bound", "run", "--json").out)
    assert certificate["error_bound"] < 0.24
