"""The user's own network: it is found, called and checked, and every failure is an error that names it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pactl_cli import catalogue
from pactl_cli.certificate.task import Brought
from pactl_cli.errors import MissingError, PactlError
from pactl_cli.models import build_network
from pactl_cli.models.brought import describe
from pactl_cli.models.inputs import InputSpec

HEAD = """
import random
import torch
from torch import nn

def plain(classes, channels, *layers):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), *layers, nn.Flatten(), nn.Linear(4 * 36, classes))
"""

Named = Callable[[str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Named]:
    """Return a function that writes a module with some source into the working directory, and returns its name."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def write(source: str) -> str:
        name = f"brought_{tmp_path.name}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(HEAD + source)
        return name

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("brought_"):
            del sys.modules[name]


def complaint(name: str) -> PactlError:
    with pytest.raises(PactlError) as refusal:
        describe(name, classes=3, channels=2)
    assert f"--model-name {name}" in refusal.value.one_line()
    assert refusal.value.exit_code == 2
    return refusal.value


def test_its_description_has_its_batch_statistics(module: Named) -> None:
    name = module("def normed(classes, channels): return plain(classes, channels, nn.BatchNorm2d(4))")
    entry = Brought(f"{name}:plain", None, False)
    assert describe(f"{name}:plain", classes=3, channels=2) == entry
    assert describe(f"{name}:normed", classes=3, channels=2).batch_statistics
    assert not [place for place in sys.path if Path(place) == Path.cwd()]


def test_it_is_called_with_classes_and_channels_and_drawn_from_the_seed(module: Named) -> None:
    name = f"{module('')}:plain"
    one, same, other = (
        build_network(name, classes=3, inputs=InputSpec.image(2, 8, 8), width=None, seed=seed)
        for seed in (137, 137, 138)
    )
    assert one(torch.zeros(5, 2, 8, 8)).shape == (5, 3)
    drawn, again, others = (network.state_dict()["0.weight"] for network in (one, same, other))
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, others)


def test_a_class_is_called_like_a_function_and_weights_become_float32(module: Named) -> None:
    name = module("class Net(nn.Linear):\n    def __init__(self, c, k): super().__init__(k, c, dtype=torch.float64)")
    assert (
        build_network(f"{name}:Net", classes=3, inputs=InputSpec.image(2, 8, 8), width=None, seed=1).weight.dtype
        == torch.float32
    )


def test_what_it_prints_goes_to_stderr(module: Named, capsys: pytest.CaptureFixture[str]) -> None:
    name = module("print('hello')\ndef loud(classes, channels): print('world'); return plain(classes, channels)")
    describe(f"{name}:loud", classes=3, channels=2)
    assert capsys.readouterr() == ("", "hello\nworld\nworld\n")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("raise ValueError('no GPU')", "cannot be imported: ValueError: no GPU"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("raise SystemExit(3)", "SystemExit"),
        ("def net(:", "SyntaxError"),
        ("", "there is no function net in"),
        ("net = 3", "there is no function net in"),
    ],
)
def test_a_missing_module_or_function_is_reported(module: Named, source: str, says: str) -> None:
    error = complaint(f"{module(source)}:net")
    assert isinstance(error, MissingError)
    assert says in error.message


def test_a_module_that_does_not_exist_is_reported(module: Named) -> None:
    assert "No module named 'nowhere'" in complaint("nowhere:net").message


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise KeyError('x')", "fails when it is called with 3 classes and 2 channels: KeyError: 'x'"),
        ("return None", "returns NoneType, not a torch.nn.Module"),
        ("return nn.Flatten()", "no parameters to train"),
        ("return plain(classes, channels).requires_grad_(False)", "no parameters to train"),
        ("return plain(classes, channels).to('meta')", "is on meta"),
        ("return plain(classes, channels, nn.SyncBatchNorm(4))", "SyncBatchNorm"),
        ("return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))", "has no size yet"),
        ("return plain(classes, channels, nn.LazyBatchNorm2d())", "has no size yet"),
        ("n = plain(classes, channels); n.p = nn.Parameter(torch.zeros(2) * 1j); return n", "p is of torch.complex64"),
        (
            "n = plain(classes, channels); n.p = nn.Parameter(torch.arange(2), requires_grad=False); return n",
            "p is of torch.int64",
        ),
        (
            "n = plain(classes, channels); nn.init.normal_(n[0].weight); n.x = torch.rand(2); return n",
            "draws through aten.rand.default",
        ),
        (
            "n = plain(classes, channels); nn.init.constant_(n[0].weight, random.random()); return n",
            "another network at every call",
        ),
        (
            "n = plain(classes, channels); n.register_buffer('b', torch.tensor(random.random())); return n",
            "another network at every call",
        ),
        (
            "return plain(classes, channels, *[nn.PReLU() for _ in range(KEPT.append(1) or len(KEPT))])",
            "another network at every call",
        ),
        ("return ONE", "the same network, or the same weights"),
        ("return nn.Sequential(nn.Flatten(), *ONE[2:])", "the same network, or the same weights"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused(module: Named, body: str, says: str) -> None:
    name = module(f"KEPT, ONE = [], plain(3, 2)\ndef net(classes, channels):\n    {body}")
    assert says in complaint(f"{name}:net").message


@pytest.mark.parametrize("name", ["a:b:c", ":b", "a:", "a b:c", "a:b.c", "a/b:c", "3a:b", "a..b:c", ":"])
def test_a_wrong_name_of_a_function_is_refused(name: str) -> None:
    with pytest.raises(PactlError) as refusal:
        catalogue.model_name(name)
    assert refusal.value.one_line() == f"--model-name {name!r} is not a module and a function (write MODULE:FUNCTION)"


def test_names_of_functions_and_aliases() -> None:
    assert catalogue.model_name("package.module:net") == "package.module:net"
    aliases = {
        "LeNet5": "lenet5",
        "LeNet": "lenet",
        "Layer13s": "layer13s",
        "fc_784_10": "fc",
        "squeezenet": "squeezenet1_0",
        "SqueezeNet": "squeezenet1_0",
        "surgery_efficientnet_b0": "efficientnet_b0",
        "resnet20": "resnet20",
        "resnet18k": "resnet18k",
    }
    assert {alias: catalogue.model_name(alias) for alias in aliases} == aliases
