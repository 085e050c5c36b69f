"""`pactl permute` and `pactl prior`: what the prior has seen is never counted."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save

from pactl_cli.runs.checkpoint import load_tensors
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.runs.start import Start
from pactl_cli.stages.train import RunObserver

Call = Callable[..., Any]

QUICK = ("--epochs", 2, "--prior-epochs", 3, "--intrinsic-dim", 20)


@pytest.fixture
def prior(pactl: Call, npz: Path, tmp_path: Path) -> Path:
    """A small run with a prior, not certified."""
    done = pactl("prior", "--dataset", f"npz:{npz}", *QUICK, "--out", tmp_path / "prior")
    assert done.code == 0, done
    return tmp_path / "prior"


# --- permute ----------------------------------------------------------------------------------------------------------


def test_a_permutation_is_the_same_everywhere(pactl: Call) -> None:
    done = pactl("permute", "--dataset", "mnist")
    assert (done.out, done.err) == ("mnist-permutation-137.npy\n", "")
    order = np.load("mnist-permutation-137.npy")
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(60_000))
    assert order[:5].tolist() == [24988, 47325, 43113, 20532, 39486]
    assert pactl("permute", "--dataset", "mnist").code == 0, "the same again is no conflict"
    complaint = pactl("permute", "--dataset", "mnist", "--seed", 1, "--out", "mnist-permutation-137.npy").complaint(2)
    assert "holds something else" in complaint


def test_ones_own_data_are_read_for_their_length(pactl: Call, npz: Path) -> None:
    done = pactl("permute", "--dataset", f"npz:{npz}", "--out", "order.npy")
    assert done.out == "order.npy\n"
    with np.load(npz) as arrays:
        assert len(np.load("order.npy")) == len(arrays["y_train"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--dataset", "mnits"), "did you mean mnist"),
        (("--dataset", "npz:absent.npz"), "absent.npz"),
        (("--dataset", "mnist", "--out", "no/such/place.npy"), "there is no directory"),
        (("--dataset", "mnist", "--seed", -1), "--seed"),
    ],
)
def test_impossible_permutations(pactl: Call, arguments: tuple[object, ...], says: str) -> None:
    assert says in pactl("permute", *arguments).complaint(2)


# --- prior ------------------------------------------------------------------------------------------------------------


def test_the_complement_is_counted(pactl: Call, prior: Path, npz: Path) -> None:
    certificate = pactl("bound", prior, "--quant-epochs", 1).json()
    with np.load(prior / "indices.npz") as file, np.load(npz) as arrays:
        parts, examples = dict(file), len(arrays["y_train"])
    assert sorted(np.concatenate(list(parts.values()))) == list(range(examples))
    assert len(parts["prior"]) == round(0.5 * examples)
    assert certificate["bound_examples"] == len(parts["bound"]) == examples - len(parts["prior"])
    assert certificate["side_information"]["theta0_sha256"]
    assert any("prior" in line for line in certificate["assumptions"])
    assert pactl("verify", prior).code == 0


def test_the_prior_alone_is_a_hold_out_bound(pactl: Call, npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "alone"
    assert pactl("prior", "--dataset", f"npz:{npz}", *QUICK[:4], "--intrinsic-dim", 0, "--out", out).code == 0
    certificate = pactl("bound", out).json()
    assert certificate["hypothesis"] == "d=0 hold-out"
    assert certificate["statement"].startswith("Hold-out bound")
    assert certificate["message_bits"] == certificate["bits"]["configuration"]
    assert "Hold-out bound" in pactl("verify", out).out


def test_a_pipeline_from_a_permutation_to_a_certificate(pactl: Call, npz: Path) -> None:
    path = pactl("permute", "--dataset", f"npz:{npz}", "--seed", 5).out.strip()
    run = pactl("prior", "--dataset", f"npz:{npz}", "--indices-path", path, "--train-subset", -0.4, *QUICK).out
    certificate = pactl("bound", "-", "--quant-epochs", 1, stdin=run).json()
    order = np.load(path)
    with np.load(Path(run.strip()) / "indices.npz") as parts:
        assert np.array_equal(parts["bound"], order[: round(0.4 * len(order))])
    assert any("--indices-path" in line for line in certificate["assumptions"])


@pytest.mark.parametrize("share", [1, -1, 0.001])
def test_a_share_that_leaves_nothing(pactl: Call, npz: Path, share: float) -> None:
    done = pactl("prior", "--dataset", f"npz:{npz}", "--train-subset", share, "--out", "run")
    assert "leaves none" in done.complaint(2)
    assert not Path("run").exists()


# --- Forgeries --------------------------------------------------------------------------------------------------------


def write_parts(run: Path, agree: Call, **changed: Any) -> None:
    """Other indices, vouched for by the manifest."""
    with np.load(run / "indices.npz") as file:
        buffer = BytesIO()
        np.savez(buffer, **(dict(file) | changed))
    agree(run, "indices.npz", buffer.getvalue())


def write_start(run: Path, agree: Call, change: Callable[[dict[str, Any]], object]) -> None:
    """Other weights theta0, vouched for by the manifest."""
    tensors, metadata = load_tensors(run / "init.safetensors")
    change(tensors)
    agree(run, "init.safetensors", save(tensors, metadata))


@pytest.fixture
def certified_prior(pactl: Call, prior: Path) -> Path:
    """The same, certified."""
    assert pactl("bound", prior, "--quant-epochs", 1).code == 0
    return prior


@pytest.mark.parametrize("forgery", ["swapped", "fewer", "with one of the prior's"])
def test_other_indices(pactl: Call, certified_prior: Path, agree: Call, forgery: str) -> None:
    with np.load(certified_prior / "indices.npz") as file:
        seen, counted = file["prior"], file["bound"]
    changed = {
        "swapped": {"prior": counted, "bound": seen},
        "fewer": {"bound": counted[:-1]},
        "with one of the prior's": {"bound": np.append(counted[:-1], seen[0])},
    }[forgery]
    write_parts(certified_prior, agree, **changed)
    assert "indices" in pactl("verify", certified_prior).complaint(1)


def test_another_share_than_the_one_recorded(pactl: Call, certified_prior: Path, agree: Call) -> None:
    config = (certified_prior / "config.yml").read_text().replace("train_subset: 0.5", "train_subset: -0.5")
    agree(certified_prior, "config.yml", config)
    assert pactl("verify", certified_prior).code == 1
    assert pactl("bound", certified_prior).code == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors["network/1.weight"].mul_(1.5),
        lambda tensors: tensors["network/1.weight"].fill_(float("nan")),
        lambda tensors: tensors.pop("network/1.weight"),
        lambda tensors: tensors.update({"network/more": tensors["network/1.weight"].clone()}),
        lambda tensors: tensors.update({"network/1.weight": tensors["network/1.weight"].double()}),
        lambda tensors: tensors.pop("seen"),
    ],
)
def test_other_weights(pactl: Call, certified_prior: Path, agree: Call, change: Any) -> None:
    write_start(certified_prior, agree, change)
    assert "verification failed" in pactl("verify", certified_prior).complaint(1)


@pytest.mark.parametrize("more", [{"intrinsic_dim": 10}, {"calibration_examples": 3}])
def test_nothing_but_what_the_prior_was_trained_with_is_free(
    pactl: Call, certified_prior: Path, agree: Call, more: dict[str, int]
) -> None:
    tensors, metadata = load_tensors(certified_prior / "init.safetensors")
    start = json.loads(metadata["start"])
    start["configured"] |= more
    agree(certified_prior, "init.safetensors", save(tensors, metadata | {"start": json.dumps(start)}))
    run = RunDirectory.open(certified_prior)
    parent = Start.load(run, run.read_settings()).sha256()
    agree(certified_prior, parent=parent)
    assert "its configuration is not that of config.yml" in pactl("verify", certified_prior).complaint(1)
    assert "its configuration is not that of config.yml" in pactl("bound", certified_prior).complaint(2)


def test_a_start_that_configures_no_normalisation_is_one_line(pactl: Call, certified_prior: Path, agree: Call) -> None:
    tensors, metadata = load_tensors(certified_prior / "init.safetensors")
    start = json.loads(metadata["start"])
    assert start["configured"].pop("normalisation", "absent") != "absent"
    agree(certified_prior, "init.safetensors", save(tensors, metadata | {"start": json.dumps(start)}))
    for command, code in (("verify", 1), ("bound", 2)):
        assert "its configuration has no normalisation" in pactl(command, certified_prior).complaint(code)


def test_a_hold_out_is_not_called_something_else(pactl: Call, npz: Path, agree: Call) -> None:
    options = (*QUICK[:4], "--intrinsic-dim", 0)
    assert pactl("prior", "--dataset", f"npz:{npz}", *options, "--out", "run").code == 0
    document = pactl("bound", "run").json()
    agree(Path("run"), "bound.json", document | {"hypothesis": "subspace"})
    assert "hypothesis" in pactl("verify", "run").complaint(1)


# --- Resuming ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [6, 9, 12, 15, 18, 22])
def test_a_killed_prior_goes_on_to_the_same_end(
    pactl: Call, start: Call, npz: Path, prior: Path, tmp_path: Path, thing: int
) -> None:
    arguments = ("prior", "--dataset", f"npz:{npz}", *QUICK, "--out", tmp_path / "again")
    start(*arguments, blow=(thing, signal.SIGKILL)).end()
    assert pactl(*arguments, "--resume").code == 0
    for name in ("checkpoint.safetensors", "init.safetensors", "indices.npz", "config.yml"):
        assert (tmp_path / "again" / name).read_bytes() == (prior / name).read_bytes(), name


@pytest.mark.parametrize("epochs", [1, 2])
def test_batch_statistics_of_an_interrupted_prior_are_those_of_one_that_was_not(
    pactl: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrays: Any, epochs: int
) -> None:
    """They are part of theta0, and so of its hash."""
    wide = {name: np.kron(a, np.ones((1, 2, 2), a.dtype)) if a.ndim == 3 else a for name, a in arrays.items()}
    np.savez(tmp_path / "wide.npz", **wide)  # type: ignore[arg-type]
    network = ("--model-name", "layer13s", "--base-width", 2, "--calibration-examples", 10)
    dims = ("--intrinsic-dim", 0, "--epochs", 3, "--batch-size", 32)
    arguments = ("prior", "--dataset", f"npz:{tmp_path / 'wide.npz'}", *network, *dims, "--out")
    assert pactl(*arguments, "whole").code == 0
    record = RunObserver.epoch

    def interrupted(self: RunObserver, line: dict[str, Any]) -> None:
        record(self, line)
        if line["epoch"] == epochs:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(RunObserver, "epoch", interrupted)
        assert "--resume" in pactl(*arguments, "again").complaint(130)
    assert pactl(*arguments, "again", "--resume").code == 0
    parents = [json.loads(Path(run, "manifest.json").read_text())["parent"] for run in ("whole", "again")]
    assert parents[0] == parents[1]


def test_different_priors_are_not_compared(pactl: Call, npz: Path, prior: Path) -> None:
    options = (*QUICK, "--prior-lr", 0.003, "--out", "other")
    assert pactl("prior", "--dataset", f"npz:{npz}", *options).code == 0
    assert "different weights" in pactl("bound", prior, "other").complaint(2)


def test_the_best_of_several_dimensions_around_one_prior(pactl: Call, npz: Path, prior: Path) -> None:
    options = (*QUICK[:4], "--intrinsic-dim", 5, "--out", "other")
    assert pactl("prior", "--dataset", f"npz:{npz}", *options).code == 0
    assert pactl("bound", prior, "other", "--quant-epochs", 1).json()["bound_examples"] == 150
