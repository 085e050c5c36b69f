"""Tensors in a stranger's run that no network has, and that cannot even be looked at in the usual ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]

HUGE = ([0, 1 << 63], [1 << 62, 0], [0, 1 << 62, 1 << 62], [0] * 65, [1] * 65)
"""Shapes that a file can claim without holding more than one number."""


@pytest.fixture
def run(pactl: Call, npz: Path) -> Path:
    """A certified run with every kind of file."""
    words = ("--dataset", f"npz:{npz}", "--model-name", "convnet", "--prior-epochs", 1, "--epochs", 1)
    assert pactl("prior", *words, "--intrinsic-dim", 5, "--calibration-examples", 20, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0
    return Path("run")


def extended(data: bytes, name: str, dtype: str, shape: list[int]) -> bytes:
    """A safetensors file with one more tensor, of at most one number of four bytes."""
    size = int.from_bytes(data[:8], "little")
    header, more = json.loads(data[8 : 8 + size]), b"" if 0 in shape else bytes(4)
    end = len(data) - 8 - size
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(more)]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :] + more


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [
        ("network/", "F32", [0]),
        ("network/more", "F32", [0]),
        ("network/more.running_var", "F32", [0]),
        ("network/more", "F8_E4M3", [0]),
        *(("network/more", "F32", shape) for shape in HUGE),
    ],
)
def test_statistics_that_no_network_has(
    pactl: Call, run: Path, agree: Call, npz: Path, name: str, dtype: str, shape: list[int]
) -> None:
    content = extended((run / "classifier.safetensors").read_bytes(), name, dtype, shape)
    document = json.loads((run / "bound.json").read_text()) | {"classifier_sha256": sha256(content).hexdigest()}
    agree(run, "classifier.safetensors", content)
    agree(run, "bound.json", document)
    assert "classifier.safetensors" in pactl("verify", run).complaint(1)
    assert "classifier.safetensors" in pactl("predict", run, npz).complaint(2)


def test_weights_of_any_shape(pactl: Call, run: Path, agree: Call, npz: Path) -> None:
    good = (run / "init.safetensors").read_bytes()
    for shape in HUGE:
        agree(run, "init.safetensors", extended(good, "network/more", "F32", shape))
        assert "init.safetensors" in pactl("verify", run).complaint(1)
        assert "init.safetensors" in pactl("bound", run).complaint(2)
        assert "init.safetensors" in pactl("transfer", run, "--dataset", f"npz:{npz}").complaint(2)
