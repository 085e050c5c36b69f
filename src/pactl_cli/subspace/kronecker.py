"""Projectors that are Kronecker products: two small matrix products instead of one huge one.

(A (x) B) vec(W) = vec(A W B^T) for row-major vec, so the product is never formed.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pactl_cli.certificate import streams
from pactl_cli.subspace.projectors import Projector, RowSample, ceil_sqrt


def orthonormal_columns(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Q factor of a tall matrix, made unique by a positive diagonal of R."""
    q, r = np.linalg.qr(matrix)
    return np.asarray(q * np.where(np.diag(r) < 0, -1.0, 1.0))


class KroneckerProduct(Projector):
    """(a / sqrt D) times the first D entries of Pi vec(R1 W R2^T); W is w, padded with zeros to b x b.

    a = ceil(sqrt D), b = ceil(sqrt d); R1 and R2 are a x b, Gaussian with variance 1/a, or,
    if `orthogonal`, the Q factors of such matrices.
    """

    _left: Tensor
    _right: Tensor

    def __init__(self, parameters: int, dim: int, seed: int, *, orthogonal: bool) -> None:
        super().__init__(parameters, dim)
        self._orthogonal = orthogonal
        self._rows, self._columns = ceil_sqrt(parameters), ceil_sqrt(dim)
        name = "projector/rdkronqr" if orthogonal else "projector/rdkron"
        for side in ("left", "right"):
            entries = streams.gaussians(seed, f"{name}/{side}", self._rows * self._columns)
            matrix = entries.reshape(self._rows, self._columns) / sqrt(self._rows)
            factor = orthonormal_columns(matrix) if orthogonal else matrix
            self.keep(f"_{side}", factor * sqrt(self._rows / sqrt(parameters)), torch.float32)
        self._sample = RowSample(self._rows**2, parameters, seed, name)

    def matvec(self, w: Tensor) -> Tensor:
        w = nn.functional.pad(w, (0, self._columns**2 - len(w))).view(self._columns, self._columns)
        out: Tensor = self._sample((self._left @ w @ self._right.T).flatten())
        return out

    def adjoint(self, g: Tensor) -> Tensor:
        g = self._sample.adjoint(g).view(self._rows, self._rows)
        return (self._left.T @ g @ self._right).flatten()[: self.shape[1]]

    def __str__(self) -> str:
        factor = f"{'Q' if self._orthogonal else 'N'}[{self._rows} x {self._columns}]"
        return f"({self._rows} / sqrt({self.shape[0]})) Pi ({factor} (x) {factor})"
