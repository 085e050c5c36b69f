"""Published normalisation constants are statistics of somebody's training set: whoever uses them pays, by any name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pactl_cli import catalogue
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.splits import partition, permuted_indices
from pactl_cli.problem.configuring import task_of
from pactl_cli.runs.settings import TransferSettings
from pactl_cli.runs.start import Start, Training

Call = Callable[..., Any]

PAID = 28
"""Two numbers of fourteen bits or more, beside what every configuration costs."""
NETWORK = ("--model-name", "fc", "--base-width", 16)


def rest_as_arrays(dataset: str, place: Path, path: Path, seen: float, most: int) -> str:
    """The examples of a named data set that a source has not seen, under another name."""
    train = load_dataset(dataset, place).train
    assert isinstance(train, Examples)
    rest = permuted_indices(len(train))[round(seen * len(train)) :][:most]
    np.savez(path, x_train=train.images.numpy()[rest, 0], y_train=train.labels.numpy()[rest])
    return f"npz:{path}"


def transferred(pactl: Call, dataset: str, *options: object) -> dict[str, Any]:
    """The certificate of a transfer from the run `source`, verified."""
    dims = ("--intrinsic-dim", 20, "--epochs", 1, "--out", "run", "--force")
    done = pactl("transfer", "source", "--dataset", dataset, *dims, *options)
    assert done.code == 0, done.err
    where = options[:2] if options[:1] == ("--data-dir",) else ()
    document: dict[str, Any] = pactl("bound", "run", "--quant-epochs", 0, *where).json()
    assert pactl("verify", "run", *where).code == 0
    return document


@pytest.mark.parametrize("constants", ["published", "fixed"])
def test_they_are_paid_for_by_any_name(
    pactl: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constants: str
) -> None:
    """Of digits, which have none of their own, as if somebody had published some."""
    entry = replace(catalogue.DATASETS["digits"], published=((0.3053,), (0.3771,)))
    monkeypatch.setitem(catalogue.DATASETS, "digits", entry)
    train = ("train", "--dataset", "digits", "--train-subset", 0.3, *NETWORK, "--intrinsic-dim", 0, "--epochs", 1)
    assert pactl(*train, "--normalise", constants, "--out", "source").code == 0
    copy = rest_as_arrays("digits", tmp_path, tmp_path / "copy.npz", 0.3, 500)
    bits = {}
    for name, options in ((copy, ()), ("digits", ("--train-subset", -0.3))):
        document = transferred(pactl, name, *options)
        assert document["side_information"]["excluded_examples"] == 0
        bits[name] = document["bits"]["configuration"]
        assert document["configuration"]["normalisation"] == (
            [[0.3053], [0.3771]] if constants == "published" else None
        )
    assert all((count >= PAID) == (constants == "published") for count in bits.values()), bits


def test_constants_that_the_source_can_do_without_cost_nothing(
    pactl: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who says `fixed` in the transfer pays for no constants, though the source had some."""
    entry = replace(catalogue.DATASETS["digits"], published=((0.3053,), (0.3771,)))
    monkeypatch.setitem(catalogue.DATASETS, "digits", entry)
    train = ("train", "--dataset", "digits", "--train-subset", 0.3, *NETWORK, "--intrinsic-dim", 0, "--epochs", 1)
    assert pactl(*train, "--normalise", "published", "--out", "source").code == 0
    copy = rest_as_arrays("digits", tmp_path, tmp_path / "copy.npz", 0.3, 500)
    document = transferred(pactl, copy, "--normalise", "fixed")
    assert document["configuration"]["normalisation"] is None
    assert document["bits"]["configuration"] < PAID


def test_they_are_paid_for_after_a_package_as_well() -> None:
    """A package's own constants come with its weights; those of a training that followed somebody chose."""
    constants, images = ((0.1307,), (0.3081,)), torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    data = Dataset("npz:copy.npz", 2, Examples(images, torch.arange(2)), None)
    settings = TransferSettings(source="source", dataset="npz:copy.npz")
    free = []
    for before in ((), (Training("mnist"),)):
        lineage = (*before, Training("imagenet", published=True))
        none = np.zeros(0, dtype=np.uint64)
        start = Start({}, none, "lenet5", None, 2, (), data.spec, constants, False, "source", lineage)
        task = task_of(settings, data, partition(None, 2, share=1), start)
        free.append(task.defaults["normalisation"])
    assert free == [constants, None]


@pytest.mark.slow
def test_those_of_mnist(pactl: Call, data_dir: Path, tmp_path: Path) -> None:
    """A source of 2 % of MNIST, normalised with its published constants, and 2,000 others of it as arrays."""
    where = ("--data-dir", data_dir)
    train = ("train", "--dataset", "mnist", *where, "--train-subset", 0.02, *NETWORK, "--intrinsic-dim", 0)
    assert pactl(*train, "--normalise", "published", "--epochs", 1, "--out", "source").code == 0
    copy = rest_as_arrays("mnist", data_dir, tmp_path / "copy.npz", 0.96, 2000)
    for name, options in ((copy, where), ("mnist", (*where, "--train-subset", -0.96))):
        document = transferred(pactl, name, *options)
        assert document["configuration"]["normalisation"] == [[0.1307], [0.3081]]
        assert document["bits"]["configuration"] >= PAID
