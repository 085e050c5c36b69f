"""A sparse random projector."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pactl_cli import randomness
from pactl_cli.errors import PactlError
from pactl_cli.subspace.projectors import Projector, on_all_parameters, with_memory_bytes


class SignedSums(nn.Module):
    """A product with a sparse matrix of signs, whose entries are sorted by their outputs.

    Args:
        outputs, inputs: the rows and columns of the nonzero entries, ascending by output.
        signs: their values, +1 or -1.
        size: the number of outputs.
    """

    _inputs: Tensor
    _signs: Tensor
    _lengths: Tensor

    def __init__(
        self, outputs: NDArray[np.int64], inputs: NDArray[np.int64], signs: NDArray[np.int8], size: int
    ) -> None:
        super().__init__()
        self.register_buffer("_inputs", torch.from_numpy(inputs.astype(np.int32)), persistent=False)
        self.register_buffer("_signs", torch.from_numpy(signs), persistent=False)
        self.register_buffer("_lengths", torch.from_numpy(np.bincount(outputs, minlength=size)), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return one sum for each output."""
        terms = values.index_select(0, self._inputs) * self._signs
        return torch.segment_reduce(terms, "sum", lengths=self._lengths)


class Sparse(Projector):
    """A matrix whose entries are +-1 / D^(1/4) with probability 1 / sqrt(D), else 0 (Achlioptas 2003)."""

    MAX_ENTRIES = 1 << 27

    def __init__(self, parameters: int, dim: int, seed: int, name: str) -> None:
        super().__init__(parameters, dim)
        density = 1 / sqrt(parameters)
        if parameters * dim * density > self.MAX_ENTRIES:
            raise PactlError(
                f"--intrinsic-mode sparse with D = {parameters:,} and d = {dim:,} has about "
                f"{parameters * dim * density:,.0f} entries, above the limit of {self.MAX_ENTRIES:,}",
                "use --intrinsic-mode rdkronqr, or a smaller --intrinsic-dim",
            )
        places = randomness.bernoulli_places(seed, f"{name}/places", parameters * dim, Fraction(density))
        signs = randomness.signs(seed, f"{name}/signs", len(places))
        rows, columns = np.divmod(places, dim)
        order = np.argsort(columns, kind="stable")
        self._rows = SignedSums(rows, columns, signs, parameters)
        self._columns = SignedSums(columns[order], rows[order], signs[order], dim)

    def matvec(self, w: Tensor) -> Tensor:
        sums: Tensor = self._rows(w)
        return sums.div(self.shape[0] ** 0.25)

    def adjoint(self, g: Tensor) -> Tensor:
        sums: Tensor = self._columns(g)
        return sums.div(self.shape[0] ** 0.25)

    def __str__(self) -> str:
        return f"sign(N[{self.shape[0]} x {self.shape[1]}]) Bernoulli(1 / sqrt(D)) / D^(1/4)"


sparse = with_memory_bytes(lambda layout, dim: 80 * (isqrt(layout.size) + 1) * dim)(on_all_parameters(Sparse))
