"""Sequences of integers: they reach a network as they are, and are certified, verified and transferred like images."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Call = Callable[..., Any]
Arrays = dict[str, NDArray[Any]]

LENGTH, WORDS, CLASSES = 12, 30, 3
NETS = f"""
import torch
from torch import nn

class Bag(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.embedding = nn.EmbeddingBag({WORDS}, 16)
        self.head = nn.Linear(16, classes)

    def forward(self, words):
        assert words.dtype == torch.int64, words.dtype
        assert words.ndim == 2 and words.shape[1] == {LENGTH}, words.shape
        return self.head(self.embedding(words))

def bag(classes, channels):
    assert channels == 1
    return Bag(classes)

def normed(classes, channels):
    bag = Bag(classes)
    bag.head = nn.Sequential(nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, classes))
    return bag
"""


def sentences(seed: int = 0, train: int = 300, test: int = 100, length: int = LENGTH) -> Arrays:
    """Words of which half are of the class's own third of the vocabulary."""
    random = np.random.default_rng(seed)

    def part(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        labels = np.arange(count) % CLASSES
        own = random.integers(WORDS // CLASSES, size=(count, length)) + WORDS // CLASSES * labels[:, None]
        return np.where(random.random((count, length)) < 0.5, own, random.integers(WORDS, size=(count, length))), labels

    return dict(zip(("x_train", "y_train", "x_test", "y_test"), (*part(train), *part(test)), strict=True))


def write(path: str, arrays: Arrays) -> str:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return f"npz:{path}"


@pytest.fixture
def nets(tmp_path: Path) -> Iterator[str]:
    """The name of the module above, which lies in the working directory."""
    name = f"words_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(NETS)
    yield name
    sys.modules.pop(name, None)


def options(dataset: str, network: str) -> tuple[object, ...]:
    return ("--dataset", dataset, "--model-name", network, "--intrinsic-dim", 30, "--lr", 0.1, "--epochs", 15)


def test_token_ids_are_certified_and_verified(pactl: Call, nets: str) -> None:
    network = f"{nets}:bag"
    trained = pactl("train", *options(write("words.npz", sentences()), network), "--out", "run")
    assert trained.code == 0, trained.err
    certificate = pactl("bound", "run", "--quant-epochs", 3, "--model-name", network).json()
    assert certificate["error_bound"] < 0.6  # two thirds are by chance
    tensors = {"inputs": {"shape": [LENGTH], "dtype": "int64"}}
    assert certificate["side_information"]["inputs"] == {"kind": "tokens", "tensors": tensors, "vocabulary": WORDS}
    assert pactl("verify", "run", "--model-name", network).out.startswith("verified: run\n")


def test_another_kind_of_inputs_is_another_certificate(pactl: Call, nets: str, agree: Call) -> None:
    network = f"{nets}:bag"
    assert pactl("train", *options(write("words.npz", sentences()), network), "--out", "run").code == 0
    certificate = pactl("bound", "run", "--quant-epochs", 0, "--model-name", network).json()
    certificate["side_information"]["inputs"]["kind"] = "features"
    agree(Path("run"), "bound.json", certificate)
    assert "says inputs is" in pactl("verify", "run", "--model-name", network).complaint(1)


@pytest.mark.parametrize("dtype", ["<i4", ">i8", ">u2", "i1"])
def test_integers_of_any_width_are_the_same_data(pactl: Call, nets: str, dtype: str) -> None:
    found = {}
    for name, kind in (("wide", "<i8"), ("given", dtype)):
        arrays = sentences(train=60, test=30)
        arrays |= {part: arrays[part].astype(kind) for part in ("x_train", "x_test")}
        run = pactl("train", *options(write(f"{name}.npz", arrays), f"{nets}:bag"), "--epochs", 1, "--out", name)
        assert run.code == 0, run.err
        found[name] = json.loads(Path(name, "manifest.json").read_text())["train_sha256"]
    assert found["wide"] == found["given"]


def test_batch_norm_label_noise_and_copies(pactl: Call, nets: str) -> None:
    arrays = sentences()
    arrays["x_train"][[250, 251]] = arrays["x_train"][3]
    more = ("--label-noise", 0.1, "--duplicates", "drop", "--calibration-examples", 20, "--out", "run")
    run = pactl("train", *options(write("words.npz", arrays), f"{nets}:normed"), *more)
    assert run.code == 0, run.err
    certificate = pactl("bound", "run", "--quant-epochs", 1, "--model-name", f"{nets}:normed").json()
    left_out = (
        certificate["side_information"]["copies_left_out"] + certificate["side_information"]["repetitions_dropped"]
    )
    assert left_out == 2
    assert certificate["bound_examples"] == 300 - 20 - 2
    assert certificate["configuration"]["label_noise"] == 0.1
    assert pactl("verify", "run", "--model-name", f"{nets}:normed").code == 0


def test_a_transfer_leaves_out_what_the_source_has_seen(pactl: Call, nets: str) -> None:
    network = f"{nets}:bag"
    first, second = sentences(), sentences(seed=1)
    second["x_train"][:40] = first["x_train"][100:140]
    assert pactl("train", *options(write("first.npz", first), network), "--out", "source").code == 0
    done = pactl("transfer", "source", *options(write("second.npz", second), network), "--out", "run")
    assert done.code == 0, done.err
    certificate = pactl("bound", "run", "--quant-epochs", 1, "--model-name", network).json()
    assert certificate["side_information"]["excluded_examples"] == 40
    assert certificate["bound_examples"] == 260
    assert pactl("verify", "run", "--model-name", network).code == 0
    longer = write("longer.npz", sentences(length=LENGTH + 1))
    line = pactl("transfer", "source", *options(longer, network), "--out", "no").complaint(2)
    assert "the data are sequences of 13 integers" in line
    assert "was trained on sequences of 12 integers" in line


@pytest.mark.parametrize("network", ["bag", "fc"])
def test_a_network_of_the_catalogue_takes_them(pactl: Call, network: str) -> None:
    """The bag is theirs, and so the one that they get unasked; to the other they are numbers."""
    chosen = () if network == "bag" else ("--model-name", network)
    dataset = write("words.npz", sentences())
    assert pactl("train", "--dataset", dataset, *chosen, "--epochs", 4, "--out", "run").code == 0
    certificate = pactl("bound", "run", "--quant-epochs", 1).json()
    assert certificate["configuration"]["model_name"] == network
    assert (certificate["bits"]["configuration"] == 1) == (network == "bag")
    assert pactl("verify", "run").code == 0


@pytest.mark.parametrize("value", [-1, 1 << 24])
@pytest.mark.parametrize("part", ["x_train", "x_test"])
def test_integers_that_are_no_tokens_are_numbers_at_most(pactl: Call, part: str, value: int) -> None:
    arrays = sentences()
    arrays[part][-1, 0] = value
    dataset = write("words.npz", arrays)
    line = pactl("train", "--dataset", dataset, "--out", "no").complaint(2)
    assert "bag cannot take sequences of 12 integers: it takes tokens, numbers from 0" in line
    assert pactl("train", "--dataset", dataset, "--model-name", "fc", "--epochs", 1, "--out", "run").code == 0


def test_that_integers_are_taken_for_tokens_is_said(pactl: Call) -> None:
    said = pactl("train", "--dataset", write("words.npz", sentences()), "--epochs", 1, "--out", "run").err
    assert f"sequences of tokens, of which there are {WORDS}: save features as float32" in said


def test_the_bag_of_a_larger_vocabulary_takes_a_smaller_one(pactl: Call) -> None:
    first, second = sentences(), sentences(seed=1)
    second = {name: np.minimum(array, WORDS - 3) for name, array in second.items()}
    more = ("--intrinsic-dim", 30, "--epochs", 1)
    assert pactl("train", "--dataset", write("first.npz", first), *more, "--out", "source").code == 0
    dataset = write("second.npz", second)
    assert pactl("transfer", "source", "--dataset", dataset, *more, "--out", "run").code == 0
    certificate = pactl("bound", "run", "--quant-epochs", 1).json()
    assert certificate["side_information"]["inputs"]["vocabulary"] == WORDS
    assert pactl("verify", "run").code == 0
    assert pactl("train", "--dataset", dataset, *more, "--out", "source", "--force").code == 0
    line = pactl("transfer", "source", "--dataset", write("first.npz", first), *more, "--out", "no").complaint(2)
    assert "was trained on sequences of 12 integers" in line


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--model-name", "lenet5"), "lenet5 cannot take sequences of 12 integers: it takes images"),
        (("--model-name", "resnet20"), "resnet20 cannot take sequences of 12 integers: it takes images"),
        (("--model-name", "resnet18"), "resnet18 cannot take sequences of 12 integers: it takes images"),
        (("--augment", "crop-mirror"), "--augment"),
    ],
)
def test_what_needs_images_says_so(pactl: Call, more: tuple[object, ...], says: str) -> None:
    assert says in pactl("train", "--dataset", write("words.npz", sentences()), *more, "--out", "no").complaint(2)


def test_a_network_that_fails_on_them_says_what_they_are(pactl: Call, nets: str) -> None:
    dataset = write("words.npz", sentences(length=LENGTH - 1))
    line = pactl("train", *options(dataset, f"{nets}:bag"), "--out", "no").complaint(2)
    assert f"{nets}:bag fails on sequences of 11 integers: AssertionError" in line


@pytest.mark.parametrize(("part", "command"), [("x_train", "train"), ("x_test", "bound")])
def test_a_word_that_the_network_does_not_know_is_an_error_wherever_it_comes(
    pactl: Call, nets: str, part: str, command: str
) -> None:
    arrays = sentences()
    arrays[part][-1] = WORDS
    done = pactl("train", *options(write("words.npz", arrays), f"{nets}:bag"), "--epochs", 1, "--out", "run")
    if command == "bound":
        done = pactl("bound", "run", "--quant-epochs", 0, "--model-name", f"{nets}:bag")
    line = done.complaint(1)
    assert f"{nets}:bag fails on sequences of 12 integers: RuntimeError" in line
    assert "the test set included" in line
