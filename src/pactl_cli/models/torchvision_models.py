"""torchvision's classification models by name, for any channels and classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from textwrap import shorten
from typing import Any

import torch
from torch import nn

from pactl_cli.errors import PactlError
from pactl_cli.models.initialisation import sketched
from pactl_cli.models.layers import convolution_like
from pactl_cli.models.networks import Shape


def torchvision_builder(name: str, classes: int, shape: Shape) -> Callable[[], nn.Module]:
    """What constructs the model, its weights not yet drawn from a seed.

    It has no auxiliary heads. Where images are not of three channels its first convolution
    is a new one, alike but for the channels.

    Raises:
        PactlError: if the model cannot take images of this size.
    """
    build = partial(_construct, name, classes, shape)
    _require_fit(name, build, classes, shape)
    return build


def _construct(name: str, classes: int, shape: Shape) -> nn.Module:
    from torchvision.models import get_model  # takes a second, and most networks are not of it

    channels, height, width = shape
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        options = {"image_size": height}
    elif name == "maxvit_t":
        options = {"input_size": (height, width)}
    network: nn.Module = get_model(name, weights=None, num_classes=classes, **options)
    if channels != 3:
        first, layer = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
        network.set_submodule(first, convolution_like(layer, inputs=channels))
    return network


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
