"""Random linear maps P from R^d to R^D, the same for the same seed on every machine.

A projector is a shape, a `matvec` and its `adjoint`; its matrix is formed only where it is small. Its columns have unit
norm in expectation over the seed. The names follow Lotfi, Finzi et al., "PAC-Bayes Compression Bounds So Tight That
They Can Explain Generalization" (2022), section 3 and appendix; the idea is that of Li et al. (2018).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import isqrt, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pactl_cli import randomness
from pactl_cli.errors import PactlError
from pactl_cli.models.layers import Layout


def ceil_sqrt(n: int) -> int:
    """Return the smallest integer whose square is at least n."""
    return isqrt(n - 1) + 1


class Projector(nn.Module, ABC):
    """A map P in R^(D x d), whose constants are non-persistent buffers: they move with the module, and are not saved.

    Attributes:
        shape: (D, d).
    """

    def __init__(self, parameters: int, dim: int) -> None:
        super().__init__()
        self.shape = (parameters, dim)

    @abstractmethod
    def matvec(self, w: Tensor) -> Tensor:
        """Return P w, of shape (D,), for w of shape (d,)."""

    @abstractmethod
    def adjoint(self, g: Tensor) -> Tensor:
        """Return P^T g, of shape (d,), for g of shape (D,)."""

    @abstractmethod
    def __str__(self) -> str:
        """Return the formula of the map."""

    def forward(self, w: Tensor) -> Tensor:
        """Return P w, differentiable: the gradient with respect to w is P^T times the gradient of the output."""
        return _Apply.apply(w, self)  # type: ignore[no-any-return]

    def keep(self, name: str, value: np.ndarray[Any, Any], dtype: torch.dtype) -> None:
        """Keep a constant of the map as a buffer."""
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)).to(dtype), persistent=False)


Draw = Callable[[Layout, int, int, str], Projector]
"""The function that a row of the catalogue names: from layout, d, seed and a name for random streams to a projector."""


def with_memory_bytes(memory_bytes: Callable[[Layout, int], int]) -> Callable[[Draw], Draw]:
    """Return a decorator that gives a `Draw` an estimate of the most memory that it and its projector take."""

    def decorated(draw: Draw) -> Draw:
        draw.memory_bytes = memory_bytes  # type: ignore[attr-defined]
        return draw

    return decorated


def on_all_parameters(kind: Callable[[int, int, int, str], Projector]) -> Draw:
    """Return the `Draw` of a class of projectors on all parameters, which takes D, d, seed and name."""
    return lambda layout, dim, seed, name: kind(layout.size, dim, seed, name)


def too_large(dim: int, layout: Layout) -> PactlError:
    """Return the error for d > D."""
    return PactlError(
        f"--intrinsic-dim {dim} is larger than the number of weights that are trained, which is {layout.size:,}",
        "choose a smaller dimension",
    )


class _Apply(torch.autograd.Function):
    """A linear map as one autograd node, whose gradient is the adjoint; it ignores autocast, so weights are exact."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, projector: Projector) -> Tensor:
        ctx.projector = projector
        with torch.autocast(w.device.type, enabled=False):
            return projector.matvec(w)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.projector.adjoint(gradients[0]), None


