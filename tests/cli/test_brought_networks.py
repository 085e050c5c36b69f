"""A network of the user's own through the command line: certified, verified by who trusts its code, or refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]

NETS = """
from pathlib import Path
import torch
from torch import nn

Path("imported").touch()

def dense(classes, channels, *layers):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), *layers, nn.Linear(16, classes))

def other(classes, channels):
    return dense(classes, channels)

def convolutional(classes, channels, *layers, last=True):
    head = [nn.Flatten(), nn.Linear(32, classes)] if last else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(channels, 8 if last else classes, 3), *layers, nn.AdaptiveAvgPool2d(2), *head)

def normed(classes, channels):
    return convolutional(classes, channels, nn.BatchNorm2d(8))

def small_maps(classes, channels):
    return nn.Sequential(nn.Conv2d(channels, 8, 8), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, classes))

def frozen(classes, channels):
    network = dense(classes, channels)
    network[1].requires_grad_(False)
    return network

class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, maps):
        return self.function(self, maps)

def random(classes, channels):
    return dense(classes, channels, Apply(lambda _, x: nn.functional.dropout(x)))

def batch_mean(classes, channels):
    return dense(classes, channels, Apply(lambda _, x: x - x.mean(0)))

def no_statistics(classes, channels):
    return convolutional(classes, channels, nn.BatchNorm2d(8, track_running_stats=False))

def hidden_batch_mean(classes, channels):
    layer = Apply(lambda self, x: x + self.gate * x.mean(0))
    layer.gate = nn.Parameter(torch.zeros(16))
    return dense(classes, channels, layer)

def _running(self, x):
    if self.training:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
    return x - self.mean

def buffered(classes, channels):
    layer = Apply(_running)
    layer.register_buffer("mean", torch.zeros(16))
    return dense(classes, channels, layer)

def remembering(classes, channels):
    layer = Apply(_running)
    layer.mean = torch.zeros(16)
    return dense(classes, channels, layer)

def two_outputs(classes, channels):
    return dense(classes, channels, Apply(lambda self, x: (x, x) if self.training else x))[:4]

def auxiliary(classes, channels):
    return nn.Sequential(*dense(classes, channels), Apply(lambda self, x: (x, x) if self.training else x))

def detached(classes, channels):
    return nn.Sequential(*dense(classes, channels), Apply(lambda _, x: x.detach()))

def elsewhere(classes, channels):
    network = dense(classes, channels)
    weight = network[3].weight
    network.append(Apply(lambda _, x: x + weight.sum()))
    return network

def too_wide(classes, channels):
    return dense(classes + 1, channels)

def headless(classes, channels):
    layer = Apply(lambda self, x: x.flatten(1) @ self.weight)
    layer.weight = nn.Parameter(torch.empty(64, classes))
    nn.init.normal_(layer.weight)
    return nn.Sequential(layer)
