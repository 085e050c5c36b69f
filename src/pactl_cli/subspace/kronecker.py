"""Projectors that are Kronecker products or sums: small matrix products instead of one huge one.

(A (x) B) vec(W) = vec(A W B^T) for row-major vec, so the Kronecker product is never formed.
"""

from __future__ import annotations

from functools import partial
from math import isqrt, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pactl_cli import randomness
from pactl_cli.errors import PactlError
from pactl_cli.models.layers import Layout
from pactl_cli.subspace.projectors import Projector, RunShuffle, ceil_sqrt, on_all_parameters, with_memory_bytes


def orthonormal_columns(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Q factor of a tall matrix, unique as the diagonal of R is made positive."""
    q, r = np.linalg.qr(matrix)
    return np.asarray(q * np.where(np.diag(r) < 0, -1.0, 1.0))


class KroneckerProduct(Projector):
    """(a / sqrt D) times the first D entries of Pi vec(R1 W R2^T), where W is w padded with zeros to b x b.

    a = ceil(sqrt D) and b = ceil(sqrt d). R1 and R2 are a x b, Gaussian with variance 1/a or, if `orthogonal`, the Q
    factors of such matrices. Pi permutes runs of neighbours. In networks with fewer than `FROM` parameters it permutes
    single entries: there, runs gained no time and gave worse certificates.
    """

    RUN, FROM = 32, 1 << 16

    _left: Tensor
    _right: Tensor

    def __init__(self, parameters: int, dim: int, seed: int, name: str, *, orthogonal: bool) -> None:
        super().__init__(parameters, dim)
        self._orthogonal = orthogonal
        self._rows, self._columns = ceil_sqrt(parameters), ceil_sqrt(dim)
        for side in ("left", "right"):
            entries = randomness.gaussians(seed, f"{name}/{side}", self._rows * self._columns)
            matrix = entries.reshape(self._rows, self._columns) / sqrt(self._rows)
            factor = orthonormal_columns(matrix) if orthogonal else matrix
            self.keep(f"_{side}", factor * sqrt(self._rows / sqrt(parameters)), torch.float32)
        run = self.RUN if parameters >= self.FROM else 1
        self._shuffle = RunShuffle(self._rows**2, parameters, run, seed, name)

    def matvec(self, w: Tensor) -> Tensor:
        w = nn.functional.pad(w, (0, self._columns**2 - len(w))).view(self._columns, self._columns)
        out: Tensor = self._shuffle((self._left @ w @ self._right.T).flatten())
        return out

    def adjoint(self, g: Tensor) -> Tensor:
        g = self._shuffle.adjoint(g).view(self._rows, self._rows)
        return (self._left.T @ g @ self._right).flatten()[: self.shape[1]]

    def __str__(self) -> str:
        factor = f"{'Q' if self._orthogonal else 'N'}[{self._rows} x {self._columns}]"
        return f"({self._rows} / sqrt({self.shape[0]})) Pi ({factor} (x) {factor})"


class KroneckerSum(Projector):
    """(R1 w (x) 1 + 1 (x) R2 w) / sqrt(2 a), times a / sqrt D, its rows permuted by Pi and cut to D.

    R1 and R2 are a x d, Gaussian with variance 1/a: 2 sqrt(D) d numbers, kept in half precision where single precision
    would take more than `MAX_SINGLE_BYTES`.
    """

    MAX_SINGLE_BYTES = 1 << 30
    MAX_BYTES = 5 << 30
    BLOCK_ENTRIES = 1 << 24

    _factor: Tensor

    def __init__(self, parameters: int, dim: int, seed: int, name: str) -> None:
        super().__init__(parameters, dim)
        self._rows = ceil_sqrt(parameters)
        entries = 2 * self._rows * dim
        if 2 * entries > self.MAX_BYTES:
            raise PactlError(
                f"--intrinsic-mode rkron with D = {parameters:,} and d = {dim:,} needs {2 * entries / 2**30:.1f} GiB",
                "use --intrinsic-mode rdkronqr, or a smaller --intrinsic-dim",
            )
        dtype = torch.float32 if 4 * entries <= self.MAX_SINGLE_BYTES else torch.float16
        factor = torch.empty(2 * self._rows, dim, dtype=dtype)
        for rows in self._blocks():
            draws = randomness.gaussians(seed, f"{name}/{rows.start}", (rows.stop - rows.start) * dim)
            factor[rows] = torch.from_numpy(draws.reshape(-1, dim)).to(dtype)
        self.register_buffer("_factor", factor, persistent=False)
        self._scale = 1 / sqrt(2 * parameters)
        self._shuffle = RunShuffle(self._rows**2, parameters, 1, seed, name)

    def _blocks(self) -> list[slice]:
        step = max(1, self.BLOCK_ENTRIES // self.shape[1])
        return [slice(start, min(start + step, 2 * self._rows)) for start in range(0, 2 * self._rows, step)]

    def matvec(self, w: Tensor) -> Tensor:
        left, right = torch.cat([self._factor[rows].to(w.dtype) @ w for rows in self._blocks()]).chunk(2)
        out: Tensor = self._shuffle((left[:, None] + right[None, :]).flatten())
        return out * self._scale

    def adjoint(self, g: Tensor) -> Tensor:
        square = self._shuffle.adjoint(g).view(self._rows, self._rows)
        sums = torch.cat([square.sum(1), square.sum(0)]) * self._scale
        return torch.stack([sums[rows] @ self._factor[rows].to(g.dtype) for rows in self._blocks()]).sum(0)

    def __str__(self) -> str:
        factor = f"N[{self._rows} x {self.shape[1]}] w"
        return f"Pi ({factor} (x) 1 + 1 (x) {factor}) / sqrt(2 * {self.shape[0]})"


def kronecker_bytes(layout: Layout, dim: int) -> int:
    """Return an estimate of the memory of `KroneckerProduct` while it is built and used: measured, not derived."""
    return 96 * (isqrt(layout.size) + 1) * (isqrt(dim) + 1)


rdkronqr = with_memory_bytes(kronecker_bytes)(on_all_parameters(partial(KroneckerProduct, orthogonal=True)))
rdkron = with_memory_bytes(kronecker_bytes)(on_all_parameters(partial(KroneckerProduct, orthogonal=False)))


def _sum_bytes(layout: Layout, dim: int) -> int:
    entries = 2 * (isqrt(layout.size) + 1) * dim
    return 4 * entries + 24 * min(entries, KroneckerSum.BLOCK_ENTRIES)


rkron = with_memory_bytes(_sum_bytes)(on_all_parameters(KroneckerSum))
