"""torchvision's classification models by name, for any channels and classes."""

from __future__ import annotations

from typing import Any

from torch import nn

from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.layers import convolution_like


def torchvision_network(name: str, classes: int, inputs: InputSpec, width: None = None) -> nn.Module:
    """Return one of torchvision's networks, its weights not yet drawn from a seed.

    It has no auxiliary heads. For images without three channels, its first convolution is replaced by one for theirs.
    """
    from torchvision.models import get_model  # takes a second, and most networks do not need it

    channels, height, breadth = inputs.image_shape
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        options = {"image_size": height}
    elif name == "maxvit_t":
        options = {"input_size": (height, breadth)}
    network: nn.Module = get_model(name, weights=None, num_classes=classes, **options)
    if channels != 3:
        first, layer = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
        network.set_submodule(first, convolution_like(layer, inputs=channels))
    return network
