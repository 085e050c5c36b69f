"""A network whose weights are theta0 + P w."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pactl_cli.models.inputs import Inputs
from pactl_cli.models.layers import trained_parameters
from pactl_cli.subspace.projectors import Projector


class SubspaceModule(nn.Module):
    """A network with weights theta0 + P w, of which only w is trained.

    Args:
        network: its present weights are theta0; they are frozen, and never changed.
        projector: P, of shape (D, d) with D the number of the network's parameters
            that ask for gradients, in `named_parameters()` order.

    Attributes:
        w: the coordinates, shape (d,), zero at the start.
    """

    theta0: Tensor

    def __init__(self, network: nn.Module, projector: Projector) -> None:
        super().__init__()
        named = trained_parameters(network)
        self._names = list(named)
        self._shapes = [p.shape for p in named.values()]
        self._sizes = [p.numel() for p in named.values()]
        self.register_buffer("theta0", nn.utils.parameters_to_vector(named.values()).detach(), persistent=False)
        self.network = network.requires_grad_(False)
        self.projector = projector
        self.w = nn.Parameter(torch.zeros(projector.shape[1]))

    def weights(self, w: Tensor) -> dict[str, Tensor]:
        """The network's trained parameters by name at coordinates w, each a view of one flat vector."""
        theta = self.theta0 + self.projector(w)
        pieces = theta.split(self._sizes)
        return {n: piece.view(shape) for n, piece, shape in zip(self._names, pieces, self._shapes, strict=True)}

    def forward(self, inputs: Inputs, w: Tensor | None = None) -> Tensor:
        """Logits of a batch, at the coordinates `w`, or at the module's own."""
        out: Tensor = functional_call(self.network, self.weights(self.w if w is None else w), (inputs,))
        return out


@torch.no_grad()
def set_weights(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copies weights into the parameters of their names."""
    parameters = dict(network.named_parameters())
    for name, weight in weights.items():
        parameters[name].copy_(weight)
