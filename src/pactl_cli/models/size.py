"""The memory that a network takes, computed without building it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from pactl_cli.models.initialisation import UncompiledMode
from pactl_cli.models.inputs import InputSpec

_SMALL = 1 << 30
"""Up to this product of weights and input values a network is evaluated on zeros: no result takes more bytes."""


@dataclass(frozen=True)
class Size:
    """The size of a network.

    Attributes:
        parameters: the number of values in its parameters and buffers.
        activations_bytes: the size of all tensors that the evaluation of one example computes, in single precision.
        largest_bytes: the size of the largest of them.
    """

    parameters: int
    activations_bytes: int
    largest_bytes: int

    @classmethod
    def of(cls, sketch: nn.Module, inputs: InputSpec) -> Size:
        """Return the size of a network of the catalogue; it is on the meta device, and put into evaluation mode.

        Raises:
            RuntimeError, ValueError: if it cannot take such inputs.
        """
        parameters = sum(tensor.numel() for tensor in sketch.state_dict().values())
        evaluate = _evaluation(sketch.eval(), inputs)
        with _Outputs() as outputs:
            evaluate()
        return cls(parameters, sum(outputs.sizes_bytes), max(outputs.sizes_bytes, default=0))


def outcome(sketch: nn.Module, inputs: InputSpec) -> Any:
    """Return what a network on the meta device, in evaluation mode, makes of one example.

    Raises:
        RuntimeError, ValueError: if the network cannot take such inputs.
    """
    return _evaluation(sketch, inputs)()


def _evaluation(sketch: nn.Module, inputs: InputSpec) -> Callable[[], Any]:
    """Return a function that evaluates a network on the meta device on one example.

    A small network is evaluated with zeros for its weights: for some operations on the meta device torch imports its
    compiler, which takes two seconds.
    """
    if sum(parameter.numel() for parameter in sketch.parameters()) * inputs.values > _SMALL:
        return torch.no_grad()(partial(sketch, inputs.sketch()))
    tensors = chain(sketch.named_parameters(), sketch.named_buffers())
    zeros = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in tensors}
    return torch.no_grad()(partial(functional_call, sketch, zeros, (inputs.zeros(),)))


class _Outputs(UncompiledMode):
    """A mode that records the size of every tensor that an operation makes, except for views."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes_bytes: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = result if isinstance(result, tuple | list) else (result,)
        for declared, output in zip(func._schema.returns, outputs, strict=False):
            if isinstance(output, torch.Tensor) and declared.alias_info is None:
                self.sizes_bytes.append(output.numel() * output.element_size())
        return result
