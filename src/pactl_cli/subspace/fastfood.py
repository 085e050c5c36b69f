"""A projector of diagonal and Hadamard matrices: no matrix is formed, and a product takes O(D log d)."""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch
from scipy.special import gammaincinv
from torch import Tensor, nn

from pactl_cli import randomness
from pactl_cli.subspace.projectors import Projector, on_all_parameters, with_memory_bytes


def hadamard(values: Tensor) -> Tensor:
    """Return the Walsh-Hadamard transform of the last dimension, a power of two; its matrix of +-1 is symmetric."""
    shape = values.shape
    half = 1
    while half < shape[-1]:
        pairs = values.reshape(*shape[:-1], -1, 2, half)
        first, second = pairs.unbind(-2)
        values = torch.stack((first + second, first - second), dim=-2)
        half *= 2
    return values.reshape(shape)


class Fastfood(Projector):
    """ceil(D / d') independent blocks S H G Pi H B / sqrt(d' D), stacked and cut to D rows.

    d' is the next power of two of d, B a diagonal of signs, G of Gaussians, Pi a permutation,
    and S_ii = chi(d') / ||G|| (Le, Sarlos, Smola 2013, "Fastfood").
    """

    _flips: Tensor
    _order: Tensor
    _inverse: Tensor
    _gaussians: Tensor
    _scales: Tensor

    def __init__(self, parameters: int, dim: int, seed: int, name: str) -> None:
        super().__init__(parameters, dim)
        self._padded = 1 << (dim - 1).bit_length()
        blocks = -(-parameters // self._padded)
        shape = (blocks, self._padded)
        gaussians = randomness.gaussians(seed, f"{name}/G", blocks * self._padded).reshape(shape)
        uniforms = randomness.uniforms(seed, f"{name}/S", blocks * self._padded).reshape(shape)
        chi = np.sqrt(2 * gammaincinv(self._padded / 2, uniforms))
        scales = chi / np.linalg.norm(gaussians, axis=1, keepdims=True) / sqrt(self._padded * parameters)
        order = randomness.permutations(seed, f"{name}/Pi", *shape)
        self.keep("_flips", randomness.signs(seed, f"{name}/B", blocks * self._padded).reshape(shape), torch.float32)
        self.keep("_order", order, torch.int64)
        self.keep("_inverse", np.argsort(order, axis=1), torch.int64)
        self.keep("_gaussians", gaussians, torch.float32)
        self.keep("_scales", scales, torch.float32)

    def matvec(self, w: Tensor) -> Tensor:
        w = nn.functional.pad(w, (0, self._padded - len(w)))
        mixed = hadamard(self._flips * w).gather(1, self._order)
        return (self._scales * hadamard(self._gaussians * mixed)).flatten()[: self.shape[0]]

    def adjoint(self, g: Tensor) -> Tensor:
        g = nn.functional.pad(g, (0, self._scales.numel() - len(g))).view_as(self._scales)
        mixed = (self._gaussians * hadamard(self._scales * g)).gather(1, self._inverse)
        return (self._flips * hadamard(mixed)).sum(0)[: self.shape[1]]

    def __str__(self) -> str:
        blocks, padded = self._scales.shape
        return f"{blocks} x S H G Pi H B [{padded}] / sqrt({padded} * {self.shape[0]})"


fastfood = with_memory_bytes(lambda layout, dim: 60 * (layout.size + 2 * dim))(on_all_parameters(Fastfood))
