"""Arrays of one's own through every command: in memory or not, sparse, by other names, with channels anywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import sparse

from pactl_cli.data import given_arrays

Call = Callable[..., Any]
Arrays = dict[str, Any]

QUICK = ("--epochs", 2, "--intrinsic-dim", 5, "--batch-size", 32)


def certified(pactl: Call, dataset: str, run: str, *more: object) -> Any:
    """The certificate of a run that is trained, certified and verified."""
    trained = pactl("train", "--dataset", dataset, *QUICK, *more, "--out", run)
    assert trained.code == 0, trained.err
    named = more[:2] if "--model-name" in more else ()
    bound = pactl("bound", run, "--quant-epochs", 1, *named)
    verified = pactl("verify", run, *named)
    assert (bound.code, verified.code) == (0, 0), bound.err + verified.err
    assert "note: --dataset" not in bound.err + verified.err
    return bound.json()


def features(count: int, columns: int = 40) -> tuple[Any, Any]:
    random = np.random.default_rng(count)
    labels = np.arange(count) % 3
    is_there = random.random((count, columns)) < np.where(np.arange(columns) % 3 == labels[:, None], 0.5, 0.1)
    return is_there * random.integers(1, 5, (count, columns)), labels


def sparse_arrays() -> Arrays:
    arrays: Arrays = {}
    for part, count in (("train", 200), ("test", 50)):
        dense, arrays[f"y_{part}"] = features(count)
        matrix: Any = sparse.csr_matrix(dense)
        arrays |= {f"x_{part}.{key}": getattr(matrix, key) for key in ("data", "indices", "indptr", "shape")}
    return arrays


def colour_arrays() -> Arrays:
    random = np.random.default_rng(0)
    arrays: Arrays = {}
    for part, count in (("train", 120), ("test", 30)):
        arrays[f"y_{part}"] = np.arange(count) % 2
        noise = random.integers(0, 128, (count, 12, 12, 3)) + 90 * arrays[f"y_{part}"][:, None, None, None]
        arrays[f"x_{part}"] = noise.astype(np.uint8)
    return arrays


SETS: dict[str, tuple[Callable[[], Arrays], tuple[object, ...]]] = {
    "bytes in the file": (colour_arrays, ("--model-name", "layer13s", "--base-width", 1, "--augment", "crop-mirror")),
    "a sparse matrix": (sparse_arrays, ("--label-noise", 0.1, "--duplicates", "drop")),
    "floats in the file": (
        lambda: {"X": features(200)[0] / 3, "y": features(200)[1]},
        ("--train-subset", 0.8),
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_data_too_large_for_memory_give_the_same_certificate(
    pactl: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whether data fit into memory depends on the machine, so nothing in a certificate may depend on it."""
    arrays, more = SETS[name]
    np.savez("data.npz", **arrays())
    for run in ("resident", "made"):
        if run == "made":
            monkeypatch.setattr(given_arrays, "available_memory", lambda: 100)
        certified(pactl, "npz:data.npz", run, *more, "--data-dir", tmp_path)
    for file in ("message.bin", "bound.json", "config.yml"):
        assert Path("resident", file).read_bytes() == Path("made", file).read_bytes(), file


