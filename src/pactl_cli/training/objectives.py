"""What is minimised in the subspace: cross-entropy, and the price of the message."""

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
    """Mean cross-entropy of a network, all of whose weights are trained.

    Attributes:
        is_still: whether it is in evaluation mode while it is trained: nothing random, no batch statistics.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.is_still = False

    def train(self, mode: bool = True) -> Self:
        """Goes into training mode; if it is still, into evaluation mode."""
        return super().train(mode and not self.is_still)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits of a batch."""
        out: Tensor = self.module(inputs)
        return out


class RateObjective(NetworkObjective):
    """Mean cross-entropy of the quantised coordinates, plus rho times the nats of their code per training example.

    Args:
        quantiser: trained along with w.
        rate_weight: rho; 0 makes bits free.
        examples: n, over which the code is spread.
        start: the share of the run before which w is unconstrained; at that point the quantiser is fitted to w.
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
        """Fits the quantiser to w when its time comes."""
        first = ceil(self._start * steps)
        self._quantised = step >= first
        if self._start and step == first:
            self.quantiser.fit(self.module.w.detach())

    def constants(self) -> Hashable:
        """Whether coordinates are quantised, and the price."""
        return self._quantised, self.rate_weight

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits of a batch at the quantised coordinates."""
        if not self._quantised:
            return super().forward(inputs)
        out: Tensor = self.module(inputs, self.quantiser(self.module.w))
        return out

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy and price."""
        loss = super().loss(logits, labels, smoothing)
        if not self._quantised or not self.rate_weight:
            return loss
        return loss + self.rate_weight / self._examples * self.quantiser.rate_nats(self.module.w)
