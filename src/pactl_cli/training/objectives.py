"""Training objectives: cross-entropy alone, or with the price of the message."""

from __future__ import annotations

from collections.abc import Hashable
from math import ceil
from typing import Self

from torch import Tensor, nn

from pactl_cli.models.inputs import Inputs
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.subspace.quantise import Quantiser
from pactl_cli.training.loop import Objective


class NetworkObjective(Objective):
    """The mean cross-entropy of a network.

    Attributes:
        is_still: whether the network stays in evaluation mode during training: no randomness, no batch statistics.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.is_still = False

    def train(self, mode: bool = True) -> Self:
        """Set training mode, or evaluation mode if `is_still`."""
        return super().train(mode and not self.is_still)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the logits of a batch."""
        out: Tensor = self.module(inputs)
        return out


class RateObjective(NetworkObjective):
    """The mean cross-entropy at quantised coordinates, plus rho times the nats of their code per training example.

    Args:
        module: the network with weights theta0 + P w.
        quantiser: the quantiser, which is trained along with w.
        rate_weight: rho; 0 makes bits free.
        examples: the number of training examples, n.
        start: the share of the run after which w is quantised; at that point the quantiser is fitted to w.
    """

    module: SubspaceModule

    def __init__(
        self, module: SubspaceModule, quantiser: Quantiser, *, rate_weight: float, examples: int, start: float = 0.0
    ) -> None:
        super().__init__(module)
        self.quantiser = quantiser
        self.rate_weight = rate_weight
        self._examples = examples
        self._start = start
        self._quantised = False

    def begin(self, step: int, steps: int) -> None:
        """Fit the quantiser to w at the step from which on w is quantised."""
        first = ceil(self._start * steps)
        self._quantised = step >= first
        if self._start and step == first:
            self.quantiser.fit(self.module.w.detach())

    def constants(self) -> Hashable:
        """Return whether coordinates are quantised, and the price."""
        return self._quantised, self.rate_weight

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the logits of a batch at the quantised coordinates."""
        if not self._quantised:
            return super().forward(inputs)
        out: Tensor = self.module(inputs, self.quantiser(self.module.w))
        return out

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the cross-entropy plus the price of the code."""
        loss = super().loss(logits, labels, smoothing)
        if not self._quantised or not self.rate_weight:
            return loss
        return loss + self.rate_weight / self._examples * self.quantiser.rate_nats(self.module.w)
