"""A network's layers, found by type and not by name: what is trained, what normalises, and which layer is the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from pactl_cli.certificate.name_patterns import NamePattern
from pactl_cli.errors import PactlError

_NORMALISATION = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Layout:
    """Places in the flat vector of trained parameters, in `named_parameters()` order.

    Attributes:
        size: D, the length of the vector.
        normalisation: places of the scales and shifts of normalisation layers, ascending.
        head: places of the network's last dense or convolutional layer, ascending.
    """

    size: int
    normalisation: NDArray[np.int64]
    head: NDArray[np.int64]


def trained_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that require gradients, by name, in order; a shared parameter has its first name."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def freeze_matching(network: nn.Module, pattern: str) -> None:
    """Freeze the parameters whose names match a pattern.

    Raises:
        PactlError: if it is no pattern, or matches no name, or leaves nothing to train.
    """
    if not pattern:
        return
    parameters = dict(network.named_parameters())
    try:
        found = NamePattern(pattern).found_in(parameters)
    except PactlError as error:
        raise PactlError(f"--freeze {pattern}: {error.message}", error.hint) from error
    for name in found:
        parameters[name].requires_grad_(False)
    if not found or not trained_parameters(network):
        which = "every weight" if found else "no weight"
        raise PactlError(f"--freeze {pattern} fits {which} of the network", f"its first is {next(iter(parameters))}")


def freeze_all_but_head(network: nn.Module) -> None:
    """Freeze all parameters but the head's; raise PactlError if that leaves nothing to train."""
    head = _head_parameters(network)
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.requires_grad and id(parameter) in head)
    if not trained_parameters(network):
        raise PactlError("--intrinsic-mode head: the network has no head to train", "use --intrinsic-mode rdkronqr")


def _head_parameters(network: nn.Module) -> set[int]:
    return {id(parameter) for _, layer in find_head(network) for parameter in layer.parameters()}


@dataclass(frozen=True)
class Piece:
    """A part of theta, the vector of trained parameters.

    Attributes:
        name: the name of a network's parameter.
        shape: the shape of the part.
        factor: "" for the parameter itself; "A" or "B" for a factor of its change, where it is W0 + B A.
    """

    name: str
    shape: torch.Size
    factor: str = ""


def pieces(network: nn.Module, rank: int = 0) -> list[Piece]:
    """Return the parts of theta, in `named_parameters()` order.

    Args:
        rank: 0 to train the parameters themselves. Otherwise only the head is trained, and changes of this rank, A
            before B, of all other dense layers, attention's included.

    Raises:
        PactlError: if there are no such layers, or some are too small for the rank.
    """
    trained, head = trained_parameters(network), _head_parameters(network)
    if not rank:
        return [Piece(name, parameter.shape) for name, parameter in trained.items()]
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.MultiheadAttention)]
    matrices = {id(p) for layer in layers for p in layer.parameters(recurse=False) if p.ndim == 2} - head
    found: list[Piece] = []
    for name, parameter in trained.items():
        if id(parameter) in head:
            found.append(Piece(name, parameter.shape))
        elif id(parameter) in matrices:
            outputs, inputs = parameter.shape
            if rank > min(outputs, inputs):
                name = name.removeprefix("network.")
                raise PactlError(
                    f"--lora-rank {rank} is too large for {name}, which is {outputs} x {inputs}",
                    f"give at most {min(outputs, inputs)}, or leave it out with --freeze",
                )
            shapes = {"A": (rank, inputs), "B": (outputs, rank)}
            found += [Piece(name, torch.Size(shape), factor) for factor, shape in shapes.items()]
    if not any(piece.factor for piece in found):
        raise PactlError(
            f"--lora-rank {rank}: no dense layer but the head is trained", "leave it out, or use --intrinsic-mode head"
        )
    return found


def parameter_layout(network: nn.Module, rank: int = 0) -> Layout:
    """Return the layout of theta, whose parts and errors are those of `pieces`."""
    norms = [layer for layer in network.modules() if isinstance(layer, _NORMALISATION)]
    kinds = {id(p): "normalisation" for layer in norms for p in layer.parameters(recurse=False)}
    kinds |= dict.fromkeys(_head_parameters(network), "head")
    places: dict[str, list[NDArray[np.int64]]] = {"normalisation": [], "head": []}
    start = 0
    trained = trained_parameters(network)
    for piece in pieces(network, rank):
        if kind := kinds.get(id(trained[piece.name])):
            places[kind].append(np.arange(start, start + piece.shape.numel()))
        start += piece.shape.numel()
    empty = np.zeros(0, dtype=np.int64)
    return Layout(start, *(np.concatenate([empty, *places[kind]]) for kind in ("normalisation", "head")))


def find_head(network: nn.Module) -> list[tuple[str, nn.Linear | _ConvNd]]:
    """Return the name and the layer of the head, the last dense or convolutional layer; [] if there is none."""
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear | _ConvNd)]
    return layers[-1:]


def head_names(network: nn.Module) -> tuple[str, ...]:
    """Return the names of the head's parameters, its weight first."""
    return tuple(
        f"{name}.{key}".lstrip(".") for name, layer in find_head(network) for key, _ in layer.named_parameters()
    )


def convolution_like(layer: _ConvNd, *, inputs: int | None = None, outputs: int | None = None) -> _ConvNd:
    """Return a new convolution like another one, with other numbers of channels and torch's own initial weights."""
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
