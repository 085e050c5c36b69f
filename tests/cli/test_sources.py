"""Weights from files and packages through transfer, bound and verify; and what is refused, in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

Call = Callable[..., Any]

NETS = """
from pathlib import Path
import torch
from torch import nn

Path("imported").touch()

def small(classes, channels):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, classes))

def rows(classes, channels):
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, classes))
"""
QUICK = ("--epochs", 1, "--intrinsic-dim", 5, "--out", "run")


@pytest.fixture
def nets() -> Iterator[None]:
    """The user's own networks, and weights of the first, for seven classes in colour."""
    Path("nets.py").write_text(NETS)
    sys.modules.pop("nets", None)
    torch.manual_seed(0)
    first = {"0.weight": torch.randn(4, 3, 3, 3), "0.bias": torch.zeros(4)}
    norm = {"1.weight": torch.ones(4), "1.bias": torch.zeros(4)}
    norm |= {"1.running_mean": torch.zeros(4), "1.running_var": torch.ones(4)}
    head = {"4.weight": torch.randn(7, 4), "4.bias": torch.zeros(7)}
    torch.save({"model": {f"module.{name}": t for name, t in (first | norm | head).items()}}, "small.pt")
    yield
    sys.modules.pop("nets", None)


@pytest.fixture
def photographs() -> str:
    """Pictures of many sizes in two classes."""
    random = np.random.default_rng(0)
    for number in range(40):
        place = Path("photographs/train", ("dark", "light")[number % 2], f"{number}.png")
        place.parent.mkdir(parents=True, exist_ok=True)
        sides = random.integers(20, 60, 2)
        Image.fromarray(random.integers(0, 128, (*sides, 3), dtype=np.uint8) + np.uint8(127 * (number % 2))).save(place)
    return "folder:photographs"


def certified(pactl: Call, *options: object) -> dict[str, Any]:
    """The certificate of a run, verified."""
    document: dict[str, Any] = pactl("bound", "run", "--quant-epochs", 0, *options).json()
    assert pactl("verify", "run", *options).code == 0
    return document


@pytest.mark.slow
def test_a_large_network_on_photographs_of_any_size(pactl: Call, photographs: str) -> None:
    torch.manual_seed(0)
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save({"state_dict": {f"module.{name}": tensor.half() for name, tensor in state.items()}}, "resnet18.pth")
    options = ("--weights", "resnet18.pth", "--dataset", photographs, "--batch-size", 20, *QUICK)
    assert pactl("transfer", "torchvision:resnet18", *options).code == 0
    document = certified(pactl, "--model-name", "resnet18")
    assert document["configuration"]["image_size"] == 224
    assert document["bits"]["configuration"] <= 20, "the size is the source's, and known"
    smaller = (*options[:-1], "smaller", "--image-size", 64)
    assert pactl("transfer", "torchvision:resnet18", *smaller).code == 0
    paid = pactl("bound", "smaller", "--quant-epochs", 0).json()
    assert paid["configuration"]["image_size"] == 64


def test_the_users_own_network_with_a_file(pactl: Call, nets: None, photographs: str) -> None:
    options = ("--weights", "small.pt", "--dataset", photographs, "--image-size", 16, *QUICK)
    done = pactl("transfer", "nets:small", *options)
    assert (done.code, done.out) == (0, "run\n"), done
    assert '--weights small.pt: its "model" is taken' in done.err
    document = certified(pactl, "--model-name", "nets:small")
    assert document["configuration"]["model_name"] == "nets:small"
    assert document["side_information"]["classes"] == 2
    assert any("not trained on any of them" in line for line in document["assumptions"])
    again = pactl("transfer", "nets:small", *options, "--resume")
    assert (again.code, again.out) == (0, "run\n"), again


def test_weights_for_rows(pactl: Call, nets: None) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 6)).astype(np.float32)
    np.savez("rows.npz", x_train=rows, y_train=(rows[:, 0] > 0).astype(np.int64))
    weights = {"0.weight": torch.eye(8, 6), "0.bias": torch.zeros(8), "2.weight": torch.zeros(2, 8)}
    torch.save(weights | {"2.bias": torch.zeros(2)}, "rows.pth")
    assert pactl("transfer", "nets:rows", "--weights", "rows.pth", "--dataset", "npz:rows.npz", *QUICK).code == 0
    certified(pactl, "--model-name", "nets:rows")


def test_the_users_code_is_imported_where_the_command_line_names_it(pactl: Call, nets: None, photographs: str) -> None:
    settings = {"source": "nets:small", "weights": "small.pt", "dataset": photographs, "image_size": 16}
    Path("settings.yml").write_text(json.dumps(settings))
    options = ("--config", "settings.yml", *QUICK, "--intrinsic-dim", 0)
    line = pactl("train", *options).complaint(2)
    assert "not loaded unasked" in line
    line = pactl("train", *options, "--model-name", "lenet5").complaint(2)
    assert "not loaded unasked" in line
    assert not Path("imported").exists()


@pytest.mark.parametrize(
    ("source", "options", "says"),
    [
        ("nets:small", (), "--weights FILE"),
        ("nets:absent", ("--weights", "small.pt"), "there is no function absent"),
        ("nets:small", ("--weights", "gone.pth"), "there is no such file"),
        ("nets:small", ("--weights", "small.pt", "--head", "5"), "no such layer (choose from 4, or leave it out)"),
        ("nets:small", ("--weights", "small.pt", "--head", "0"), "its size does not follow the number of classes"),
        ("nets:rows", ("--weights", "small.pt"), "are not those of nets:rows"),
        ("nets:small", ("--weights", "small.pt", "--source-dataset", "digits"), "is no run"),
        ("torchvision:resnet18", ("--weights", "small.pt"), "are not those of torchvision's resnet18"),
        ("timm:resnt18", ("--weights", "small.pt"), "the nearest: resnet18"),
        ("timm:resnet18.none", ("--weights", "small.pt"), "(give timm:resnet18)"),
        ("timm:hf-hub", ("--weights", "small.pt"), "timm has no such network"),
    ],
)
def test_what_is_refused(
    pactl: Call, nets: None, photographs: str, source: str, options: tuple[object, ...], says: str
) -> None:
    if source.startswith("timm"):
        pytest.importorskip("timm")
    assert says in pactl("transfer", source, *options, "--dataset", photographs, *QUICK).complaint(2)
    assert not Path("run").exists()


def test_timm_that_is_absent(pactl: Call, photographs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "timm.models"):
        monkeypatch.setitem(sys.modules, name, None)
    line = pactl("transfer", "timm:resnet18", "--dataset", photographs, *QUICK).complaint(2)
    assert "timm:resnet18 needs timm, which is not installed (pip install timm)" in line


@pytest.mark.slow
def test_timms_networks_with_its_preparation(pactl: Call, photographs: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("test_vit", num_classes=9)
    torch.save({"state_dict": network.state_dict(), "state_dict_ema": network.state_dict()}, "vit.pth")
    options = ("--weights", "vit.pth", "--dataset", photographs, *QUICK)
    assert pactl("transfer", "timm:test_vit.r160_in1k", *options).code == 0
    document = certified(pactl)
    assert (document["configuration"]["model_name"], document["configuration"]["image_size"]) == ("timm:test_vit", 160)
    assert document["configuration"]["normalisation"] is None, "timm's is .5 and .5 here, and costs no bits"
    other = pactl("transfer", "timm:test_vit", *options[:-1], "other", "--image-size", 64)
    assert (other.code, other.out) == (2, "")
    assert "its weights have another shape for these (--image-size 160)" in other.err.splitlines()[-1]
