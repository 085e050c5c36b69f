"""Named networks, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from pactl_cli import catalogue
from pactl_cli.models.brought import brought_network
from pactl_cli.models.initialisation import seeded
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
    if width is None:
        return seeded(torchvision_builder(name, classes, shape), seed)
    return seeded(lambda: _OWN[name](classes, shape, width), seed)
