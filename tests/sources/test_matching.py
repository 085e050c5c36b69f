"""Weights of usual checkpoints fit a network, and errors say why others do not."""

from __future__ import annotations

import argparse
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from pactl_cli.catalogue import IMAGENET_STATISTICS
from pactl_cli.errors import PactlError
from pactl_cli.models.initialisation import sketched
from pactl_cli.problem.display import Silence
from pactl_cli.runs.settings import TransferSettings
from pactl_cli.sources import torchvision as pretrained
from pactl_cli.sources.matching import Match, match
from pactl_cli.sources.weights import Weights, read_weights

Tensors = dict[str, Tensor]


class Net(nn.Module):
    """A network whose last layer is not its head, with tied weights and a constant."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.head = nn.Linear(4, classes)
        self.features = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
        self.again = self.features[2]
        self.register_buffer("places", torch.arange(4))


def own(classes: int = 5, channels: int = 1) -> Tensors:
    torch.manual_seed(0)
    return dict(Net(classes, channels).state_dict())


def matched(tensors: Tensors, head: str | None = None) -> Match:
    return match(Weights("--weights w.pth", tensors), Net, "Net", head)


FORMS: dict[str, Callable[[Tensors], Any]] = {
    "plain": lambda t: t,
    "state_dict": lambda t: {"epoch": 3, "state_dict": t},
    "model and its average": lambda t: {"model": {k: 0 * v for k, v in t.items()}, "model_ema": t, "lr": 0.1},
    "nested": lambda t: {"ema": {"module": t}},
    "module.": lambda t: {f"module.{k}": v for k, v in t.items()},
    "compiled, in parallel": lambda t: {"model_state_dict": {f"module._orig_mod.{k}": v for k, v in t.items()}},
    "averaged by torch": lambda t: {"n_averaged": torch.tensor(7)} | {f"module.{k}": v for k, v in t.items()},
    "lightning": lambda t: {"state_dict": {f"model.{k}": v for k, v in t.items()} | {"loss.weight": torch.ones(2)}},
    "half precision": lambda t: {k: v.half() if k != "places" else v for k, v in t.items()},
    "bfloat16": lambda t: {k: v.bfloat16() if v.is_floating_point() else v for k, v in t.items()},
    "no counters": lambda t: {k: v for k, v in t.items() if not k.endswith("num_batches_tracked")},
    "no constants": lambda t: {k: v for k, v in t.items() if k != "places"},
    "one of tied weights": lambda t: {k: v for k, v in t.items() if not k.startswith("again")},
    "the other": lambda t: {k: v for k, v in t.items() if not k.startswith("features.2")},
    "auxiliary heads": lambda t: t | {"aux1.fc.weight": torch.ones(3, 3), "AuxLogits.conv.weight": torch.ones(2)},
    "settings of a script": lambda t: {"model": t, "args": argparse.Namespace(lr=3)},
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_found_in_every_usual_form(tmp_path: Path, form: str) -> None:
    expected = own()
    torch.save(FORMS[form](expected), tmp_path / "w.pth")
    found = match(read_weights(tmp_path / "w.pth"), Net, "Net", None)
    assert (found.classes, found.channels, found.head) == (5, 1, ("head.weight", "head.bias"))
    assert found.tensors.keys() == expected.keys()
    for name, tensor in found.tensors.items():
        assert tensor.dtype == expected[name].dtype
        tolerance = 0.01 if form in ("half precision", "bfloat16") else 0.0
        assert torch.allclose(tensor.double(), expected[name].double(), rtol=tolerance, atol=tolerance), name


def test_safetensors(tmp_path: Path) -> None:
    save_file({name: tensor.clone() for name, tensor in own().items()}, tmp_path / "w.safetensors")
    assert match(read_weights(tmp_path / "w.safetensors"), Net, "Net", None).classes == 5


def test_which_of_a_files_weights_are_taken_is_said(tmp_path: Path) -> None:
    torch.save(FORMS["model and its average"](own()), tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth").note.endswith('w.pth: its "model_ema" is taken, not model')
    torch.save(own(), tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth").note == ""
    (note,) = matched(FORMS["averaged by torch"](own())).notes
    assert note == "--weights w.pth: 1 of 15 tensors are outside of the network"


def test_a_head_that_is_built_otherwise_is_drawn_anew() -> None:
    tensors = own()
    tensors = {name: t for name, t in tensors.items() if not name.startswith("head")} | {"head.1.weight": torch.ones(7)}
    found = matched(tensors)
    assert "head.weight" not in found.tensors
    assert found.notes == ("--weights w.pth have no head that fits head: it is drawn from the seed",)


def test_a_network_around_the_one_that_was_trained() -> None:
    class Around(nn.Module):
        def __init__(self, classes: int, channels: int) -> None:
            super().__init__()
            self.inner = Net(classes, channels)

    found = match(Weights("w", own()), Around, "Around", None)
    assert (found.classes, found.head[0]) == (5, "inner.head.weight")


def test_a_function_that_knows_neither_classes_nor_channels() -> None:
    def fixed(classes: int, channels: int) -> nn.Module:
        return Net(5, 3)

    tensors = own(5, 3)
    assert matched(tensors).head == ("head.weight", "head.bias")
    by_order = match(Weights("w", tensors), fixed, "fixed", None)
    assert by_order.head[0] == "features.2.weight", "all that can be told"
    named = match(Weights("w", tensors), fixed, "fixed", "head")
    assert (named.classes, named.channels, named.head) == (5, 3, ("head.weight", "head.bias"))


@pytest.mark.parametrize(
    ("change", "head", "says"),
    [
        ({"features.0.weight": torch.ones(4, 1, 5, 5)}, None, "features.0.weight is float32 (4, 1, 5, 5), not float32"),
        ({"head.bias": torch.ones(5) / 0}, None, "w.pth: head.bias has numbers that are not finite"),
        ({"head.weight": torch.ones(5, 9)}, None, "head.weight is float32 (5, 9), not float32 (5, 4)"),
        ({"features.0.weight": torch.ones(1).half().expand(1 << 46)}, None, "features.0.weight is float16 (7036"),
        ({"features.0.weights": torch.ones(1)}, None, 'no place for "features.0.weights"'),
        ({}, "haed", "--head haed: Net has no such layer (choose from head, or leave it out)"),
        ({}, "features.0", "--head features.0: its size does not follow the number of classes (choose from head"),
        ({}, "", "--head : Net has no such layer"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: Tensors, head: str | None, says: str) -> None:
    with pytest.raises(PactlError) as caught:
        matched(own() | change, head)
    assert says in caught.value.one_line()


def test_weights_without_numbers(tmp_path: Path) -> None:
    torch.save(own() | {"head.weight": torch.empty(5, 4, device="meta")}, tmp_path / "w.pth")
    with pytest.raises(PactlError, match='no numbers for "head'):
        read_weights(tmp_path / "w.pth")


def test_the_nearest_names_are_told() -> None:
    renamed = {name.replace("features", "backbone"): tensor for name, tensor in own().items()}
    with pytest.raises(PactlError) as caught:
        matched(renamed)
    assert 'no place for "backbone.0.weight" (nearest: "features.0.weight")' in caught.value.one_line()
    assert 'features.0.weight is missing (nearest: "backbone.0.weight")' in caught.value.one_line()


def test_what_was_not_taken_is_told_if_the_weights_do_not_fit(tmp_path: Path) -> None:
    torch.save({"model": own(), "ema": {"head.bias": torch.ones(5)}}, tmp_path / "w.pth")
    with pytest.raises(PactlError, match="is missing") as caught:
        match(read_weights(tmp_path / "w.pth"), Net, "Net", None)
    assert caught.value.hint == 'give the weights of this network; its "ema" is taken, not model'
    torch.save({"model": own(), "ema": {"decay": 0.9}}, tmp_path / "w.pth")
    with pytest.raises(PactlError, match='"decay" is float') as caught:
        read_weights(tmp_path / "w.pth")
    assert caught.value.hint.startswith('its "ema" is taken, not model; save them')


# --- torchvision's own files ------------------------------------------------------------------------------------------

OLD_NAMES: dict[str, tuple[str, Any]] = {
    "densenet": (r"(denselayer\d+\.(?:norm|conv))(\d\.)", r"\1.\2"),
    "vit": (r"mlp\.([03])\.", lambda found: f"mlp.linear_{1 if found[1] == '0' else 2}."),
}
QUICK = ("resnet18", "squeezenet1_1", "vit_b_32", "mnasnet0_5", "googlenet")
OTHERS = sorted(set(torchvision.models.list_models(module=torchvision.models)) - set(QUICK))


def published(name: str) -> Weights:
    """Return torchvision's weights without numbers, in the form in which it published the oldest."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network = sketched(lambda: torchvision.models.get_model(name, weights=None, **options))
    tensors: Tensors = OrderedDict()
    for key, tensor in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            old, new = OLD_NAMES.get(re.split(r"[\d_]", name)[0], ("", ""))
            tensors[re.sub(old, new, key) if old else key] = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
    return Weights(f"torchvision's weights of {name}", tensors)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_published_weights_fit(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(pretrained, "_download", published)
    start = pretrained.load(name, TransferSettings(source=f"torchvision:{name}"), Silence())
    assert start.classes == 1000
    assert all(1000 in start.tensors[key].shape for key in start.head)
    side = 299 if name == "inception_v3" else max(start.spec.sides)
    assert start.spec.image_shape == (3, side, side)
    assert start.fits(start.spec)
    offered = [weights.transforms.keywords for weights in torchvision.models.get_model_weights(name)]
    assert side in [each["crop_size"] for each in offered]
    is_one_half = name in ("inception_v3", "googlenet", "efficientnet_v2_l")
    assert start.statistics == (None if is_one_half else IMAGENET_STATISTICS)
    best = torchvision.models.get_model_weights(name).DEFAULT.transforms.keywords
    assert set(best.get("mean", ())) <= {0.5}, "ImageNet's, where torchvision names none"
