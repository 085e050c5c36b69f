"""Named networks, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from pactl_cli import catalogue
from pactl_cli.models.brought import brought_network
from pactl_cli.models.initialisation import seeded, sketched
from pactl_cli.models.networks import Shape, fc, layer13s, lenet, lenet5
from pactl_cli.models.resnets import resnet18k, resnet20
from pactl_cli.models.torchvision_models import torchvision_builder

_OWN: dict[str, Callable[[int, Shape, int], nn.Module]] = {
    "lenet5": lenet5,
    "fc": fc,
    "layer13s": layer13s,
    "lenet": lenet,
    "resnet20": resnet20,
    "resnet18k": resnet18k,
}


def build_network(name: str, *, classes: int, shape: Shape, width: int | None, seed: int) -> nn.Module:
    """The network `name` for images of `shape` = (channels, height, width), on the CPU.

    Args:
        name: of the catalogue, or `module:function`, the user's own.
        classes: of the data.
        shape: of an image.
        width: the base width; of no meaning, and None, for networks that are not our own.
        seed: of the weights.

    Raises:
        PactlError: if the images are too small for it, or what the user brings cannot be used.
    """
    if catalogue.is_brought(name):
        return brought_network(name, classes=classes, channels=shape[0], seed=seed)
    return seeded(_builder(name, classes, shape, width), seed)


def sketch_network(name: str, *, classes: int, shape: Shape, width: int | None) -> nn.Module:
    """The same network without numbers, on the meta device: at once, whatever its size. What the user brings is built.

    Raises:
        PactlError: as `build_network` does.
    """
    if catalogue.is_brought(name):
        return build_network(name, classes=classes, shape=shape, width=width, seed=catalogue.DEFAULT_SEED)
    return sketched(_builder(name, classes, shape, width))


def _builder(name: str, classes: int, shape: Shape, width: int | None) -> Callable[[], nn.Module]:
    """What constructs a network of the catalogue, its weights not yet drawn."""
    return torchvision_builder(name, classes, shape) if width is None else partial(_OWN[name], classes, shape, width)
