"""Quantisers that gradients pass through, and the code length of the symbols that they produce."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
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
"""The steps that are tried without fine-tuning: how often the spread of w is halved for each."""


class Quantiser(nn.Module, ABC):
    """A map from each coordinate to the nearest of K levels, with the code length of the symbols."""

    LR_SCALE = 0.015
    """The learning rate of levels relative to that of coordinates: a level moves all its coordinates at once."""

    @abstractmethod
    def fit(self, w: Tensor) -> None:
        """Set the levels for coordinates that are not quantised yet, shape (d,)."""

    @abstractmethod
    def forward(self, w: Tensor) -> Tensor:
        """Return the quantised coordinates, shape (d,), with straight-through gradients for w and the levels."""

    @abstractmethod
    def levels(self) -> Tensor:
        """Return the levels in ascending order, shape (K,), differentiable."""

    def symbols(self, w: Tensor) -> Tensor:
        """Return the indices of the nearest levels, shape (d,)."""
        levels = self.levels().detach()
        return torch.bucketize(w.detach(), (levels[1:] + levels[:-1]) / 2)

    def counts(self, w: Tensor) -> Tensor:
        """Return the count that the code expects of each symbol, shape (K,)."""
        symbols = self.symbols(w)
        counts = symbols.new_zeros(len(self.levels()))  # bincount would wait for the GPU to know the largest symbol
        return counts.scatter_add_(0, symbols, torch.ones_like(symbols)).float()

    def rate_nats(self, w: Tensor) -> Tensor:
        """Return the code length of w in nats, differentiable in w and in the levels.

        A symbol costs minus the logarithm of its frequency, as in the adaptive code. Between two levels the cost is
        interpolated linearly: it is exact at every level, and it pulls a coordinate towards the cheaper of its two
        neighbours in proportion to the bits that the move saves.
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
        """Return the median distance between neighbouring levels: the unit of learning rates."""
        return float(self.levels().detach().diff().median()) if len(self.levels()) > 1 else 1.0

    @abstractmethod
    def lr_scales(self) -> dict[str, float]:
        """Return the learning rate of each parameter, relative to that of w in units of `gap`."""

    @abstractmethod
    def codebook(self) -> Codebook:
        """Return the levels as the message carries them, in half precision."""

    def message_parts(self, w: Tensor) -> tuple[Codebook, Symbols]:
        """Return the codebook and the symbols to send: the levels in use in half precision, and the symbols as trained.

        The symbols are not assigned anew to the rounded levels: rounding a level moves its coordinates a little, but a
        new assignment would move coordinates near a threshold, of which a trained w has many, by a whole level.
        """
        return self.codebook().trimmed(self.symbols(w).cpu().numpy())

    def candidates(self) -> list[Quantiser]:
        """Return the quantisers to choose from, after `fit`, where nothing is fine-tuned, in order."""
        return [self]


class GridQuantiser(Quantiser):
    """A quantiser with levels s z for z in -R .. R, and one learned step s > 0."""

    RADIUS = 63

    _offsets: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.log_step = nn.Parameter(torch.tensor(0.0))
        self.register_buffer("_offsets", torch.arange(-self.RADIUS, self.RADIUS + 1), persistent=False)

    def fit(self, w: Tensor) -> None:
        """Set the step to the root mean square of w."""
        with torch.no_grad():
            self.log_step.fill_(log(spread(w)))

    def levels(self) -> Tensor:
        return self.log_step.exp() * self._offsets

    def counts(self, w: Tensor) -> Tensor:
        """Return counts that are symmetric about zero, as the code's signs are fair."""
        counts = super().counts(w)
        return (counts + counts.flip(0)) / 2

    def forward(self, w: Tensor) -> Tensor:
        """Return s round(w / s), with the gradient of rounding taken as one.

        A larger step also moves the thresholds, so its gradient has z - w/s for each coordinate, not z. Without that,
        the step of a sparse code grows without limit (Esser et al. 2020, "Learned step size quantization", 2.1).
        """
        step = self.log_step.exp()
        scaled = w / step
        return step * (scaled + (self._rounded(scaled) - scaled).detach())

    def symbols(self, w: Tensor) -> Tensor:
        scaled = w.detach() / self.log_step.detach().exp()
        return self._rounded(scaled.nan_to_num()).long() + self.RADIUS  # the loss ends the run if w is NaN

    def _rounded(self, scaled: Tensor) -> Tensor:
        return scaled.round().clamp(-self.RADIUS, self.RADIUS)

    def lr_scales(self) -> dict[str, float]:
        return {"quantiser.log_step": self.LR_SCALE}

    def candidates(self) -> list[Quantiser]:
        """Return grids with other steps, from the largest to the smallest."""
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
    """A quantiser with K learned levels.

    Args:
        size: the number of levels, K.
        start: a function of w and K that returns the first levels, shape (K,).
    """

    def __init__(self, size: int, start: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self._start = start
        self.values = nn.Parameter(torch.linspace(-1, 1, size))

    def fit(self, w: Tensor) -> None:
        """Set the levels to those that the function `start` returns."""
        with torch.no_grad():
            self.values.copy_(self._start(w, len(self.values)))

    def levels(self) -> Tensor:
        return self.values.sort().values

    def forward(self, w: Tensor) -> Tensor:
        """Return the nearest levels; gradients pass to w unchanged, and to each level from all its coordinates."""
        return self.levels()[self.symbols(w)] + (w - w.detach())

    def lr_scales(self) -> dict[str, float]:
        return {"quantiser.values": self.LR_SCALE * self.gap()}

    def codebook(self) -> Codebook:
        return FreeLevels(tuple(map(_sent, self.levels().tolist())))


def grid(levels: int | None = None) -> Quantiser:
    """Return a quantiser with one learned step and as many levels as it needs; `levels` is ignored."""
    return GridQuantiser()


def _sent(value: float) -> float:
    """Return a level as the message carries it.

    Raises:
        PactlError: with exit code 1 if training has moved it out of the range of half precision.
    """
    try:
        return to_half(value)
    except ValueError as error:
        raise PactlError(
            f"the trained coordinates cannot be quantised: {error}", "train again with another --lr", FAILED
        ) from error


def spread(w: Tensor) -> float:
    """Return the root mean square of w, or 1 where that is 0."""
    return float(w.detach().square().mean().sqrt()) or 1.0


def kmeans_levels(w: Tensor, size: int) -> Tensor:
    """Return the centres of k-means clusters of w, shape (size,); the last repeats if w has fewer distinct values."""
    from sklearn.cluster import KMeans

    values = w.detach().cpu().double().reshape(-1, 1).numpy()
    clusters = min(size, len(np.unique(values)))
    centres = KMeans(clusters, n_init=1, random_state=0).fit(values).cluster_centers_.ravel()
    return torch.from_numpy(np.pad(np.sort(centres), (0, size - clusters), mode="edge")).to(w)


def bin_means(w: Tensor, size: int) -> Tensor:
    """Return the means of w in uniform bins over [-max|w|, max|w|], or the middle of an empty bin: shape (size,)."""
    reach = float(w.abs().max()) or 1.0
    edges = torch.linspace(-reach, reach, size + 1, device=w.device)
    places = torch.bucketize(w, edges[1:-1])
    counts = torch.bincount(places, minlength=size)
    sums = torch.zeros(size, device=w.device).index_add(0, places, w)
    return torch.where(counts > 0, sums / counts.clamp_min(1), (edges[1:] + edges[:-1]) / 2)


kmeans = partial(LevelQuantiser, start=kmeans_levels)
bins = partial(LevelQuantiser, start=bin_means)
