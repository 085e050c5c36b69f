"""Quantisation that can be trained through, and the price of what it produces."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Quantiser(nn.Module, ABC):
    """Maps each coordinate to the nearest of K levels, and prices the symbols that come out.

    Gradients are straight-through: the loss's gradient g with respect to the quantised
    coordinates is passed to w unchanged, and to level k as the sum of g_j over the j
    assigned to it (Lotfi, Finzi et al. 2022, section 4).
    """

    @abstractmethod
    def levels(self) -> Tensor:
        """The K levels in ascending order, shape (K,)."""

    def symbols(self, w: Tensor) -> Tensor:
        """Indices of the nearest levels, shape (d,), in 0 .. K-1."""
        levels = self.levels().detach()
        return torch.bucketize(w.detach(), (levels[1:] + levels[:-1]) / 2)

    def forward(self, w: Tensor) -> Tensor:
        """The quantised coordinates, shape (d,); differentiable in w and in the levels."""
        return self.levels()[self.symbols(w)] + (w - w.detach())

    def rate_nats(self, w: Tensor) -> Tensor:
        """The code length of w in nats, differentiable in w and in the levels.

        A symbol costs minus the logarithm of its frequency in w itself, as the adaptive
        code will charge it. Between two levels the cost is interpolated linearly, so it
        equals the true cost at every level, and pulls a coordinate towards the cheaper of
        its two neighbours in proportion to what the move saves.
        """
        levels = self.levels()
        counts = self._counts(self.symbols(w), len(levels))
        costs = ((counts + 0.5) / (counts + 0.5).sum()).log().neg()
        if len(levels) == 1:
            return costs[0] * 0
        left = torch.bucketize(w.detach(), levels.detach()[1:-1])
        share = ((w - levels[left]) / (levels[left + 1] - levels[left])).clamp(0, 1)
        return (costs[left] + share * (costs[left + 1] - costs[left])).sum()

    def _counts(self, symbols: Tensor, size: int) -> Tensor:
        return torch.bincount(symbols, minlength=size).float()


class Grid(Quantiser):
    """Levels s z for z in -R .. R, with one learned step s > 0."""

    def __init__(self, step: float, radius: int) -> None:
        super().__init__()
        self.log_step = nn.Parameter(torch.tensor(step).log())
        self.radius = radius

    def levels(self) -> Tensor:
        return self.log_step.exp() * torch.arange(-self.radius, self.radius + 1, device=self.log_step.device)

    def _counts(self, symbols: Tensor, size: int) -> Tensor:
        counts = super()._counts(symbols, size)
        return (counts + counts.flip(0)) / 2


class FreeLevels(Quantiser):
    """K levels, each learned. `values`: shape (K,), ascending."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(values.clone())

    def levels(self) -> Tensor:
        return self.values.sort().values
