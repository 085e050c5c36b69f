"""A network whose weights are theta0 + P w."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pactl_cli import randomness
from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.models.inputs import Inputs
from pactl_cli.models.layers import Piece, pieces
from pactl_cli.subspace.projectors import Projector


class SubspaceModule(nn.Module):
    """A network with weights theta0 + P w, of which only w is trained.

    Args:
        network: the network, whose present weights are theta0; they are frozen and never change.
        projector: P, of shape (D, d), with rows in the order of `parameter_layout(network, rank)`, whose size is D.
        rank: 0 for full weights. For R > 0, dense layers other than the head are W0 + B A, and theta holds A (R x
            inputs) and B (outputs x R) in their place. In theta0, A is normal with variance 1 / inputs, and B is 0.
        seed: the seed of A.

    Attributes:
        w: the coordinates, shape (d,), zero at the start.
        names: the names of the network's parameters that depend on w.
    """

    theta0: Tensor
    _bases: Tensor

    def __init__(self, network: nn.Module, projector: Projector, *, rank: int = 0, seed: int = DEFAULT_SEED) -> None:
        super().__init__()
        self._pieces = pieces(network, rank)
        weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
        theta0 = [_initial(piece, weights[piece.name], seed).flatten() for piece in self._pieces]
        bases = [weights[piece.name].flatten() for piece in self._pieces if piece.factor == "B"]
        self.names = list(dict.fromkeys(piece.name for piece in self._pieces))
        self.register_buffer("theta0", torch.cat(theta0), persistent=False)
        self.register_buffer("_bases", torch.cat([self.theta0[:0], *bases]), persistent=False)
        self.network = network.requires_grad_(False)
        self.projector = projector
        self.w = nn.Parameter(torch.zeros(projector.shape[1]))

    def weights(self, w: Tensor) -> dict[str, Tensor]:
        """Return the parameters of the network that depend on the coordinates w, by name."""
        theta = self.theta0 + self.projector(w)
        found: dict[str, Tensor] = {}
        base = 0
        for piece, flat in zip(self._pieces, theta.split([p.shape.numel() for p in self._pieces]), strict=True):
            values = flat.view(piece.shape)
            if piece.factor == "B":
                values = values @ found[piece.name]
                values = values + self._bases[base : base + values.numel()].view(values.shape)
                base += values.numel()
            found[piece.name] = values
        return found

    def forward(self, inputs: Inputs, w: Tensor | None = None) -> Tensor:
        """Return the logits of a batch at the coordinates `w`, or at the module's own."""
        out: Tensor = functional_call(self.network, self.weights(self.w if w is None else w), (inputs,))
        return out


def _initial(piece: Piece, weight: Tensor, seed: int) -> Tensor:
    """Return the values of a piece of theta in theta0."""
    if not piece.factor:
        return weight
    if piece.factor == "B":
        return weight.new_zeros(piece.shape)
    draws = randomness.gaussians(seed, f"low-rank/{piece.name}", piece.shape.numel()) / sqrt(piece.shape[1])
    return torch.from_numpy(draws).to(weight).view(piece.shape)


@torch.no_grad()
def set_weights(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy weights into the parameters with their names."""
    parameters = dict(network.named_parameters())
    for name, weight in weights.items():
        parameters[name].copy_(weight)
