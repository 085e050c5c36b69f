"""Random linear maps P from R^d to R^D, the same for the same seed on every machine.

A projector is a shape, a `matvec` and its `adjoint`; it is materialised only where that is
small. Its columns have unit norm in expectation over the seed. `MATHS` names follow Lotfi,
Finzi et al., "PAC-Bayes Compression Bounds So Tight That They Can Explain
Generalization" (2022), section 3 and appendix; the idea is Li et al. (2018).
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
    """The smallest integer whose square is at least n."""
    return isqrt(n - 1) + 1


class Projector(nn.Module, ABC):
    """P in R^(D x d). Its constants are non-persistent buffers: they move with the module and are never saved.

    Attributes:
        shape: (D, d).
    """

    def __init__(self, parameters: int, dim: int) -> None:
        super().__init__()
        self.shape = (parameters, dim)

    @abstractmethod
    def matvec(self, w: Tensor) -> Tensor:
        """P w: shape (d,) to shape (D,)."""

    @abstractmethod
    def adjoint(self, g: Tensor) -> Tensor:
        """P^T g: shape (D,) to shape (d,)."""

    @abstractmethod
    def __str__(self) -> str:
        """The formula."""

    def forward(self, w: Tensor) -> Tensor:
        """P w, differentiable: the gradient with respect to w is P^T times the gradient of the output."""
        return _Apply.apply(w, self)  # type: ignore[no-any-return]

    def keep(self, name: str, value: np.ndarray[Any, Any], dtype: torch.dtype) -> None:
        """Holds a constant of the map as a buffer."""
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)).to(dtype), persistent=False)


Draw = Callable[[Layout, int, int, str], Projector]
"""What a row of the catalogue names: of a network's layout, d, a seed and a name for its streams, a projector."""


def takes(memory_bytes: Callable[[Layout, int], int]) -> Callable[[Draw], Draw]:
    """Say of a `Draw` about the most memory that it takes, and its projector in use, for a layout and d."""

    def said(draw: Draw) -> Draw:
        draw.memory_bytes = memory_bytes  # type: ignore[attr-defined]
        return draw

    return said


def everywhere(kind: Callable[[int, int, int, str], Projector]) -> Draw:
    """Return the `Draw` of projectors on all parameters, of a class that takes D, d, the seed and the name."""
    return lambda layout, dim, seed, name: kind(layout.size, dim, seed, name)


def too_large(dim: int, layout: Layout) -> PactlError:
    """Return the error that d > D."""
    return PactlError(
        f"--intrinsic-dim {dim} is larger than the number of weights that are trained, which is {layout.size:,}",
        "choose a smaller dimension",
    )


class _Apply(torch.autograd.Function):
    """A linear map as one autograd node: its gradient is its adjoint. Weights are exact also where a network is not."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, projector: Projector) -> Tensor:
        ctx.projector = projector
        with torch.autocast(w.device.type, enabled=False):
            return projector.matvec(w)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.projector.adjoint(gradients[0]), None


class Identity(Projector):
    """Every parameter its own coordinate: D = d."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size)

    def matvec(self, w: Tensor) -> Tensor:
        return w

    def adjoint(self, g: Tensor) -> Tensor:
        return g

    def __str__(self) -> str:
        return f"I[{self.shape[0]}]"


class Nowhere(Projector):
    """The map from R^0: theta stays theta0."""

    def __init__(self, parameters: int) -> None:
        super().__init__(parameters, 0)

    def matvec(self, w: Tensor) -> Tensor:
        return w.new_zeros(self.shape[0])

    def adjoint(self, g: Tensor) -> Tensor:
        return g.new_zeros(0)

    def __str__(self) -> str:
        return "0"


class Embedding(Projector):
    """A projector on some of the parameters; the others stay where they are.

    Args:
        parameters: D.
        places: the rows of the inner projector, as places among the D.
    """

    _places: Tensor

    def __init__(self, parameters: int, places: NDArray[np.int64], inner: Projector) -> None:
        super().__init__(parameters, inner.shape[1])
        self.keep("_places", places, torch.int64)
        self._inner = inner

    def matvec(self, w: Tensor) -> Tensor:
        return w.new_zeros(self.shape[0]).index_copy(0, self._places, self._inner.matvec(w))

    def adjoint(self, g: Tensor) -> Tensor:
        return self._inner.adjoint(g.index_select(0, self._places))

    def __str__(self) -> str:
        return f"{self._inner} on {self._inner.shape[0]} of {self.shape[0]}"


class Mean(Projector):
    """(P_1 w + ... + P_m w) / sqrt m."""

    def __init__(self, *terms: Projector) -> None:
        super().__init__(*terms[0].shape)
        self._terms = terms
        self._registered = nn.ModuleList(terms)  # so that their constants move along

    def matvec(self, w: Tensor) -> Tensor:
        return torch.stack([term.matvec(w) for term in self._terms]).sum(0) / sqrt(len(self._terms))

    def adjoint(self, g: Tensor) -> Tensor:
        return torch.stack([term.adjoint(g) for term in self._terms]).sum(0) / sqrt(len(self._terms))

    def __str__(self) -> str:
        return f"({' + '.join(map(str, self._terms))}) / sqrt({len(self._terms)})"


class DirectSum(Projector):
    """P_1 w_1 + ... + P_m w_m, where w is w_1 ... w_m in a row."""

    def __init__(self, *terms: Projector) -> None:
        sizes = [term.shape[1] for term in terms]
        super().__init__(terms[0].shape[0], sum(sizes))
        self._sizes = sizes
        self._terms = terms
        self._registered = nn.ModuleList(terms)  # so that their constants move along

    def matvec(self, w: Tensor) -> Tensor:
        parts = w.split(self._sizes)
        return torch.stack([term.matvec(part) for term, part in zip(self._terms, parts, strict=True)]).sum(0)

    def adjoint(self, g: Tensor) -> Tensor:
        return torch.cat([term.adjoint(g) for term in self._terms])

    def __str__(self) -> str:
        return " (+) ".join(map(str, self._terms))


class RunShuffle(nn.Module):
    """The first D entries of a vector of length m whose runs of neighbours are put in a random order, and the adjoint.

    The last m mod `run` entries stay where they are. A run of 32 is two lines of a processor's cache: in memory that is
    little slower than a copy, where single entries in a random order cost five times as much. The adjoint has the
    inverse order: to scatter would be several times slower on a CPU.
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
        """Shape (m,) to shape (D,)."""
        return self._moved(values, self._order)[: self._rows]

    def adjoint(self, g: Tensor) -> Tensor:
        """Shape (D,) to shape (m,): zero where the entry was not among the first D."""
        return self._moved(nn.functional.pad(g, (0, self._length - self._rows)), self._inverse)

    def _moved(self, values: Tensor, order: Tensor) -> Tensor:
        if self._run == 1:  # rows of one number would be read far slower
            return values.index_select(0, order)
        whole = len(order) * self._run
        out = torch.empty_like(values)
        torch.index_select(values[:whole].view(-1, self._run), 0, order, out=out[:whole].view(-1, self._run))
        out[whole:] = values[whole:]
        return out