"""


@pytest.fixture
def nets(tmp_path: Path) -> Iterator[str]:
    """The name of the module above, which lies in the working directory."""
    name = f"nets_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(NETS)
    yield name
    sys.modules.pop(name, None)


def options(npz: Path, network: str) -> tuple[object, ...]:
    return ("train", "--dataset", f"npz:{npz}", "--model-name", network, "--intrinsic-dim", 20, "--lr", 0.1)


@pytest.fixture
def certify(pactl: Call, npz: Path) -> Call:
    """`certify(network, out)`: trains and certifies; returns the certificate."""

    def run(network: str, out: str = "run", *more: object) -> Any:
        trained = pactl(*options(npz, network), "--epochs", 12, "--out", out, *more)
        assert trained.out == f"{out}\n", trained.err
        return pactl("bound", out, "--quant-epochs", 3, "--model-name", network).json()

    return run


def forget(nets: str) -> None:
    """As in a process that has not loaded it."""
    sys.modules.pop(nets, None)
    Path("imported").unlink(missing_ok=True)


# --- Certified and verified -------------------------------------------------------------------------------------------


def test_it_is_certified_and_verified_by_who_names_it(pactl: Call, certify: Call, nets: str) -> None:
    name = f"{nets}:dense"
    certificate = certify(name)
    assert certificate["error_bound"] < 0.65  # two thirds are by chance
    assert certificate["configuration"]["model_name"] == name
    assert certificate["configuration"]["base_width"] is None
    sentence = (
        f"The network {name}, brought by the user, was not chosen by looking at these examples, and is a function of "
        "one example at a time; this was tested on a few examples only."
    )
    assert sentence in certificate["assumptions"]
    forget(nets)
    verdict = pactl("verify", "run", "--model-name", name)
    assert verdict.out.startswith("verified: run\n")
    assert sentence in verdict.out


def test_code_is_not_loaded_unless_it_is_named(pactl: Call, certify: Call, nets: str) -> None:
    certify(f"{nets}:dense")
    forget(nets)
    line = pactl("verify", "run").complaint(2)
    assert f"--model-name {nets}:dense" in line
    line = pactl("verify", "run", "--model-name", f"{nets}:other").complaint(2)
    assert f"is not the network of run, which is {nets}:dense" in line
    assert "lenet5 is not the network" in pactl("verify", "run", "--model-name", "lenet5").complaint(2)
    assert not Path("imported").exists()
    assert nets not in sys.modules


def test_a_network_of_the_catalogue_may_be_named_too(pactl: Call, certified: Path) -> None:
    assert pactl("verify", certified, "--model-name", "fc_784_10").code == 0
    assert "which is fc" in pactl("verify", certified, "--model-name", "lenet5").complaint(2)
    assert "did you mean lenet5?" in pactl("verify", certified, "--model-name", "lenet55").complaint(2)


def test_code_that_is_gone_or_another(pactl: Call, certify: Call, nets: str, tmp_path: Path) -> None:
    name = f"{nets}:dense"
    certify(name)
    source = tmp_path / f"{nets}.py"
    for text, code, says in (
        (None, 2, "No module named"),
        ("", 2, "there is no function dense"),
        (NETS.replace("nn.ReLU()", "nn.Tanh()"), 1, "verification failed"),
        (NETS.replace("16", "17"), 1, "verification failed"),
    ):
        source.unlink()
        if text is not None:
            source.write_text(text)
        shutil.rmtree("__pycache__", ignore_errors=True)
        forget(nets)
        assert says in pactl("verify", "run", "--model-name", name).complaint(code)
        source.touch()


@pytest.mark.parametrize(("network", "calibration"), [("normed", 30), ("convolutional", 0), ("frozen", 0)])
def test_batch_statistics_are_known_of(pactl: Call, certify: Call, nets: str, network: str, calibration: int) -> None:
    certificate = certify(f"{nets}:{network}")
    assert certificate["configuration"]["calibration_examples"] == calibration
    assert certificate["bound_examples"] == 300 - calibration
    forget(nets)
    assert pactl("verify", "run", "--model-name", f"{nets}:{network}").code == 0


def test_what_training_leaves_in_a_network_does_not_reach_the_classifier(pactl: Call, certify: Call, nets: str) -> None:
    """A running mean in a plain attribute: the receiver has none, so who counts has none either."""
    certificate = certify(f"{nets}:remembering")
    forget(nets)
    assert pactl("verify", "run", "--model-name", f"{nets}:remembering", "--json").json()["verified"]
    assert certificate["errors"] < 150


def test_weights_that_are_not_trained_are_not_counted(pactl: Call, npz: Path, nets: str) -> None:
    refused = pactl(*options(npz, f"{nets}:frozen"), "--intrinsic-dim", 52, "--out", "run").complaint(2)
    assert "the number of weights that are trained, which is 51" in refused


def test_several_runs_may_have_one_network_of_ones_own(pactl: Call, certify: Call, nets: str) -> None:
    for network, out in ((f"{nets}:dense", "one"), (f"{nets}:dense", "two"), (f"{nets}:dense", "three")):
        certify(network, out, "--seed", len(out))
    named = ("--model-name", f"{nets}:dense")
    assert pactl("bound", "one", "two", "three", "--quant-epochs", 0, *named).code == 0
    certify(f"{nets}:other", "four")
    before = Path("one/manifest.json").read_bytes()
    assert f"if you trust it: --model-name {nets}:other" in pactl("bound", "one", "four", *named).complaint(2)
    assert Path("one/manifest.json").read_bytes() == before


def test_the_directory_has_a_plain_name(pactl: Call, npz: Path, nets: str) -> None:
    out = pactl(*options(npz, f"{nets}:dense"), "--epochs", 1).out.strip()
    assert f"-npz-{nets}.dense-rdkronqr-d20" in out
    assert json.loads(Path(out, "manifest.json").read_text())["stages"] == {"train": "complete"}


# --- Refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("random", "the same examples get other logits every time"),
        ("batch_mean", "depend on the others in its batch"),
        ("no_statistics", "depend on the others in its batch"),
        ("hidden_batch_mean", "depend on the others in its batch"),
        ("buffered", "training changes its buffer 3.mean"),
        ("auxiliary", "gives tuple for 4 examples"),
        ("two_outputs", "(4, 16) for 4 examples"),
        ("detached", "cannot be trained on a batch of 4: RuntimeError"),
        ("elsewhere", "its layers do not use the weights that are put in place of their own"),
        ("too_wide", "(4, 4) for 4 examples (it must give a tensor of logits of shape (4, 3))"),
        ("absent", "there is no function absent"),
    ],
)
def test_it_is_refused_before_anything_is_written(pactl: Call, npz: Path, nets: str, network: str, says: str) -> None:
    line = pactl(*options(npz, f"{nets}:{network}"), "--out", "run").complaint(2)
    assert f"--model-name {nets}:{network}" in line
    assert says in line
    assert not Path("run").exists()


def test_batches_of_one_that_batchnorm_cannot_take(pactl: Call, npz: Path, nets: str) -> None:
    named = ("--model-name", f"{nets}:small_maps")
    train = (*options(npz, f"{nets}:small_maps"), "--epochs", 1, "--out", "run")  # n = 270
    assert "--batch-size 1 is too small" in pactl(*train, "--batch-size", 1).complaint(2)
    assert pactl(*train, "--batch-size", 269).code == 0, "the one that is left over joins the batch before"
    assert "--batch-size 1 is too small" in pactl("bound", "run", "--batch-size", 1, *named).complaint(2)


def test_film_needs_something_to_work_on(pactl: Call, npz: Path, nets: str) -> None:
    for projector in ("film", "filmrdkron", "filmrdkronqr"):
        line = pactl(*options(npz, f"{nets}:headless"), "--intrinsic-mode", projector).complaint(2)
        assert f"--intrinsic-mode {projector} needs normalisation layers or a head" in line
    assert pactl(*options(npz, f"{nets}:headless"), "--epochs", 1, "--out", "run").code == 0


@pytest.mark.parametrize("network", ["squeezenet1_1", "{nets}:dense"])
def test_a_width_where_there_is_none(pactl: Call, npz: Path, nets: str, network: str) -> None:
    name = network.format(nets=nets)
    line = pactl(*options(npz, name), "--base-width", 8).complaint(2)
    assert f"--base-width 8: {name} has no base width" in line


@pytest.mark.parametrize("name", ["nets:", ":net", "a:b:c", "a/b:c", "nets.py:net()"])
def test_a_name_of_nothing(pactl: Call, name: str) -> None:
    assert "MODULE:FUNCTION" in pactl("train", "--model-name", name).complaint(2)
    assert "MODULE:FUNCTION" in pactl("verify", "run", "--model-name", name).complaint(2)


def test_an_image_that_a_network_cannot_take(pactl: Call, npz: Path) -> None:
    line = pactl(*options(npz, "alexnet")).complaint(2)
    assert "--model-name alexnet cannot take images of 1 x 8 x 8" in line


def test_a_network_of_ones_own_is_not_compared_with_one_of_the_catalogue(pactl: Call, nets: str, npz: Path) -> None:
    """Their headers are of two codes: the same bits name both."""
    run = ("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--intrinsic-dim", 10, "--out")
    assert pactl(*run, "theirs").code == 0
    assert pactl(*run, "mine", "--model-name", f"{nets}:dense").code == 0
    named = ("--model-name", f"{nets}:dense", "--quant-epochs", 0)
    complaint = pactl("bound", "theirs", "mine", *named).complaint(2)
    assert f"different networks of your own, {nets}:dense and the catalogue's" in complaint
