"""Our own networks: their sizes, their weights from a seed, and predictions that depend on one example only."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from pactl_cli import catalogue
from pactl_cli.errors import PactlError
from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.normalisation import batch_norms, calibrate

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
OWN = [entry.name for entry in catalogue.OWN_MODELS if entry.name != "bag"]  # test_bag.py has it

# Logits of the first two classes for one fixed image, seed 137; any change here changes every certificate.
GOLDEN = {
    "lenet5": (0.00287942, -0.0097086),
    "fc": (0.09435034, 0.04324383),
    "layer13s": (-0.03362826, -0.01035752),
    "lenet": (0.02132432, 0.0469647),
    "resnet20": (-1.4100331, 2.4368958),
    "resnet18k": (0.04942559, -0.12692304),
    "mlp": (0.3829892, -0.03232836),
    "convnet": (0.00769873, -0.05876467),
}


def build(name: str, *, classes: int = 10, shape: tuple[int, int, int] = MNIST, width: int | None = None) -> nn.Module:
    width = width or catalogue.MODELS[name].width
    return build_network(name, classes=classes, inputs=InputSpec.image(*shape), width=width, seed=137)


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def images(count: int, shape: tuple[int, int, int]) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "shape", "width", "parameters"),
    [
        ("lenet5", MNIST, None, 431_080),
        ("fc", MNIST, None, 199_210),
        ("layer13s", CIFAR, 8, 63_738),
        ("layer13s", CIFAR, 16, 251_882),
        ("lenet", MNIST, None, 44_426),
        ("lenet", CIFAR, None, 62_006),
        ("resnet20", MNIST, None, 269_530),
        ("resnet20", CIFAR, None, 269_818),
        ("resnet18k", CIFAR, None, 11_173_962),
        ("mlp", MNIST, None, 58_730),
        ("convnet", MNIST, None, 29_178),
        ("convnet", (3, 8, 8), 32, 94_762),
    ],
)
def test_parameter_counts(name: str, shape: tuple[int, int, int], width: int | None, parameters: int) -> None:
    assert size(build(name, shape=shape, width=width)) == parameters


def test_the_parameter_count_of_another_number_of_classes() -> None:
    assert size(build("resnet18k", classes=100, shape=CIFAR)) == 11_220_132


@pytest.mark.parametrize("name", OWN)
def test_golden_output(name: str) -> None:
    """BatchNorm scales that start at 0 are set to 1, so that every weight matters."""
    image = torch.linspace(-1, 1, 28 * 28).view(1, 1, 28, 28)
    network = build(name).eval()
    for layer in batch_norms(network):
        nn.init.ones_(layer.weight)
    logits = network(image)[0, :2]
    assert logits.tolist() == pytest.approx(GOLDEN[name], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("shape", [(1, 16, 20), (4, 17, 33)])
def test_any_channels_classes_and_sizes(name: str, shape: tuple[int, int, int]) -> None:
    assert build(name, classes=3, shape=shape, width=4).eval()(images(2, shape)).shape == (2, 3)


@pytest.mark.parametrize("name", OWN)
def test_the_catalogue_knows_which_have_batch_statistics(name: str) -> None:
    assert bool(batch_norms(build(name))) == catalogue.MODELS[name].batch_statistics


@pytest.mark.parametrize("name", OWN)
def test_prediction_does_not_depend_on_the_batch(name: str) -> None:
    """Evaluate examples alone, in a batch, and in another order."""
    network = build(name, width=8)
    calibrate(network, images(50, MNIST))
    batch = 3 * images(9, MNIST)
    together = network(batch)
    torch.testing.assert_close(torch.cat([network(image[None]) for image in batch]), together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(batch.flip(0)).flip(0), together, rtol=1e-4, atol=1e-5)


def test_dependence_on_the_batch_is_seen() -> None:
    network = build("layer13s").train()
    batch = 3 * images(9, MNIST)
    assert not torch.allclose(network(batch[:2]), network(batch)[:2], rtol=1e-2)


def test_small_images_are_refused_by_name() -> None:
    with pytest.raises(PactlError, match="lenet5 needs images of at least 16 x 16"):
        build("lenet5", shape=(1, 8, 8))


def test_weights_do_not_depend_on_the_ambient_generator() -> None:
    torch.manual_seed(1)
    first = build("layer13s")
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = build("layer13s")
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_resnet18k_is_resnet18_with_a_small_stem() -> None:
    theirs = resnet18(num_classes=3)
    theirs.conv1, theirs.maxpool = nn.Conv2d(1, 64, 3, padding=1, bias=False), nn.Identity()
    ours = build("resnet18k", classes=3)
    calibrate(ours, images(4, MNIST))
    for state in ("parameters", "buffers"):
        for mine, other in zip(getattr(ours, state)(), getattr(theirs, state)(), strict=True):
            other.data.copy_(mine)
    torch.testing.assert_close(ours(images(2, MNIST)), theirs.eval()(images(2, MNIST)))


def test_a_residual_network_begins_as_its_shortcuts() -> None:
    """The last scale of each of the nine blocks is 0, and a shortcut's is not."""
    zeros = [layer for layer in batch_norms(build("resnet20")) if not layer.weight.any()]
    assert [layer.num_features for layer in zeros] == [16] * 3 + [32] * 3 + [64] * 3
    stem, first = (nn.Sequential(*list(build("resnet20").eval().children())[:count]) for count in (3, 4))
    torch.testing.assert_close(first(images(2, MNIST)), stem(images(2, MNIST)))


def test_shortcuts_without_weights_keep_every_second_pixel_and_add_zeros() -> None:
    shortcut = build("resnet20").eval().get_submodule("6.shortcut")
    maps = images(2, (16, 5, 6))
    found = shortcut(maps)
    assert found.shape == (2, 32, 3, 3)
    torch.testing.assert_close(found[:, :16], maps[:, :, ::2, ::2] / (1 + 1e-5) ** 0.5)
    assert not found[:, 16:].any()
