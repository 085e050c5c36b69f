"""A network with the preparation of its inputs: raw inputs in, logits out. Inputs are normalised nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pactl_cli.catalogue import Statistics
from pactl_cli.models.brought import NetworkFailedError
from pactl_cli.models.inputs import Inputs, InputSpec


class Prepared(nn.Module):
    """A network that takes raw examples.

    Bytes are divided by 255, then normalised as (x - mean) / std per channel, and laid out with channels last, where
    convolutions run up to twice as fast. Other numbers are normalised only if that is asked for, and mappings stay as
    they are.

    Args:
        network: a network that takes prepared inputs.
        statistics: mean and standard deviation: one number for all channels, or one for each channel or feature.
        every_number: whether to normalise numbers other than bytes too.
        code: the name of the user's own network: it gets integers other than bytes as they are, and its errors are
            reported as its own. "" for a network of the catalogue, which gets floating-point numbers.
    """

    _entry: nn.Module | None
    _mean: Tensor
    _std: Tensor

    def __init__(self, network: nn.Module, statistics: Statistics, *, code: str, every_number: bool = False) -> None:
        super().__init__()
        self.network = network
        self._code, self.every_number = code, every_number
        self.__dict__["_entry"] = None
        for name, row in zip(("_mean", "_std"), statistics, strict=True):
            self.register_buffer(name, torch.tensor(row).view(-1, 1, 1), persistent=False)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the logits of raw inputs, shape (m, classes).

        Raises:
            NetworkFailedError: if the user's own network raises an error that is not about a lack of memory.
        """
        prepared = self._prepared(inputs) if isinstance(inputs, Tensor) and self._entry is None else inputs
        try:
            logits: Tensor = (self._entry or self.network)(prepared)
        except Exception as error:
            if not self._code or isinstance(error, MemoryError) or "memory" in str(error):
                raise
            raise NetworkFailedError(self._code, InputSpec.of(inputs), error) from error
        return logits

    @contextmanager
    def entered_at(self, layer: str | None) -> Iterator[None]:
        """Within the context, run only the named layer, on inputs that it takes as they are; None runs the network."""
        self.__dict__["_entry"] = None if layer is None else self.network.get_submodule(layer)  # not registered twice
        try:
            yield
        finally:
            self.__dict__["_entry"] = None

    def _prepared(self, tensor: Tensor) -> Tensor:
        """Return a tensor of inputs, shape (m, ...), as the network takes them."""
        if tensor.dtype != torch.uint8 and self.every_number:
            mean, std = (self._mean, self._std) if tensor.ndim == 4 else (self._mean.flatten(), self._std.flatten())
            return tensor.to(mean.dtype).sub(mean).div_(std)
        if tensor.dtype != torch.uint8:
            casts = not self._code and not tensor.is_floating_point()
            return tensor.to(self._mean.dtype) if casts else tensor
        if tensor.ndim != 4:
            return tensor.to(self._mean.dtype).div_(255).sub_(self._mean.flatten()).div_(self._std.flatten())
        seen = torch.empty_like(tensor, dtype=self._mean.dtype, memory_format=torch.channels_last)
        return seen.copy_(tensor).div_(255).sub_(self._mean).div_(self._std)
