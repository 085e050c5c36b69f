"""Quantisation that can be trained through, and the price of what it produces."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from math import log

import numpy as np
import torch
from torch import Tensor, nn

from pactl_cli.certificate.codebook import Codebook, FreeLevels, Grid, to_half
from pactl_cli.certificate.symbols import Symbols
from pactl_cli.errors import FAILED, PactlError

SMALLEST_STEP = 2.0**-24
"""The smallest positive number in half precision."""

STEP_HALVINGS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Steps tried without fine-tuning: the spread of w, halved so many times."""


class Quantiser(nn.Module, ABC):
    """Maps each coordinate to the nearest of K levels, and prices the symbols that come out."""

    LR_SCALE = 0.015
    """Levels move all coordinates at once, and so more slowly than each."""

    @abstractmethod
    def fit(self, w: Tensor) -> None:
        """Sets the levels for coordinates not yet quantised, shape (d,)."""

    @abstractmethod
    def forward(self, w: Tensor) -> Tensor:
        """The quantised coordinates, shape (d,); differentiable in w and in the levels, straight through."""

    @abstractmethod
    def levels(self) -> Tensor:
        """The levels in ascending order, shape (K,), differentiable."""

    def symbols(self, w: Tensor) -> Tensor:
        """Indices of the nearest levels, shape (d,)."""
        levels = self.levels().detach()
        return torch.bucketize(w.detach(), (levels[1:] + levels[:-1]) / 2)

    def counts(self, w: Tensor) -> Tensor:
        """How often the code expects each symbol, shape (K,)."""
        symbols = self.symbols(w)
        counts = symbols.new_zeros(len(self.levels()))  # bincount would wait for a GPU, to learn the largest symbol
        return counts.scatter_add_(0, symbols, torch.ones_like(symbols)).float()

    def rate_nats(self, w: Tensor) -> Tensor:
        """The code length of w in nats, differentiable in w and in the levels.

        A symbol costs minus the logarithm of its own frequency, as the adaptive code will
        charge it. Between two levels the cost is interpolated linearly, so it is the true
        one at every level, and pulls a coordinate towards the cheaper of its two
        neighbours in proportion to what the move saves.
        """
        levels = self.levels()
        if len(levels) == 1:
            return w.sum() * 0
        frequencies = self.counts(w) + 0.5
        costs = (frequencies / frequencies.sum()).log().neg()
        left = torch.bucketize(w.detach(), levels.detach()[1:-1])
        gap = (levels[left + 1] - levels[left]).clamp_min(torch.finfo(w.dtype).tiny)
        share = ((w - levels[left]) / gap).clamp(0, 1)
        return (costs[left] + share * (costs[left + 1] - costs[left])).sum()

    def gap(self) -> float:
        """A typical distance between neighbouring levels: the unit in which learning rates are given."""
        return float(self.levels().detach().diff().median()) if len(self.levels()) > 1 else 1.0

    @abstractmethod
    def lr_scales(self) -> dict[str, float]:
        """For each parameter its learning rate relative to that of w in units of `gap`."""

    @abstractmethod
    def codebook(self) -> Codebook:
        """The levels as the message carries them, in half precision."""

    def message_parts(self, w: Tensor) -> tuple[Codebook, Symbols]:
        """What is sent: the symbols as trained, and the codebook in half precision without the levels they do not use.

        Many coordinates of a trained w lie close to a threshold. Rounding a level moves all
        its coordinates a little; assigning them anew would move some of them a whole level.
        """
        return self.codebook().trimmed(self.symbols(w).cpu().numpy())

    def candidates(self) -> list[Quantiser]:
        """What to choose from where nothing is fine-tuned, in order: after `fit`, quantisers like this one."""
        return [self]


