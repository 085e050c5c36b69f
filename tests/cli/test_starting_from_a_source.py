"""`train --source` makes a better source, `prior --source` a better prior: what a source has seen is never counted."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from pactl_cli.runs.checkpoint import load_tensors

Call = Callable[..., Any]
Arrays = dict[str, np.ndarray[Any, Any]]

ALL = ("--intrinsic-dim", 0, "--epochs", 2, "--lr", 0.001)
PRIOR = ("--intrinsic-dim", 10, "--epochs", 1, "--prior-epochs", 2, "--lr", 0.001)


def written(name: str, arrays: Arrays, seed: int, side: int = 8) -> str:
    """Other images of the same form, as a data set for --dataset."""
    random = np.random.default_rng(seed)
    x = {key: random.integers(256, size=(len(a), side, side), dtype=np.uint8) for key, a in arrays.items()}
    np.savez(name, **{key: x[key] if key.startswith("x") else a for key, a in arrays.items()})  # type: ignore[arg-type]
    return f"npz:{name}"


@pytest.fixture
def sets(tmp_path: Path, arrays: Arrays) -> list[str]:
    """Three data sets without a common image."""
    return [written(f"{seed}.npz", arrays, seed) for seed in range(3)]


@pytest.fixture
def source(pactl: Call, sets: list[str]) -> str:
    """A run that has trained all its weights on the first of them."""
    assert pactl("train", "--dataset", sets[0], *ALL, "--base-width", 16, "--out", "source").code == 0
    return "source"


def weights(path: str, prefix: str = "") -> dict[str, torch.Tensor]:
    tensors, _ = load_tensors(Path(path))
    return {name: t for name, t in tensors.items() if name.startswith(prefix)}


def facts(run: str) -> dict[str, Any]:
    """What a run says of what it started from."""
    return dict(json.loads(load_tensors(Path(run, "init.safetensors"))[1]["start"]))


def test_a_better_source_remembers_all_that_it_has_seen(pactl: Call, source: str, sets: list[str]) -> None:
    better = ("train", "--source", source, "--dataset", sets[1], *ALL, "--train-subset", 0.5, "--out", "better")
    assert pactl(*better).code == 0
    shutil.rmtree(source)
    assert "none left to count" in pactl("transfer", "better", "--dataset", sets[0], "--epochs", 1).complaint(2)
    rest = ("transfer", "better", "--dataset", sets[1], "--epochs", 1, "--intrinsic-dim", 5, "--out", "rest")
    assert pactl(*rest).code == 0
    with np.load("rest/indices.npz") as parts:
        assert (len(parts["bound"]), len(parts["excluded"])) == (150, 150)
    assert [training["dataset"] for training in facts("rest")["lineage"]] == ["npz:1.npz", "npz:0.npz"]
    assert pactl("bound", "better").complaint(2).count("no message") == 1


def test_a_certificate_of_a_run_that_makes_a_source_is_not_believed(
    pactl: Call, source: str, sets: list[str], agree: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts what its source was trained on: a forger writes it with a program that has no scruples."""
    assert pactl("train", "--source", source, "--dataset", sets[0], *ALL, "--out", "forged").code == 0
    agree(Path("forged"), "checkpoint.safetensors", save({"w": torch.zeros(0)}))
    with monkeypatch.context() as forger:
        forger.setattr("pactl_cli.stages.bound._require_comparable", lambda paths, problems: None)
        assert pactl("bound", "forged").code == 0
    assert "makes a source" in pactl("verify", "forged").complaint(1)


def test_a_source_may_be_trained_again_on_its_own_data(pactl: Call, source: str, sets: list[str]) -> None:
    """Nothing is counted, so nothing is left out; it begins with the source's weights."""
    again = ("train", "--source", source, "--dataset", sets[0], *ALL[:2], "--epochs", 1, "--lr", 1e-9, "--out", "again")
    assert pactl(*again).code == 0
    assert not Path("again/indices.npz").exists()
    before, after = weights("source/checkpoint.safetensors"), weights("again/checkpoint.safetensors")
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("train", "--source", "source"), "pactl transfer source"),
        (("train", "--source", "source", "--intrinsic-dim", 5), "pactl transfer source"),
        (("train", "--weights", "w.pth"), "--source"),
        (("prior", "--head", "fc"), "--source"),
        (("prior", "--normalise", "source"), "--source"),
        (("prior", "--source", "absent"), "absent"),
        (("prior", "--source", "source", "--model-name", "lenet5"), "--model-name"),
    ],
)
def test_what_does_not_go_together(
    pactl: Call, source: str, sets: list[str], options: tuple[object, ...], says: str
) -> None:
    assert says in pactl(*options, "--dataset", sets[1], "--out", "run").complaint(2)
    assert not Path("run").exists()


