"""All of torchvision's classification models, built without weights, which is quick."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import list_models

from pactl_cli import catalogue
from pactl_cli.errors import PactlError
from pactl_cli.models import build_network, sketch_network
from pactl_cli.models.initialisation import sketched
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.layers import find_head, parameter_layout
from pactl_cli.models.normalisation import batch_norms
from pactl_cli.models.torchvision_models import torchvision_network

NAMES = [entry.name for entry in catalogue.MODELS.values() if entry not in catalogue.OWN_MODELS]
SIDES = {"alexnet": 64, "inception_v3": 75, "maxvit_t": 224, "vit_h_14": 28}
"""The sides of images for the models that do not take 32 x 32."""
QUICK = {"squeezenet1_0", "squeezenet1_1", "alexnet", "vgg11_bn", "resnet18", "googlenet", "mnasnet0_5", "vit_b_16"}
"""One model for each kind of head; the tests that take long mark all others as slow."""


def shape(name: str, channels: int = 1) -> tuple[int, int, int]:
    side = SIDES.get(name, 32)
    return channels, side, side


def sketch(name: str, classes: int = 3, channels: int = 1) -> nn.Module:
    """Return a model without its weights."""
    return sketch_network(name, classes=classes, inputs=InputSpec.image(*shape(name, channels)), width=None)


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_no_model_of_torchvision_is_missing() -> None:
    assert sorted(NAMES) == sorted(list_models(module=torchvision.models))


@pytest.fixture
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the trial on an image, which takes long and has tests of its own."""
    monkeypatch.setattr("pactl_cli.models._require_fit", lambda *_: None)


@pytest.mark.usefixtures("_unchecked")
@pytest.mark.parametrize("name", NAMES)
def test_every_model_constructs_for_three_classes_and_one_channel(name: str) -> None:
    network = sketched(partial(torchvision_network, name, 3, InputSpec.image(1, 224, 224)))
    assert {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} == {"meta"}
    assert bool(batch_norms(network)) == catalogue.MODELS[name].batch_statistics
    [(_, head)] = find_head(network)
    assert (head.out_features if isinstance(head, nn.Linear) else head.out_channels) == 3
    [first] = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.in_channels in (1, 3)]
    published = size(network) + 2 * first.weight.numel() + (1000 - 3) * size(head) // 3
    assert catalogue.MODELS[name].summary == f"torchvision's; {published:,} parameters for 1,000 classes in colour"
    layout = parameter_layout(network)
    assert (layout.size, len(layout.head)) == (size(network), size(head))
    assert len(layout.normalisation) > 0 or name.startswith(("alexnet", "squeezenet", "vgg"))


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in NAMES])
@torch.no_grad()
def test_images_become_logits_through_the_head(name: str) -> None:
    """A model that does not give logits is refused when it is constructed."""
    assert sketch(name).eval()(torch.empty(2, *shape(name), device="meta")).shape == (2, 3)


@pytest.mark.parametrize("channels", [2, 3])
def test_only_the_channels_of_the_first_convolution_differ(channels: int) -> None:
    one, other = (sketch("resnet18", channels=number) for number in (1, channels))
    for (name, mine), (_, its) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert mine.shape == its.shape or name == "conv1.weight"
    assert str(one.conv1) == str(other.conv1).replace(f"Conv2d({channels},", "Conv2d(1,")


def test_weights_are_those_of_the_seed() -> None:
    image = (3, 32, 32)
    one, other, third = (
        build_network("shufflenet_v2_x0_5", classes=3, inputs=InputSpec.image(*image), width=None, seed=seed)
        for seed in (5, 5, 6)
    )
    for mine, same in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, same)
    assert not torch.equal(one.state_dict()["fc.weight"], third.state_dict()["fc.weight"])


@pytest.mark.parametrize(
    ("name", "image", "reason"),
    [
        ("alexnet", (1, 32, 32), "too small"),
        ("vgg11", (3, 28, 28), "too small"),
        ("densenet121", (3, 16, 16), "too small"),
        ("inception_v3", (3, 32, 32), "(Kernel|Output) size"),
        ("maxvit_t", (3, 32, 32), "not"),
        ("vit_b_16", (1, 28, 28), "patch size"),
        ("vit_b_16", (1, 32, 48), "Wrong image width"),
    ],
)
def test_images_that_do_not_fit_are_refused_by_name(name: str, image: tuple[int, int, int], reason: str) -> None:
    with pytest.raises(PactlError, match=f"{name} cannot take {InputSpec.image(*image)}: .*{reason}"):
        build_network(name, classes=3, inputs=InputSpec.image(*image), width=None, seed=137)