class Identity(Projector):
    """The identity: every parameter is its own coordinate, and D = d."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size)

    def matvec(self, w: Tensor) -> Tensor:
        return w

    def adjoint(self, g: Tensor) -> Tensor:
        return g

    def __str__(self) -> str:
        return f"I[{self.shape[0]}]"


class Zero(Projector):
    """The map from R^0, d = 0: theta stays theta0."""

    def __init__(self, parameters: int) -> None:
        super().__init__(parameters, 0)

    def matvec(self, w: Tensor) -> Tensor:
        return w.new_zeros(self.shape[0])

    def adjoint(self, g: Tensor) -> Tensor:
        return g.new_zeros(0)

    def __str__(self) -> str:
        return "0"


class Embedding(Projector):
    """A projector on some of the parameters; the others do not move.

    Args:
        parameters: the number of all parameters, D.
        places: the places among all parameters of the rows of `inner`: few ranges, which are copied one by one.
        inner: the projector on these parameters.
    """

    def __init__(self, parameters: int, places: NDArray[np.int64], inner: Projector) -> None:
        super().__init__(parameters, inner.shape[1])
        self._inner = inner
        ends = np.flatnonzero(np.diff(places) != 1) + 1
        self._ranges = [slice(int(run[0]), int(run[-1]) + 1) for run in np.split(places, ends) if len(run)]

    def matvec(self, w: Tensor) -> Tensor:
        values, out = self._inner.matvec(w), w.new_zeros(self.shape[0])
        for place, part in zip(self._ranges, values.split([r.stop - r.start for r in self._ranges]), strict=True):
            out[place] = part
        return out

    def adjoint(self, g: Tensor) -> Tensor:
        return self._inner.adjoint(torch.cat([g[place] for place in self._ranges]))

    def __str__(self) -> str:
        return f"{self._inner} on {self._inner.shape[0]} of {self.shape[0]}"


class Mean(Projector):
    """(P_1 w + P_2 w) / sqrt 2."""

    def __init__(self, first: Projector, second: Projector) -> None:
        super().__init__(*first.shape)
        self._first, self._second = first, second

    def matvec(self, w: Tensor) -> Tensor:
        return (self._first.matvec(w) + self._second.matvec(w)) / sqrt(2)

    def adjoint(self, g: Tensor) -> Tensor:
        return (self._first.adjoint(g) + self._second.adjoint(g)) / sqrt(2)

    def __str__(self) -> str:
        return f"({self._first} + {self._second}) / sqrt(2)"


class DirectSum(Projector):
    """P_1 w_1 + P_2 w_2, where w is w_1 followed by w_2."""

    def __init__(self, first: Projector, second: Projector) -> None:
        super().__init__(first.shape[0], first.shape[1] + second.shape[1])
        self._first, self._second = first, second

    def matvec(self, w: Tensor) -> Tensor:
        size = self._first.shape[1]
        return self._first.matvec(w[:size]) + self._second.matvec(w[size:])

    def adjoint(self, g: Tensor) -> Tensor:
        return torch.cat([self._first.adjoint(g), self._second.adjoint(g)])

    def __str__(self) -> str:
        return f"{self._first} (+) {self._second}"


class RunShuffle(nn.Module):
    """A random order of the runs of neighbours in a vector of length m, cut to the first D entries; and its adjoint.

    The last m mod `run` entries keep their places. A run of 32 floats is two cache lines, so moving runs takes little
    more time than a copy, while moving single entries takes five times as long. The adjoint gathers in the inverse
    order, because a scatter would be several times slower on a CPU.
    """

    _order: Tensor
    _inverse: Tensor

    def __init__(self, length: int, rows: int, run: int, seed: int, name: str) -> None:
        super().__init__()
        self._length, self._rows, self._run = length, rows, run
        order = randomness.permutation(seed, f"{name}/permutation", length // run)
        inverse = np.empty_like(order)
        inverse[order] = np.arange(len(order))
        index = torch.int32 if length < 2**31 else torch.int64
        for side, runs in (("_order", order), ("_inverse", inverse)):
            self.register_buffer(side, torch.from_numpy(runs).to(index), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return the first D of the m entries in their new order."""
        return self._moved(values, self._order)[: self._rows]

    def adjoint(self, g: Tensor) -> Tensor:
        """Return the m entries in their old order; those that were not among the first D are zero."""
        return self._moved(nn.functional.pad(g, (0, self._length - self._rows)), self._inverse)

    def _moved(self, values: Tensor, order: Tensor) -> Tensor:
        if self._run == 1:  # rows of one number would be read far slower
            return values.index_select(0, order)
        whole = len(order) * self._run
        out = torch.empty_like(values)
        torch.index_select(values[:whole].view(-1, self._run), 0, order, out=out[:whole].view(-1, self._run))
        out[whole:] = values[whole:]
        return out