def test_a_prior_and_a_transfer_on_data_too_large_for_memory(
    pactl: Call, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(given_arrays, "available_memory", lambda: 100)
    np.savez("data.npz", **arrays)
    assert pactl("prior", "--dataset", "npz:data.npz", "--prior-epochs", 1, *QUICK, "--out", "prior").code == 0
    assert pactl("bound", "prior", "--quant-epochs", 1).code == 0
    assert pactl("verify", "prior").code == 0
    part = ("--dataset", "npz:data.npz", "--train-subset", 0.5)
    assert pactl("train", *part, *QUICK, "--out", "source").code == 0
    assert pactl("transfer", "source", "--dataset", "npz:data.npz", *QUICK, "--out", "run").code == 0
    certificate = pactl("bound", "run", "--quant-epochs", 1).json()
    assert certificate["side_information"]["excluded_examples"] == 150


def test_notes_are_said_once(pactl: Call, arrays: Arrays) -> None:
    np.savez("data.npz", X_train=arrays["x_train"], Y_train=arrays["y_train"] + 1)
    run = pactl("train", "--dataset", "npz:data.npz", *QUICK, "--out", "run")
    notes = run.err.splitlines()
    assert [line.startswith("pactl: note: --dataset npz:data.npz: the ") for line in notes] == [True, True]
    assert "arrays X_train, Y_train are taken for x_train, y_train" in notes[0]
    assert "labels are 1 to 3" in notes[1]
    for command in (("bound", "run", "--quant-epochs", 1), ("verify", "run")):
        done = pactl(*command)
        assert done.code == 0
        assert "note: --dataset" not in done.err


def test_channels_are_asked_for_and_remembered(pactl: Call, arrays: Arrays) -> None:
    x = np.repeat(arrays["x_train"][..., None], 8, axis=-1)
    np.savez("cube.npz", x_train=x, y_train=arrays["y_train"])
    line = pactl("train", "--dataset", "npz:cube.npz", *QUICK, "--out", "run").complaint(2)
    assert "x_train of (n, 8, 8, 8) may be 8 channels of 8 x 8, or 8 channels of 8 x 8" in line
    assert "--channels first, or --channels last" in line
    certificate = certified(pactl, "npz:cube.npz", "run", "--channels", "last")
    assert certificate["side_information"]["inputs"]["tensors"]["inputs"]["shape"] == [8, 8, 8]
    assert yaml.safe_load(Path("run", "config.yml").read_text())["channels"] == "last"
    assert "--channels" in pactl("train", "--dataset", "digits", "--channels", "last", "--out", "no").complaint(2)


@pytest.mark.parametrize("command", ["train", "verify"])
def test_a_file_that_is_not_there_is_not_to_be_saved_otherwise(pactl: Call, arrays: Arrays, command: str) -> None:
    np.savez("data.npz", **arrays)
    assert pactl("train", "--dataset", "npz:data.npz", *QUICK, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 1).code == 0
    words = ("train", "--out", "no") if command == "train" else ("verify", "run")
    done = pactl(*words, "--dataset", "npz:missing.npz")
    assert done.code
    assert "missing.npz cannot be read: there is no such file" in done.err
    assert "numpy.savez" not in done.err


# --- Dictionaries -----------------------------------------------------------------------------------------------------

NETS = """
import torch
from torch import nn

class Masked(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.embedding = nn.Embedding(30, 16)
        self.head = nn.Linear(16, classes)

    def forward(self, inputs):
        words, mask = inputs["input_ids"], inputs["attention_mask"]
        assert (words.dtype, mask.dtype) == (torch.int64, torch.bool)
        weight = mask[..., None].float()
        return self.head((self.embedding(words) * weight).sum(1) / weight.sum(1))

def masked(classes, channels):
    return Masked(classes)
"""


@pytest.fixture
def network(tmp_path: Path) -> Iterator[str]:
    """The name of a network that takes a mapping."""
    name = f"masked_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(NETS)
    yield f"{name}:masked"
    sys.modules.pop(name, None)


def dictionaries() -> Arrays:
    random = np.random.default_rng(0)
    found: Arrays = {}
    for part, count in (("train", 300), ("test", 60)):
        labels = np.arange(count) % 3
        words = random.integers(10, size=(count, 8)) + 10 * labels[:, None]
        mask = np.arange(8) < random.integers(4, 9, (count, 1))
        found |= {f"x_{part}.input_ids": words * mask, f"x_{part}.attention_mask": mask, f"y_{part}": labels}
    return found


def test_a_dictionary_of_arrays_reaches_a_network_as_a_mapping(pactl: Call, network: str) -> None:
    np.savez("words.npz", **dictionaries())
    certificate = certified(
        pactl, "npz:words.npz", "run", "--model-name", network, "--intrinsic-dim", 30, "--lr", 0.1, "--epochs", 15
    )
    assert certificate["error_bound"] < 0.6  # two thirds are by chance
    assert certificate["test_examples"] == 60
    tensors = certificate["side_information"]["inputs"]["tensors"]
    assert {name: tensor["dtype"] for name, tensor in tensors.items()} == {
        "attention_mask": "bool",
        "input_ids": "int64",
    }
    line = pactl("train", "--dataset", "npz:words.npz", *QUICK, "--out", "no").complaint(2)
    assert "fc takes one tensor, the data are a mapping of attention_mask, input_ids" in line
