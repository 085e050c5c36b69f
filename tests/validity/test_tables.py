"""The encoding and the scale of a table do not depend on S, because the message does not pay for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pactl_cli.data.splits import permuted_indices
from pactl_cli.errors import PactlError
from pactl_cli.problem.display import Silence
from pactl_cli.problem.loading import Request, load_problem
from pactl_cli.problem.problem import Problem
from pactl_cli.runs.settings import BoundSettings, TrainSettings
from pactl_cli.stages.bound import bound
from pactl_cli.stages.train import Destination, train

ROWS = 200


def problem(directory: Path, changed: int | None = None, value: str = "") -> Problem:
    """Return the problem of a table, in which one row may have another number and another town."""
    random = np.random.default_rng(0)
    towns = random.choice(["Bonn", "Ulm", "Trier"], ROWS)
    lines = [f"{random.normal():.4f},{town},{place % 2}" for place, town in enumerate(towns)]
    if changed is not None:
        lines[changed] = f"{value},{changed % 2}"
    (directory / "x.csv").write_text("\n".join(["x,town,y", *lines]))
    settings = TrainSettings(dataset=f"csv:{directory / 'x.csv'}", label="y", missing="constant")
    return load_problem(Request(settings, torch.device("cpu"), Silence()))


def rows(found: Problem) -> NDArray[np.float32]:
    inputs = found.dataset.train.resident().inputs
    assert isinstance(inputs, torch.Tensor)
    return inputs.numpy()


@pytest.mark.parametrize("value", ["-1e30,Bonn", ",Kiel", "0,", "1e-30,Ulm"])
@pytest.mark.parametrize("seed", range(3))
def test_no_value_of_s_changes_another_rows_numbers_or_their_scale(tmp_path: Path, value: str, seed: int) -> None:
    before = problem(tmp_path)
    changed = int(np.random.default_rng(seed).choice(before.partition.bound))
    after = problem(tmp_path, changed, value)
    assert np.delete(rows(after), changed, 0).tobytes() == np.delete(rows(before), changed, 0).tobytes()
    assert rows(after)[changed].tolist() != rows(before)[changed].tolist()
    assert after.blueprint.statistics == before.blueprint.statistics
    assert after.blueprint.encoding == before.blueprint.encoding
    assert after.configuration == before.configuration
    assert after.population() != before.population()


def test_a_calibration_example_does_change_them(tmp_path: Path) -> None:
    before = problem(tmp_path)
    changed = int(before.partition.calibration[0])
    after = problem(tmp_path, changed, "9,Kiel")
    assert after.blueprint.statistics != before.blueprint.statistics
    assert after.blueprint.encoding != before.blueprint.encoding


def test_every_seed_takes_its_own_examples_out_and_is_comparable(tmp_path: Path) -> None:
    first = problem(tmp_path)
    request = Request(first.settings.model_copy(update={"seed": 138}), torch.device("cpu"), Silence())
    second = load_problem(request)
    assert set(first.partition.bound) != set(second.partition.bound)
    assert not set(second.partition.bound) & set(second.partition.calibration)
    assert first.population() == second.population()


def numbers_in_order(place: Path, order: str) -> dict[str, Any]:
    """Write a table with its columns in some order, always under the same name."""
    columns = {name: np.random.default_rng(ord(name)).normal(size=ROWS).round(3) for name in "abc"}
    rows = zip(*(columns[name] for name in order), np.arange(ROWS) % 2, strict=True)
    (place / "x.csv").write_text("\n".join([",".join([*order, "y"]), *(",".join(map(str, row)) for row in rows)]))
    return {"dataset": f"csv:{place / 'x.csv'}", "label": "y"}


def rows_with_a_one(place: Path, classes: str) -> dict[str, Any]:
    """Write arrays with one-hot labels for a number of classes, of which two occur."""
    inputs = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
    np.savez(place / "x.npz", x_train=inputs, y_train=np.eye(int(classes), dtype=np.int64)[np.arange(ROWS) % 2])
    return {"dataset": f"npz:{place / 'x.npz'}"}


def tokens(place: Path, greatest: str) -> dict[str, Any]:
    """Write sequences of tokens, with the greatest token in a sequence that is not used."""
    inputs = np.random.default_rng(0).integers(1, 9, size=(ROWS, 3))
    inputs[permuted_indices(ROWS)[-1]] = int(greatest)
    np.savez(place / "x.npz", x_train=inputs, y_train=np.arange(ROWS) % 2)
    return {"dataset": f"npz:{place / 'x.npz'}", "train_subset": 0.5}


@pytest.mark.usefixtures("_no_fsync")
@pytest.mark.parametrize(
    ("make", "one", "other"), [(numbers_in_order, "abc", "cab"), (rows_with_a_one, "2", "5"), (tokens, "9", "20")]
)
def test_what_fingerprints_leave_open_is_not_chosen_for_nothing(
    tmp_path: Path, make: Callable[[Path, str], dict[str, Any]], one: str, other: str
) -> None:
    """The order of columns, and unused classes or tokens, change all random weights."""
    runs = []
    for name, choice in (("first", one), ("again", one), ("other", other)):
        (tmp_path / name).mkdir()
        settings = {**make(tmp_path / name, choice), "intrinsic_dim": 2, "epochs": 1, "device": "cpu"}
        runs.append(tmp_path / name / "run")
        train(TrainSettings.parse(settings), Destination(runs[-1]), Silence())
    quick = BoundSettings(quant_epochs=0, device="cpu")
    assert len(bound(runs[:2], quick, Silence())) == 2
    with pytest.raises(PactlError, match="which their messages do not encode"):
        bound(runs[1:], quick, Silence())
