"""A network with the preparation of its inputs: raw inputs in, logits out. Nothing else normalises."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pactl_cli.catalogue import Statistics

FIXED_STATISTICS: Statistics = ((0.5,), (0.5,))
"""The default normalisation: constants that come from no sample."""


class Prepared(nn.Module):
    """A network that takes examples as the data have them.

    Bytes are divided by 255, then normalised as (x - mean) / std per channel, and lie in memory with their channels
    last, in which order convolutions run up to twice as fast. Floating-point numbers stay as they are.

    Args:
        network: takes what `prepare` gives.
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

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits of raw inputs, shape (m, classes)."""
        logits: Tensor = self.network(self.prepare(inputs))
        return logits

    def prepare(self, inputs: Tensor) -> Tensor:
        """Return what the network sees of raw inputs, shape (m, C, H, W) or another."""
        if inputs.dtype == torch.uint8:
            layout = torch.channels_last if inputs.ndim == 4 else torch.contiguous_format
            seen = torch.empty(inputs.shape, dtype=self._mean.dtype, device=inputs.device, memory_format=layout)
            mean, std = (self._mean, self._std) if inputs.ndim == 4 else (self._mean.flatten(), self._std.flatten())
            return seen.copy_(inputs).div_(255).sub_(mean).div_(std)
        if self._casts_integers and not inputs.is_floating_point():
            return inputs.to(self._mean.dtype)
        return inputs