# --- prior ------------------------------------------------------------------------------------------------------------


def mixed(sets: list[str], arrays: Arrays) -> str:
    """The second data set, the even ones of its first hundred images being the source's."""
    with np.load(sets[0].removeprefix("npz:")) as first, np.load(sets[1].removeprefix("npz:")) as second:
        both = dict(second)
        both["x_train"][:100:2] = first["x_train"][:100:2]
    np.savez("mixed.npz", **both)
    return "npz:mixed.npz"


def test_a_prior_from_a_source_counts_nothing_that_either_has_seen(
    pactl: Call, source: str, sets: list[str], arrays: Arrays
) -> None:
    dataset = mixed(sets, arrays)
    run = ("prior", "--source", source, "--dataset", dataset, *PRIOR, "--train-subset", 0.4, "--out", "run")
    assert pactl(*run).code == 0
    shutil.rmtree(source)
    document = pactl("bound", "run", "--quant-epochs", 1).json()
    with np.load("run/indices.npz") as file:
        parts = {name: set(values.tolist()) for name, values in file.items()}
    assert len(parts["prior"]) == 120, "what the source has seen counts in the prior's share, which nobody counts"
    shared = set(range(0, 100, 2))
    assert shared & parts["prior"]
    assert parts["excluded"] == shared - parts["prior"]
    assert not parts["bound"] & (shared | parts["prior"])
    assert document["side_information"]["excluded_examples"] == len(parts["excluded"])
    said = " ".join(document["assumptions"])
    assert 'what the run calls "source"' in said
    assert "examples of the prior and what the prior started from saw" in said
    assert document["bits"]["configuration"] < 20
    assert pactl("verify", "run").code == 0
    complaint = pactl("transfer", "run", "--dataset", sets[0], "--epochs", 1).complaint(2)
    assert "none left to count" in complaint, "whoever starts from the prior starts from its source too"


def test_a_prior_draws_another_head_and_its_own_batch_statistics(pactl: Call, sets: list[str]) -> None:
    """With d = 0 too: a source with other classes guesses, the prior of it is trained."""
    sample = np.load(sets[0].removeprefix("npz:"))
    few = sample["y_train"] < 3
    np.savez("three.npz", x_train=sample["x_train"][few], y_train=sample["y_train"][few])
    net = ("--model-name", "convnet", "--base-width", 2)
    assert pactl("train", "--dataset", "npz:three.npz", *ALL, *net, "--out", "other").code == 0
    prior = ("prior", "--source", "other", "--dataset", sets[1], "--intrinsic-dim", 0, "--prior-epochs", 1)
    assert pactl(*prior, "--out", "prior").code == 0
    found = pactl("bound", "prior").json()
    assert found["bits"]["configuration"] == 1
    assert found["configuration"]["calibration_examples"] == len(np.load("prior/indices.npz")["prior"])
    assert pactl("verify", "prior").code == 0


@pytest.mark.parametrize("dim", [0, 10])
def test_a_prior_of_no_epochs_is_its_source(pactl: Call, source: str, sets: list[str], dim: int) -> None:
    options = ("--prior-epochs", 0, "--intrinsic-dim", dim, "--epochs", 1, "--train-subset", 0.01, "--out", "run")
    assert pactl("prior", "--source", source, "--dataset", sets[1], *options).code == 0
    theta0, before = weights("run/init.safetensors", "network/"), weights("source/checkpoint.safetensors")
    assert all(torch.equal(theta0[f"network/{name}"], t) for name, t in before.items())
    assert pactl("bound", "run", "--quant-epochs", 0).json()["bound_examples"] == 297
    assert pactl("verify", "run").code == 0


