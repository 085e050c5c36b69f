"""Named networks, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from textwrap import shorten

import torch
from torch import nn

from pactl_cli import catalogue
from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.errors import PactlError
from pactl_cli.models.brought import brought_network
from pactl_cli.models.initialisation import seeded, sketched
from pactl_cli.models.networks import Shape


def build_network(name: str, *, classes: int, shape: Shape, width: int | None, seed: int) -> nn.Module:
    """Return the network `name` for images of `shape` = (channels, height, width), on the CPU.

    Args:
        name: of the catalogue, or `module:function`, the user's own.
        classes: of the data.
        shape: of an image.
        width: the base width; of no meaning, and None, for networks that have none.
        seed: of the weights.

    Raises:
        PactlError: if the images are too small for it, or what the user brings cannot be used.
    """
    if catalogue.is_brought(name):
        return brought_network(name, classes=classes, channels=shape[0], seed=seed)
    return seeded(_builder(name, classes, shape, width), seed)


def sketch_network(name: str, *, classes: int, shape: Shape, width: int | None) -> nn.Module:
    """Return the same network without numbers, on the meta device: at once, whatever its size.

    What the user brings is built.

    Raises:
        PactlError: as `build_network` does.
    """
    if catalogue.is_brought(name):
        return build_network(name, classes=classes, shape=shape, width=width, seed=DEFAULT_SEED)
    return sketched(_builder(name, classes, shape, width))


def _builder(name: str, classes: int, shape: Shape, width: int | None) -> Callable[[], nn.Module]:
    """Return what constructs a network of the catalogue, its weights not yet drawn.

    Raises:
        PactlError: if the images are too small for it.
    """
    row = catalogue.MODELS[name]
    build = partial(row.maker(), *row.arguments, classes, shape, width)
    _require_fit(name, build, classes, shape)
    return build


@torch.no_grad()
def _require_fit(name: str, build: Callable[[], nn.Module], classes: int, shape: Shape) -> None:
    """Raises PactlError unless the model, without its weights, turns an image of this shape into logits."""
    try:
        logits = sketched(build).eval()(torch.empty(1, *shape, device="meta"))
        reason = "" if logits.shape == (1, classes) else f"it gives {tuple(logits.shape)}"
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error)
    if reason:
        raise PactlError(
            f"--model-name {name} cannot take images of {shape[1]} x {shape[2]} pixels: {shorten(reason, 160)}",
            "choose another network, such as resnet20 or fc",
        )
