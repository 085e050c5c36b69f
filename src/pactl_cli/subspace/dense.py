"""A projector of random signs, without structure."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, sqrt

import numpy as np
import torch
from torch import Tensor

from pactl_cli import randomness
from pactl_cli.errors import PactlError
from pactl_cli.subspace.projectors import Projector, on_all_parameters, with_memory_bytes


class Dense(Projector):
    """A matrix with entries +-1 / sqrt(D), kept as bits; expanded by blocks of rows or, if small, once."""

    MAX_BYTES = 2 << 30
    MAX_EXPANDED_BYTES = 2 << 30
    BLOCK_ENTRIES = 1 << 22

    _signs: Tensor
    _powers: Tensor
    _expanded: Tensor | None

    def __init__(self, parameters: int, dim: int, seed: int, name: str) -> None:
        super().__init__(parameters, dim)
        row_bytes = ceil(dim / 8)
        if parameters * row_bytes > self.MAX_BYTES:
            raise PactlError(
                f"a dense projector (--intrinsic-mode dense or film) with D = {parameters:,} and d = {dim:,} needs "
                f"{parameters * row_bytes / 2**30:.1f} GiB, above the limit of {self.MAX_BYTES / 2**30:.0f} GiB",
                "use --intrinsic-mode rdkronqr, or a smaller --intrinsic-dim",
            )
        signs = randomness.packed_signs(seed, name, 8 * parameters * row_bytes)
        self.keep("_signs", signs.reshape(parameters, row_bytes), torch.uint8)
        self.keep("_powers", 1 << np.arange(8), torch.uint8)
        self.register_buffer("_expanded", None, persistent=False)
        if 4 * parameters * dim <= self.MAX_EXPANDED_BYTES:
            expanded = torch.empty(self.shape)
            for rows, entries in self._blocks():
                expanded[rows] = entries
            self._expanded = expanded

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield all rows of P as floats, in blocks: (rows, their entries)."""
        rows, dim = self.shape
        if self._expanded is not None:
            yield slice(None), self._expanded
            return
        step = max(1, self.BLOCK_ENTRIES // dim)
        for start in range(0, rows, step):
            part = slice(start, min(start + step, rows))
            yield part, self._expand(part)

    def _expand(self, rows: slice) -> Tensor:
        """Return some rows of P as floats: shape (len(rows), d)."""
        bits = (self._signs[rows].unsqueeze(-1) & self._powers) != 0
        signs = bits.flatten(1)[:, : self.shape[1]].float() * 2 - 1
        return signs / sqrt(self.shape[0])

    def matvec(self, w: Tensor) -> Tensor:
        return torch.cat([entries @ w for _, entries in self._blocks()])

    def adjoint(self, g: Tensor) -> Tensor:
        return torch.stack([g[rows] @ entries for rows, entries in self._blocks()]).sum(0)

    def __str__(self) -> str:
        return f"sign(N[{self.shape[0]} x {self.shape[1]}]) / sqrt(D)"


def dense_bytes(rows: int, dim: int) -> int:
    """Return an estimate of the memory of `Dense` while it is built and used: measured, not derived."""
    is_expanded = 4 * rows * dim <= Dense.MAX_EXPANDED_BYTES
    return rows * dim // 2 + 24 * Dense.BLOCK_ENTRIES + (4 * rows * dim if is_expanded else 0)


dense = with_memory_bytes(lambda layout, dim: dense_bytes(layout.size, dim))(on_all_parameters(Dense))
