"""timm's networks by name, for any channels and classes; timm is an extra, imported only when it is named."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from torch import nn

from pactl_cli.errors import MissingError, PactlError
from pactl_cli.models.inputs import InputSpec


def timm_entry(name: str) -> Any:
    """Return timm's configuration of a network and its pretrained weights: sizes, preparation, head.

    Args:
        name: the network's name, with or without that of its weights.

    Raises:
        MissingError: if timm is not installed.
        PactlError: if timm has no such network or weights.
    """
    try:
        from timm.models import get_pretrained_cfg, is_model, list_models, split_model_name_tag
    except ImportError as error:
        raise MissingError(f"timm:{name} needs timm, which is not installed", "pip install timm") from error
    own, tag = split_model_name_tag(name)
    if not is_model(own):
        near = ", ".join(get_close_matches(own, list_models(), 3))
        raise PactlError(f"timm:{name}: timm has no such network", f"the nearest: {near}" if near else "")
    try:
        return get_pretrained_cfg(name)
    except RuntimeError as error:
        raise PactlError(f"timm:{name}: timm has no weights {tag} of {own}", f"give timm:{own}") from error


def timm_network(name: str, classes: int, inputs: InputSpec, width: None = None) -> nn.Module:
    """Return one of timm's networks, its weights not yet drawn from a seed; errors are those of `timm_entry`."""
    channels, height, breadth = inputs.image_shape
    sized: dict[str, Any] = {"img_size": (height, breadth)} if timm_entry(name).fixed_input_size else {}
    from timm import create_model

    network: nn.Module = create_model(name, num_classes=classes, in_chans=channels, **sized)
    return network