@pytest.mark.parametrize(("dim", "left"), [(0, 180), (4, 0)])
def test_a_prior_is_trained_further_from_one_that_has_not_seen_s(
    pactl: Call, sets: list[str], dim: int, left: int
) -> None:
    """On the same share: S is the same, and free of the first prior where nothing was trained on it (d = 0)."""
    share = ("--dataset", sets[1], "--train-subset", 0.4, "--prior-epochs", 1, "--epochs", 1)
    assert pactl("prior", *share, "--intrinsic-dim", dim, "--out", "first").code == 0
    done = pactl("prior", "--source", "first", *share, "--intrinsic-dim", 0, "--out", "second")
    if not left:
        assert "none left to count" in done.complaint(2)
        return
    assert pactl("bound", "second").json()["bound_examples"] == left
    with np.load("first/indices.npz") as first, np.load("second/indices.npz") as second:
        assert np.array_equal(first["bound"], second["bound"])
        assert np.array_equal(first["prior"], second["prior"])
    assert pactl("verify", "second").code == 0


def test_a_prior_of_no_epochs_from_the_seed(pactl: Call, sets: list[str]) -> None:
    options = ("--prior-epochs", 0, "--intrinsic-dim", 5, "--epochs", 1, "--train-subset", 0.01)
    assert pactl("prior", "--dataset", sets[1], *options, "--out", "run").code == 0
    stages = {json.loads(line)["stage"] for line in Path("run/metrics.jsonl").read_text().splitlines()}
    assert stages == {"train"}
    assert pactl("bound", "run", "--quant-epochs", 0).json()["bound_examples"] == 297


def test_batch_statistics_of_a_small_share_come_from_all_of_it(pactl: Call, arrays: Arrays) -> None:
    one, two = written("one.npz", arrays, 1, side=16), written("two.npz", arrays, 2, side=16)
    layer13s = ("--model-name", "layer13s", "--base-width", 1)
    assert pactl("train", "--dataset", one, *layer13s, *ALL[:4], "--out", "source").code == 0
    run = ("prior", "--source", "source", "--dataset", two, *PRIOR, "--train-subset", 0.05, "--out", "run")
    assert pactl(*run).code == 0
    document = pactl("bound", "run", "--quant-epochs", 0).json()
    assert document["configuration"]["calibration_examples"] == 15
    assert document["bound_examples"] == 285
    assert pactl("verify", "run").code == 0
    more = pactl(*run[:-2], "--calibration-examples", 16, "--out", "more").complaint(2)
    assert "more than the 15" in more


@pytest.mark.parametrize("thing", [4, 6, 8, 10, 12, 14, 17, 20, 24])
def test_a_killed_prior_goes_on_without_its_source(
    pactl: Call, start: Call, source: str, sets: list[str], thing: int
) -> None:
    arguments = ("prior", "--source", source, "--dataset", sets[1], *PRIOR, "--out")
    assert pactl(*arguments, "whole").code == 0
    start(*arguments, "again", blow=(thing, signal.SIGKILL)).end()
    manifest = json.loads(Path("again/manifest.json").read_text()) if Path("again/manifest.json").exists() else {}
    if "config.yml" in manifest.get("files", {}):
        shutil.rmtree(source)
    assert pactl(*arguments, "again", "--resume").code == 0
    for name in ("checkpoint.safetensors", "init.safetensors", "indices.npz", "config.yml"):
        assert Path("again", name).read_bytes() == Path("whole", name).read_bytes(), name
    assert not Path("again/resume").exists()


def test_a_source_comes_through_a_pipe(pactl: Call, source: str, sets: list[str]) -> None:
    run = ("prior", "--source", "-", "--dataset", sets[1], *PRIOR, "--out", "run")
    assert pactl(*run, stdin=f"{source}\n").out == "run\n"
    assert facts("run")["origin"] == "source"


def test_an_interruption_names_the_source_again(start: Call, pactl: Call, source: str, sets: list[str]) -> None:
    run = ("prior", "--source", source, "--dataset", sets[1], *PRIOR[:-2], "--lr", 0.0015, "--out", "run")
    line = start(*run, blow=(14, signal.SIGINT)).end().complaint(130)
    assert f"pactl prior --dataset {sets[1]} --source {source}" in line
    assert "--out run --resume" in line
    assert "pactl prior --resume --out run" in pactl("bound", "run").complaint(2)
    shutil.rmtree(source)
    assert pactl("prior", "--resume", "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0
