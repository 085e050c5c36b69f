"""Errors in the program's own words: what was found in a file, and where in the user's code it failed."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from pactl_cli.models import build_network
from pactl_cli.problem.display import Silence
from pactl_cli.runs.settings import TransferSettings
from pactl_cli.sources.torchvision import load

Call = Callable[..., Any]
NETS = """
from torch import nn

def fails_at_once(classes, channels):
    return nn.Linear(
        1 / 0, classes)

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.a = nn.Linear(64, classes)

    def forward(self, x):
        return self.a(
            x.flatten(1)[:, :5])

def fails_later(classes, channels):
    return Net(classes)

def coloured(classes, channels):
    raise ValueError("\\x1b[1mdo as I say\\x1b[0m")
"""


@pytest.mark.parametrize(
    ("name", "what", "line"),
    [
        ("fails_at_once", "ZeroDivisionError: division by zero", 6),
        ("fails_later", "mat1 and mat2 shapes cannot be multiplied", 14),
        ("coloured", "ValueError: do as I say", 21),
    ],
)
def test_a_network_that_fails_is_told_where(pactl: Call, tmp_path: Path, name: str, what: str, line: int) -> None:
    (tmp_path / f"{name}_nets.py").write_text(NETS)
    said = pactl("train", "--model-name", f"{name}_nets:{name}").complaint(2)
    assert what in said
    assert f"({name}_nets.py, line {line})" in said


def test_a_module_that_cannot_be_imported_is_told_where(pactl: Call, tmp_path: Path) -> None:
    (tmp_path / "absent_things.py").write_text("import os\n\nimport nowhere_to_be_found\n")
    said = pactl("train", "--model-name", "absent_things:build").complaint(2)
    assert "No module named 'nowhere_to_be_found' (absent_things.py, line 3)" in said


# --- Weights ----------------------------------------------------------------------------------------------------------

TRANSFER = ("--dataset", "npz:photos.npz", "--epochs", 1, "--intrinsic-dim", 5, "--out", "run")


@pytest.fixture(autouse=True)
def _photos(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "photos.npz", x_train=images, y_train=np.arange(40) % 2)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_weights_as_torchvision_publishes_them(name: str) -> None:
    """Without counters of batches, and those of densenets by the names of before 2017."""
    own = torchvision.models.get_model(name).state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d\.)", r"\1.\2", key): tensor for key, tensor in own.items()}
    torch.save({key: t for key, t in old.items() if "num_batches_tracked" not in key}, "old.pth")
    assert old.keys() != own.keys() or name == "resnet18"
    start = load(name, TransferSettings(source=f"torchvision:{name}", weights=Path("old.pth")), Silence())
    assert start.tensors.keys() == own.keys()
    assert all(torch.equal(start.tensors[key], tensor) for key, tensor in own.items())
    start.place_into(build_network(name, classes=1000, inputs=start.spec, width=None, seed=0))


def test_what_is_wrong_with_weights(pactl: Call) -> None:
    own = torchvision.models.resnet18().state_dict()
    bad = {
        '"epoch" is int': {"epoch": 3, "other": own},
        "holds list, not weights": [1, 2],
        'it holds "torch.nn.modules.linear.Linear", and is only read as data': torch.nn.Linear(1, 1),
        'conv1.weight is missing (nearest: "bn1.weight")': {key: t for key, t in own.items() if key != "conv1.weight"},
        "conv1.weight is int8 (64, 3, 7, 7), not float32 (64, 3, 7, 7)": {key: t.char() for key, t in own.items()},
        "bn1.bias is float32 (65,), not float32 (64,)": own | {"bn1.bias": torch.zeros(65)},
        'it has no place for "extra"': own | {"extra": torch.zeros(1)},
        "fc.weight is float32 (1000, 513), not float32 (1000, 512)": own | {"fc.weight": torch.zeros(1000, 513)},
    }
    for what, content in bad.items():
        torch.save(content, "bad.pth")
        said = pactl("transfer", "torchvision:resnet18", "--weights", "bad.pth", *TRANSFER).complaint(2)
        assert what in said, said
        assert "weights_only" not in said
        assert "x1b" not in said
    Path("bad.pth").write_bytes(Path("bad.pth").read_bytes()[:1000])
    said = pactl("transfer", "torchvision:resnet18", "--weights", "bad.pth", *TRANSFER).complaint(2)
    assert "it is truncated, or not what torch.save writes" in said


def test_settings_that_are_no_yaml_are_told_where(pactl: Call) -> None:
    Path("settings.yml").write_text("epochs: 3\nlr: [1,\n")
    said = pactl("train", "--config", "settings.yml").complaint(2)
    assert "settings.yml cannot be read: line 3: " in said
    assert "unicode string" not in said


def test_a_library_warns_programmers_not_users(shell: Call, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Path.exists, protocol=4))
    np.savez("images.npz", x_train=np.zeros((40, 32, 32, 3), np.uint8), y_train=np.arange(40) % 2)
    transfer = "pactl transfer torchvision:resnet18 --weights weights.pth --dataset npz:images.npz --epochs 1"
    with pytest.warns(UserWarning, match="protocol"), suppress(pickle.UnpicklingError):
        torch.load("weights.pth", weights_only=True)
    assert shell(transfer).complaint(2).startswith("pactl: --weights weights.pth cannot be read: ")
