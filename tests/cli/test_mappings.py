"""Several tensors by name: a data set of them is one row of the catalogue, certified and verified like any other."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pactl_cli import catalogue
from pactl_cli.data.dataset import Examples
from pactl_cli.data.recognition import exact_fingerprints, image_fingerprints
from pactl_cli.runs.checkpoint import load_tensors

Call = Callable[..., Any]

TOY = """
import os
import signal

import numpy as np
import torch
from torch import nn

from pactl_cli.data.dataset import Dataset, Examples

LENGTH, WORDS, CLASSES = 10, 30, 3
SEED, REPEATED = 0, 0
FORWARD, STOP = 0, -1

def part(random, count):
    labels = np.arange(count) % CLASSES
    own = random.integers(WORDS // CLASSES, size=(count, LENGTH)) + WORDS // CLASSES * labels[:, None]
    words = np.where(random.random((count, LENGTH)) < 0.6, own, random.integers(WORDS, size=(count, LENGTH)))
    mask = np.arange(LENGTH) < random.integers(LENGTH // 2, LENGTH + 1, size=(count, 1))
    inputs = {"input_ids": torch.from_numpy(words * mask), "attention_mask": torch.from_numpy(mask.astype(np.int64))}
    return Examples(inputs, torch.from_numpy(labels))

def load(name, data_dir, progress):
    random = np.random.default_rng(SEED)
    train, test = part(random, 300), part(random, 100)
    for place in range(REPEATED):
        for tensor in train.inputs.values():
            tensor[200 + place] = tensor[place]
    return Dataset(name, CLASSES, train, test)

class Bag(nn.Module):
    def __init__(self, classes, norm):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.head = nn.Sequential(*([nn.BatchNorm1d(16)] if norm else []), nn.Linear(16, classes))

    def forward(self, inputs):
        global FORWARD
        assert sorted(inputs) == ["attention_mask", "input_ids"]
        words, mask = inputs["input_ids"], inputs["attention_mask"]
        assert words.dtype == mask.dtype == torch.int64
        assert words.shape == mask.shape == (len(words), LENGTH)
        FORWARD += self.training
        if FORWARD == STOP:
            signal.raise_signal(signal.SIGINT)
        weight = mask[..., None].float()
        return self.head((self.embedding(words) * weight).sum(1) / weight.sum(1))

def bag(classes, channels):
    assert channels == 1
    return Bag(classes, False)

def normed(classes, channels):
    return Bag(classes, True)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module above; its data set is in the catalogue."""
    name = f"toy_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    row = catalogue.Dataset(name="toy", summary="words and masks", made_by=f"{name}:load", model="fc", epochs=15)
    monkeypatch.setitem(catalogue.DATASETS, "toy", row)
    module = __import__(name)
    yield module
    sys.modules.pop(name, None)


QUICK = ("--dataset", "toy", "--intrinsic-dim", 30, "--lr", 0.1)


def certified(pactl: Call, command: str, network: str, *more: object) -> Any:
    """The certificate of a run that is trained, certified and verified."""
    run = pactl(command, *QUICK, "--model-name", network, "--out", "run", *more)
    assert run.code == 0, run.err
    certificate = pactl("bound", "run", "--quant-epochs", 3, "--model-name", network).json()
    assert pactl("verify", "run", "--model-name", network).out.startswith("verified: run\n")
    return certificate


def test_a_mapping_is_certified_and_verified(pactl: Call, toy: Any) -> None:
    certificate = certified(pactl, "train", f"{toy.__name__}:bag")
    assert certificate["error_bound"] < 0.6  # two thirds are by chance
    tensor = {"shape": [toy.LENGTH], "dtype": "int64"}
    inputs = {"kind": "mapping", "tensors": {"attention_mask": tensor, "input_ids": tensor}}
    assert certificate["side_information"]["inputs"] == inputs
    toy.SEED = 1
    assert "is not the one" in pactl("verify", "run", "--model-name", f"{toy.__name__}:bag").complaint(1)


def test_a_prior_with_batch_norm_and_copies(pactl: Call, toy: Any) -> None:
    toy.REPEATED = 10
    more = ("--train-subset", 0.5, "--prior-epochs", 5, "--calibration-examples", 15, "--label-noise", 0.1)
    certificate = certified(pactl, "prior", f"{toy.__name__}:normed", *more, "--duplicates", "drop")
    side = certificate["side_information"]
    assert side["theta0_sha256"]
    with np.load("run/indices.npz") as parts:
        pairs = [{place, 200 + place} for place in range(10)]
        counted, prior = set(parts["bound"].tolist()), set(parts["prior"].tolist())
    assert not any(pair <= counted | prior for pair in pairs if not pair <= prior), "one of two copies is left out"
    assert side["copies_left_out"] + side["repetitions_dropped"] == sum(not pair <= prior for pair in pairs)


def test_copies_are_refused_where_they_are_not_wanted(pactl: Call, toy: Any) -> None:
    toy.REPEATED = 3
    line = pactl("train", *QUICK, "--model-name", f"{toy.__name__}:bag", "--duplicates", "refuse").complaint(2)
    assert "3 of 300 examples are exact copies" in line


@pytest.mark.parametrize("command", ["train", "prior"])
def test_an_interrupted_run_ends_as_if_it_had_not_been(pactl: Call, toy: Any, command: str) -> None:
    network = f"{toy.__name__}:bag"
    run = (command, *QUICK, "--model-name", network, "--epochs", 4, "--out")
    assert pactl(*run, "whole").code == 0
    steps, toy.FORWARD = toy.FORWARD, 0
    toy.STOP = steps - 3
    assert pactl(*run, "run").code == 130
    toy.STOP = -1
    assert pactl(*run, "run", "--resume").code == 0
    whole, resumed = (load_tensors(Path(name, "checkpoint.safetensors"))[0]["w"] for name in ("whole", "run"))
    assert torch.equal(whole, resumed)


def test_a_transfer_takes_the_same_names_and_leaves_out_copies(pactl: Call, toy: Any, npz: Path) -> None:
    network = f"{toy.__name__}:bag"
    assert pactl("train", *QUICK, "--model-name", network, "--train-subset", 0.5, "--out", "source").code == 0
    source = ("transfer", "source", "--model-name", network, "--intrinsic-dim", 10, "--epochs", 2)
    assert pactl(*source, "--dataset", "toy", "--out", "run").code == 0
    certificate = pactl("bound", "run", "--quant-epochs", 1, "--model-name", network).json()
    assert certificate["side_information"]["excluded_examples"] == certificate["bound_examples"] == 150
    assert pactl("verify", "run", "--model-name", network).code == 0
    line = pactl(*source, "--dataset", f"npz:{npz}", "--out", "no").complaint(2)
    assert "the data are images of 1 x 8 x 8, and" in line
    assert "was trained on a mapping of attention_mask, input_ids" in line


def test_what_takes_one_tensor_says_so(pactl: Call, toy: Any) -> None:
    line = pactl("train", *QUICK, "--out", "no").complaint(2)
    assert "fc takes one tensor, the data are a mapping of attention_mask, input_ids" in line
    assert "--augment" in pactl("train", *QUICK, "--model-name", f"{toy.__name__}:bag", "--augment").complaint(2)


# --- Fingerprints -----------------------------------------------------------------------------------------------------


def mapping(count: int = 6, **tensors: torch.Tensor) -> Examples:
    return Examples(tensors, torch.arange(count) % 2)


IDS, MASK = torch.arange(24).view(6, 4), torch.arange(24).view(6, 4) % 2
OTHERS = {
    "another value": mapping(ids=IDS + 1, mask=MASK),
    "names exchanged": mapping(ids=MASK, mask=IDS),
    "another name": mapping(ids=IDS, mark=MASK),
    "one more": mapping(ids=IDS, mask=MASK, more=MASK),
    "one less": mapping(ids=IDS),
    "another shape": mapping(ids=IDS.view(6, 2, 2), mask=MASK),
    "another type": mapping(ids=IDS, mask=MASK.float()),
}


@pytest.mark.parametrize("other", OTHERS)
def test_no_two_mappings_are_alike(other: str) -> None:
    own = mapping(ids=IDS, mask=MASK)
    assert own.sha256() == mapping(mask=MASK.clone(), ids=IDS.clone()).sha256() != OTHERS[other].sha256()
    assert not np.isin(exact_fingerprints(own), exact_fingerprints(OTHERS[other])).any()
    assert own.sha256() != mapping(ids=IDS, mask=MASK.int()).sha256(), "the network gets another type"


def test_equal_examples_have_equal_fingerprints_whatever_the_batch_and_the_width() -> None:
    own = mapping(ids=IDS, mask=MASK, pixels=torch.zeros(6, 3, 2, 2))
    whole = exact_fingerprints(own)
    assert len(set(whole.tolist())) == 6
    order = torch.tensor([4, 1, 1])
    assert np.array_equal(exact_fingerprints(own[order]), whole[order.numpy()])
    narrow = mapping(ids=IDS.to(torch.uint8), mask=MASK.bool(), pixels=-torch.zeros(6, 3, 2, 2))
    assert np.array_equal(exact_fingerprints(narrow), whole)
    assert np.array_equal(image_fingerprints(own)[:, 0], whole)


def test_a_mapping_is_never_taken_for_its_tensor() -> None:
    tensor = Examples(IDS, torch.arange(6) % 2)
    assert tensor.sha256() != mapping(ids=IDS).sha256()
    assert not np.isin(image_fingerprints(mapping(ids=IDS)), image_fingerprints(tensor)).any()
