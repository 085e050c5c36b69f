"""Rows of numbers: tables of floating-point numbers, of bytes and of integers, and images that were flattened."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Call = Callable[..., Any]
Arrays = dict[str, NDArray[Any]]

FEATURES = 64
NETS = f"""
import torch
from torch import nn

class Take(nn.Module):
    def forward(self, rows):
        assert rows.dtype == torch.get_default_dtype() or rows.dtype == torch.float64, rows.dtype
        assert rows.ndim == 2 and rows.shape[1] == {FEATURES}, rows.shape
        return rows

def normed(classes, channels):
    assert channels == 1
    return nn.Sequential(Take(), nn.Linear({FEATURES}, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, classes))
"""


@pytest.fixture
def nets(tmp_path: Path) -> Iterator[str]:
    """The name of the module above, which lies in the working directory."""
    name = f"rows_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(NETS)
    yield name
    sys.modules.pop(name, None)


def rows(arrays: Arrays, kind: str) -> Arrays:
    """The tiny images as rows of another type."""
    change = {
        "bytes": lambda x: x,
        "floats": lambda x: (x / 255 - 0.5).astype(np.float32),
        "integers": lambda x: x.astype(np.int64) - 128,
    }[kind]
    flat = {name: change(x).reshape(len(x), -1) for name, x in arrays.items() if name.startswith("x_")}
    return arrays | flat


def write(path: str, arrays: Arrays) -> str:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return f"npz:{path}"


OPTIONS = ("--intrinsic-dim", 20, "--epochs", 12, "--lr", 0.1)


@pytest.mark.parametrize("kind", ["bytes", "floats", "integers"])
def test_a_table_is_learnt_by_the_default_network(
    pactl: Call, arrays: Arrays, quick: tuple[object, ...], kind: str
) -> None:
    dataset = write("table.npz", rows(arrays, kind))
    chosen = ("--model-name", "fc") if kind == "integers" else ()  # they would be tokens, were there none below 0
    assert pactl("train", "--dataset", dataset, *quick, *chosen, "--out", "run").code == 0
    certificate = pactl("bound", "run", "--quant-epochs", 3).json()
    assert certificate["quantised_train_error"] < 0.4  # two thirds are by chance
    assert certificate["configuration"]["model_name"] == "fc"
    dtype = {"bytes": "uint8", "floats": "float32", "integers": "int64"}[kind]
    inputs = certificate["side_information"]["inputs"]
    assert inputs["kind"] == ("tokens" if kind == "integers" else "features")
    assert inputs["tensors"] == {"inputs": {"shape": [FEATURES], "dtype": dtype}}
    assert pactl("verify", "run").code == 0


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_batch_norm_label_noise_and_copies(pactl: Call, arrays: Arrays, nets: str, kind: str) -> None:
    table = rows(arrays, kind)
    table["x_train"] = table["x_train"].copy()
    table["x_train"][[250, 251]] = table["x_train"][3]
    network = f"{nets}:normed"
    more = ("--label-noise", 0.1, "--duplicates", "drop", "--calibration-examples", 20, "--out", "run")
    run = pactl("train", "--dataset", write("table.npz", table), "--model-name", network, *OPTIONS, *more)
    assert run.code == 0, run.err
    certificate = pactl("bound", "run", "--quant-epochs", 1, "--model-name", network).json()
    assert certificate["bound_examples"] == 300 - 20 - 2
    assert certificate["configuration"]["calibration_examples"] == 20
    assert pactl("verify", "run", "--model-name", network).code == 0


@pytest.mark.parametrize("kind", ["bytes", "floats", "integers"])
def test_flattened_images_are_recognised(pactl: Call, trained: Path, arrays: Arrays, kind: str) -> None:
    """The source has seen nine tenths of the images as they were; its network takes as many numbers in a row."""
    dataset = write("table.npz", rows(arrays, kind))
    done = pactl("transfer", trained, "--dataset", dataset, "--intrinsic-dim", 20, "--epochs", 2, "--out", "run")
    assert done.code == 0, done.err
    certificate = pactl("bound", "run", "--quant-epochs", 1).json()
    assert certificate["side_information"]["excluded_examples"] == 270
    assert certificate["bound_examples"] == 30
    assert pactl("verify", "run").code == 0


@pytest.mark.parametrize("network", ["lenet5", "layer13s", "resnet20", "resnet18"])
def test_a_convolutional_network_says_that_it_takes_images(pactl: Call, arrays: Arrays, network: str) -> None:
    dataset = write("table.npz", rows(arrays, "floats"))
    line = pactl("train", "--dataset", dataset, "--model-name", network, "--out", "no").complaint(2)
    assert f"{network} cannot take 64 features: it takes images" in line


def test_flattened_colours_which_are_not_recognised_are_refused(pactl: Call, arrays: Arrays) -> None:
    colour = arrays | {name: np.repeat(arrays[name][:, None], 3, axis=1) for name in ("x_train", "x_test")}
    assert (
        pactl("train", "--dataset", write("colour.npz", colour), "--model-name", "fc", *OPTIONS, "--out", "source").code
        == 0
    )
    line = pactl("transfer", "source", "--dataset", write("flat.npz", rows(colour, "bytes")), "--out", "no").complaint(
        2
    )
    assert "the data are 192 features, and" in line
    assert "was trained on images of 3 x 8 x 8" in line


def test_a_transfer_to_a_table_of_another_width_is_refused(pactl: Call, arrays: Arrays) -> None:
    table = rows(arrays, "floats")
    assert pactl("train", "--dataset", write("table.npz", table), *OPTIONS, "--out", "source").code == 0
    wider = {name: np.pad(x, ((0, 0), (0, 1))) if x.ndim == 2 else x for name, x in table.items()}
    line = pactl("transfer", "source", "--dataset", write("wider.npz", wider), "--out", "no").complaint(2)
    assert "the data are 65 features, and" in line
    assert "was trained on 64 features" in line