class GridQuantiser(Quantiser):
    """Levels s z for z in -R .. R, with one learned step s > 0."""

    RADIUS = 63

    _offsets: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.log_step = nn.Parameter(torch.tensor(0.0))
        self.register_buffer("_offsets", torch.arange(-self.RADIUS, self.RADIUS + 1), persistent=False)

    def fit(self, w: Tensor) -> None:
        """The step starts at the root mean square of w."""
        with torch.no_grad():
            self.log_step.fill_(log(spread(w)))

    def levels(self) -> Tensor:
        return self.log_step.exp() * self._offsets

    def counts(self, w: Tensor) -> Tensor:
        """Symmetric about zero, as the code's signs are."""
        counts = super().counts(w)
        return (counts + counts.flip(0)) / 2

    def forward(self, w: Tensor) -> Tensor:
        """s round(w / s), with the gradient of rounding taken as one.

        A larger step then also moves the thresholds: its gradient counts z - w/s, not z.
        Without that, the step of a sparse code grows without limit (Esser et al. 2020,
        "Learned step size quantization", section 2.1).
        """
        step = self.log_step.exp()
        scaled = w / step
        return step * (scaled + (self._rounded(scaled) - scaled).detach())

    def symbols(self, w: Tensor) -> Tensor:
        scaled = w.detach() / self.log_step.detach().exp()
        return self._rounded(scaled.nan_to_num()).long() + self.RADIUS  # NaN is noticed later, and ends the run

    def _rounded(self, scaled: Tensor) -> Tensor:
        return scaled.round().clamp(-self.RADIUS, self.RADIUS)

    def lr_scales(self) -> dict[str, float]:
        return {"quantiser.log_step": self.LR_SCALE}

    def candidates(self) -> list[Quantiser]:
        """Grids of other steps, from the largest to the smallest."""
        found: list[Quantiser] = []
        for halvings in STEP_HALVINGS:
            quantiser = copy.deepcopy(self)
            with torch.no_grad():
                quantiser.log_step.sub_(halvings * log(2))
            found.append(quantiser)
        return found

    def codebook(self) -> Codebook:
        return Grid(_sent(max(float(self.log_step.detach().exp()), SMALLEST_STEP)), self.RADIUS)


class LevelQuantiser(Quantiser):
    """K levels, each learned.

    Args:
        size: K.
        start: a function of w and K that returns the first levels, shape (K,).
    """

    def __init__(self, size: int, start: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self._start = start
        self.values = nn.Parameter(torch.linspace(-1, 1, size))

    def fit(self, w: Tensor) -> None:
        """The levels start where the function of that name says."""
        with torch.no_grad():
            self.values.copy_(self._start(w, len(self.values)))

    def levels(self) -> Tensor:
        return self.values.sort().values

    def forward(self, w: Tensor) -> Tensor:
        """The nearest levels: the gradient passes to w unchanged, and to each level from all assigned to it."""
        return self.levels()[self.symbols(w)] + (w - w.detach())

    def lr_scales(self) -> dict[str, float]:
        return {"quantiser.values": self.LR_SCALE * self.gap()}

    def codebook(self) -> Codebook:
        return FreeLevels(tuple(map(_sent, self.levels().tolist())))


def grid(levels: int | None = None) -> Quantiser:
    """Return a quantiser with one learned step, which has as many levels as it needs."""
    return GridQuantiser()


def kmeans(levels: int) -> Quantiser:
    """Return a quantiser with so many free levels, started at the centres of k-means clusters."""
    return LevelQuantiser(levels, kmeans_levels)


def bins(levels: int) -> Quantiser:
    """Return a quantiser with so many free levels, started as the means of uniform bins."""
    return LevelQuantiser(levels, bin_means)


def _sent(value: float) -> float:
    """A level as the message carries it.

    Raises:
        PactlError: with exit code 1, if training has driven it out of the range of half precision.
    """
    try:
        return to_half(value)
    except ValueError as error:
        raise PactlError(
            f"the trained coordinates cannot be quantised: {error}", "train again with another --lr", FAILED
        ) from error


def spread(w: Tensor) -> float:
    """The root mean square of w, or 1 where that is 0."""
    return float(w.detach().square().mean().sqrt()) or 1.0


def kmeans_levels(w: Tensor, size: int) -> Tensor:
    """The centres of `size` k-means clusters of w, fewer repeated where w has fewer distinct values: shape (size,)."""
    from sklearn.cluster import KMeans

    values = w.detach().cpu().double().reshape(-1, 1).numpy()
    clusters = min(size, len(np.unique(values)))
    centres = KMeans(clusters, n_init=1, random_state=0).fit(values).cluster_centers_.ravel()
    return torch.from_numpy(np.pad(np.sort(centres), (0, size - clusters), mode="edge")).to(w)


def bin_means(w: Tensor, size: int) -> Tensor:
    """The means of w in `size` uniform bins over [-max|w|, max|w|]; of an empty bin the middle: shape (size,)."""
    reach = float(w.abs().max()) or 1.0
    edges = torch.linspace(-reach, reach, size + 1, device=w.device)
    bins = torch.bucketize(w, edges[1:-1])
    counts = torch.bincount(bins, minlength=size)
    sums = torch.zeros(size, device=w.device).index_add(0, bins, w)
    return torch.where(counts > 0, sums / counts.clamp_min(1), (edges[1:] + edges[:-1]) / 2)
