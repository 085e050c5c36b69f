"""A network's layers, told by type and not by name: which are trained, which normalise, which is the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

_NORMALISATION = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Layout:
    """Places in the flat vector of trained parameters, in `named_parameters()` order.

    Attributes:
        size: D.
        normalisation: places of the scales and shifts of normalisation layers, ascending.
        head: places of the network's last dense or convolutional layer, ascending.
    """

    size: int
    normalisation: NDArray[np.int64]
    head: NDArray[np.int64]


def trained_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that ask for gradients, by name, in order; a parameter with two names has the first."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def parameter_layout(network: nn.Module) -> Layout:
    """The layout of a network's trained parameters."""
    norms = [layer for layer in network.modules() if isinstance(layer, _NORMALISATION)]
    kinds = {id(p): "normalisation" for layer in norms for p in layer.parameters(recurse=False)}
    kinds |= {id(p): "head" for _, layer in find_head(network) for p in layer.parameters(recurse=False)}
    places: dict[str, list[NDArray[np.int64]]] = {"normalisation": [], "head": []}
    start = 0
    for parameter in trained_parameters(network).values():
        if kind := kinds.get(id(parameter)):
            places[kind].append(np.arange(start, start + parameter.numel()))
        start += parameter.numel()
    empty = np.zeros(0, dtype=np.int64)
    return Layout(start, *(np.concatenate([empty, *places[kind]]) for kind in ("normalisation", "head")))


def find_head(network: nn.Module) -> list[tuple[str, nn.Linear | _ConvNd]]:
    """The name and the layer of the head: of all dense and convolutional layers the last one; none if there is none."""
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear | _ConvNd)]
    return layers[-1:]


def head_names(network: nn.Module) -> tuple[str, ...]:
    """The names of the head's parameters, its weight first."""
    return tuple(
        f"{name}.{key}".lstrip(".") for name, layer in find_head(network) for key, _ in layer.named_parameters()
    )


def convolution_like(layer: _ConvNd, *, inputs: int | None = None, outputs: int | None = None) -> _ConvNd:
    """A new convolution, the same but for its numbers of channels, drawn as torch draws one."""
    kind: Any = next(kind for kind in type(layer).__mro__ if kind.__module__ == nn.Conv2d.__module__)
    return kind(  # type: ignore[no-any-return]
        layer.in_channels if inputs is None else inputs,
        layer.out_channels if outputs is None else outputs,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
        device=layer.weight.device,
    )
