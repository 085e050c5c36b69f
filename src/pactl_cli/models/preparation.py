"""A network with the preparation of its inputs: raw inputs in, logits out. Nothing else normalises."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pactl_cli.catalogue import Statistics
from pactl_cli.models.inputs import Inputs


class Prepared(nn.Module):
    """A network that takes examples as the data have them.

    Bytes are divided by 255, then normalised as (x - mean) / std per channel, and lie in memory with their channels
    last, in which order convolutions run up to twice as fast. Floating-point numbers and mappings stay as they are.

    Args:
        network: takes prepared inputs.
        statistics: mean and standard deviation, one number for all channels or one each.
        casts_integers: whether other integers become floating-point numbers, as the networks of the catalogue need.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, network: nn.Module, statistics: Statistics, *, casts_integers: bool) -> None:
        super().__init__()
        self.network = network
        self._casts_integers = casts_integers
        for name, row in zip(("_mean", "_std"), statistics, strict=True):
            self.register_buffer(name, torch.tensor(row).view(-1, 1, 1), persistent=False)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the logits of raw inputs, shape (m, classes)."""
        logits: Tensor = self.network(self._prepared(inputs) if isinstance(inputs, Tensor) else inputs)
        return logits

    def _prepared(self, tensor: Tensor) -> Tensor:
        """Return what the network sees of a tensor of inputs, shape (m, ...)."""
        if tensor.dtype != torch.uint8:
            casts = self._casts_integers and not tensor.is_floating_point()
            return tensor.to(self._mean.dtype) if casts else tensor
        if tensor.ndim != 4:
            return tensor.to(self._mean.dtype).div_(255).sub_(self._mean.flatten()).div_(self._std.flatten())
        seen = torch.empty_like(tensor, dtype=self._mean.dtype, memory_format=torch.channels_last)
        return seen.copy_(tensor).div_(255).sub_(self._mean).div_(self._std)
