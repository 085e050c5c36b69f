"""`--dataset a,b`: several data sets of the same classes make one source."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pactl_cli.runs.checkpoint import load_tensors

Call = Callable[..., Any]

ALL = ("--intrinsic-dim", 0, "--epochs", 1, "--base-width", 8)


def write(name: str, count: int, side: int, seed: int, classes: int = 3, channels: int = 1) -> str:
    """Random images, as a data set for --dataset; without a test set if they are few."""
    random, parts = np.random.default_rng(seed), {"train": count} | ({"test": 20} if count > 50 else {})
    shape = (side, side) if channels == 1 else (side, side, channels)
    x = {f"x_{p}": random.integers(256, size=(n, *shape), dtype=np.uint8) for p, n in parts.items()}
    np.savez(name, **x, **{f"y_{p}": np.arange(n) % classes for p, n in parts.items()})  # type: ignore[arg-type]
    return f"npz:{name}"


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    """A few large images in colour, and more small grey ones."""
    return [write("few.npz", 40, 12, 1, channels=3), write("many.npz", 130, 8, 2)]


def test_a_source_of_both_has_seen_both(pactl: Call, sets: list[str]) -> None:
    done = pactl("train", "--dataset", ",".join(sets), *ALL, "--out", "source")
    assert done.code == 0, done
    assert done.err.count("is repeated 3 times") == 1
    [record] = [json.loads(line) for line in Path("source/metrics.jsonl").read_text().splitlines()]
    assert record["step"] == -(-250 // 128)
    for dataset in sets:
        assert "none left to count" in pactl("transfer", "source", "--dataset", dataset).complaint(2)
    other = write("other.npz", 60, 12, 3)
    assert (
        pactl("transfer", "source", "--dataset", other, "--epochs", 1, "--intrinsic-dim", 5, "--out", "run").code == 0
    )
    facts = json.loads(load_tensors(Path("run/init.safetensors"))[1]["start"])
    assert [each["dataset"] for each in facts["lineage"]] == ["npz:few.npz", "npz:many.npz"]
    assert facts["spec"]["tensors"]["inputs"]["shape"] == [3, 12, 12]
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0
    assert pactl("verify", "run").code == 0


def test_a_share_of_both_has_seen_that_share(pactl: Call, sets: list[str]) -> None:
    share = ("--train-subset", 0.3, "--image-size", 8)
    assert pactl("train", "--dataset", ",".join(sets), *ALL, *share, "--out", "source").code == 0
    transfer = ("transfer", "source", "--dataset", sets[1], "--epochs", 1, "--intrinsic-dim", 5, "--out", "run")
    assert pactl(*transfer).code == 0
    with np.load("source/indices.npz") as parts:
        seen = parts["bound"][parts["bound"] >= 120] - 120
    with np.load("run/indices.npz") as parts:
        assert parts["excluded"].tolist() == sorted(seen)


def test_the_places_of_both_can_be_told_anew(pactl: Call, sets: list[str]) -> None:
    assert pactl("train", "--dataset", ",".join(sets), *ALL, "--out", "source").code == 0
    Path("few.npz").rename("moved.npz")
    transfer = ("transfer", "source", "--dataset", write("other.npz", 60, 12, 3), "--epochs", 1, "--intrinsic-dim", 5)
    assert "few.npz" in pactl(*transfer).complaint(2)
    assert "2 data sets" in pactl(*transfer, "--source-dataset", "npz:moved.npz").complaint(2)
    assert pactl(*transfer, "--source-dataset", f"npz:moved.npz,{sets[1]}").code == 0


def test_an_interrupted_one_goes_on(pactl: Call, sets: list[str]) -> None:
    run = ("train", "--dataset", ",".join(sets), *ALL, "--out", "source")
    assert pactl(*run).code == 0
    assert pactl(*run, "--resume").err == ""


def test_the_programs_own_and_ones_own(pactl: Call) -> None:
    assert pactl("train", "--dataset", f"digits,{write('ten.npz', 100, 9, 1, 10)}", *ALL, "--out", "source").code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("train", "--dataset", "digits,mnist"), "--intrinsic-dim 0"),
        (("train", "--dataset", "digits,mnist", "--intrinsic-dim", 5), "--intrinsic-dim 0"),
        (("prior", "--dataset", "digits,mnist"), "make a source"),
        (("transfer", "source", "--dataset", "digits,mnist", "--intrinsic-dim", 0), "make a source"),
        (("permute", "--dataset", "digits,mnist"), "one data set"),
        (("train", "--dataset", "digits,mnits", "--intrinsic-dim", 0), "did you mean mnist"),
        (("train", "--dataset", "npz:a.npz,digits", "--intrinsic-dim", 0), "a.npz"),
        (("train", "--dataset", "npz:five.npz,digits", "--intrinsic-dim", 0), "classes differ"),
        (("train", "--dataset", "npz:rows.npz,digits", "--intrinsic-dim", 0), "join images"),
        (("train", "--dataset", "digits,digits28", "--channels", "last", "--intrinsic-dim", 0), "no meaning"),
    ],
)
def test_what_is_not_joined(pactl: Call, arguments: tuple[object, ...], says: str) -> None:
    write("five.npz", 60, 8, 1, 5)
    np.savez("rows.npz", x_train=np.random.default_rng(0).normal(size=(60, 7)), y_train=np.arange(60) % 10)
    assert says in pactl(*arguments).complaint(2)


def test_a_comma_in_a_path_is_a_comma(pactl: Call) -> None:
    dataset = write("a,b.npz", 60, 8, 1)
    assert pactl("train", "--dataset", dataset, "--epochs", 1, "--intrinsic-dim", 5, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0


@pytest.mark.parametrize("many", ["digits,digits", ",".join(f"npz:{number}.npz" for number in range(17))])
def test_a_name_does_not_decide_how_much_is_read(pactl: Call, certified: Path, agree: Call, many: str) -> None:
    """A few letters for each copy of a data set: a run of a stranger could fill the memory with them."""
    assert "at most 16" in pactl("train", "--dataset", many, *ALL).complaint(2)
    settings = yaml.safe_load((certified / "config.yml").read_text()) | {"dataset": many, "intrinsic_dim": 0}
    agree(certified, "config.yml", yaml.safe_dump(settings))
    assert "at most 16" in pactl("verify", certified).complaint(1)
    assert "at most 16" in pactl("transfer", certified, "--dataset", "digits").complaint(2)
