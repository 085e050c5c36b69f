"""Named networks, drawn from a seed."""

from __future__ import annotations

from torch import nn

from pactl_cli.models import networks
from pactl_cli.models.initialisation import seeded
from pactl_cli.models.networks import Shape


def build_network(name: str, *, classes: int, shape: Shape, width: int, seed: int) -> nn.Module:
    """The network `name` of the catalogue for images of `shape` = (channels, height, width), on the CPU.

    Raises:
        PactlError: if the images are too small for it.
    """
    build = getattr(networks, name)
    return seeded(lambda: build(classes, shape, width), seed)
