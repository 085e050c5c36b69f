"""Which of a network's parameters belong to normalisation layers, and which to its head: told by type, not by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

_NORMALISATION = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Layout:
    """Places in the flat vector of parameters, in `named_parameters()` order.

    Attributes:
        size: D.
        normalisation: places of the scales and shifts of normalisation layers, ascending.
        head: places of the classifier's last linear or convolutional layer, ascending.
    """

    size: int
    normalisation: NDArray[np.int64]
    head: NDArray[np.int64]


def parameter_layout(network: nn.Module) -> Layout:
    """The layout of a network; its head is its last linear layer, or its last convolution if it has none."""
    norms = [layer for layer in network.modules() if isinstance(layer, _NORMALISATION)]
    kinds = {id(p): "normalisation" for layer in norms for p in layer.parameters(recurse=False)}
    kinds |= {id(p): "head" for _, layer in find_head(network) for p in layer.parameters(recurse=False)}
    places: dict[str, list[NDArray[np.int64]]] = {"normalisation": [], "head": []}
    start = 0
    for parameter in network.parameters():
        if kind := kinds.get(id(parameter)):
            places[kind].append(np.arange(start, start + parameter.numel()))
        start += parameter.numel()
    empty = np.zeros(0, dtype=np.int64)
    return Layout(start, *(np.concatenate([empty, *places[kind]]) for kind in ("normalisation", "head")))


def find_head(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The name and the layer of the head; none if there is none."""
    named = list(network.named_modules())
    linear = [(name, layer) for name, layer in named if isinstance(layer, nn.Linear)]
    convolutions = [(name, layer) for name, layer in named if isinstance(layer, nn.Conv2d)]
    return (linear or convolutions)[-1:]


def head_names(network: nn.Module) -> tuple[str, ...]:
    """The names of the head's parameters, its weight first."""
    return tuple(
        f"{name}.{key}".lstrip(".") for name, layer in find_head(network) for key, _ in layer.named_parameters()
    )
