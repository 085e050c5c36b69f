"""The quantised coordinates of training are those of the message, and gradients and rates are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pactl_cli.catalogue import CODEBOOKS, imported
from pactl_cli.certificate.codebook import Grid
from pactl_cli.errors import PactlError
from pactl_cli.subspace.quantise import (
    STEP_HALVINGS,
    GridQuantiser,
    LevelQuantiser,
    Quantiser,
    bin_means,
    kmeans_levels,
)

KINDS = tuple(CODEBOOKS)


def coordinates(size: int = 200) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(3))


def fitted(kind: str, w: Tensor) -> Quantiser:
    quantiser: Quantiser = CODEBOOKS[kind].maker()(7 if CODEBOOKS[kind].takes_levels else None)
    quantiser.fit(w)
    return quantiser


@pytest.mark.parametrize("kind", KINDS)
def test_forward_gives_the_nearest_level(kind: str) -> None:
    w = coordinates()
    quantiser = fitted(kind, w)
    distances = (w[:, None] - quantiser.levels()[None]).abs()
    nearest = quantiser.levels()[distances.argmin(1)]
    torch.testing.assert_close(quantiser(w), nearest)
    torch.testing.assert_close(quantiser.levels()[quantiser.symbols(w)], nearest)


def exact(kind: str, case: int) -> tuple[Quantiser, Tensor]:
    """A quantiser and coordinates in sixteenths, many half-way between two levels: nothing is rounded."""
    rng = np.random.default_rng(case)
    size = int(rng.integers(1, 34))
    quantiser: Quantiser = CODEBOOKS[kind].maker()(size if CODEBOOKS[kind].takes_levels else None)
    with torch.no_grad():
        if isinstance(quantiser, LevelQuantiser):
            quantiser.values.copy_(torch.from_numpy(rng.choice(np.arange(-40, 41), size, replace=case % 3 == 0) / 8))
    return quantiser, torch.from_numpy(rng.integers(-100, 101, 500) / 16).float()


@pytest.mark.parametrize("kind", KINDS)
def test_symbols_are_those_of_a_table_of_distances(kind: str) -> None:
    """Half-way, free levels take the lower one, and a grid the even one."""
    ties = 0
    for case in range(100):
        quantiser, w = exact(kind, case)
        levels = quantiser.levels().detach()
        distances = (w[:, None] - levels[None]).abs()
        nearest = distances == distances.amin(1, keepdim=True)
        is_even = (torch.arange(len(levels)) - len(levels) // 2) % 2 == 0
        preferred = is_even if isinstance(quantiser, GridQuantiser) else torch.ones(len(levels), dtype=torch.bool)
        expected = (nearest.int() + (nearest & preferred).int()).argmax(1)  # the first of the largest
        assert torch.equal(levels[quantiser.symbols(w)], levels[expected])
        ties += int((nearest.sum(1) > 1).sum())
    assert ties > 100


class Widest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that an operation gives."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else [found]:
            self.numbers = max(self.numbers, each.numel() if isinstance(each, Tensor) else 0)
        return found


@pytest.mark.parametrize("kind", KINDS)
def test_no_table_of_coordinates_and_levels_is_made(kind: str) -> None:
    w = coordinates(3000).requires_grad_()
    quantiser = fitted(kind, w.detach())
    with Widest() as widest:
        (quantiser(w).sum() + quantiser.rate_nats(w)).backward()
        quantiser.message_parts(w)
    assert widest.numbers == len(w)
    with Widest() as widest:
        (w[:, None] - quantiser.levels()).abs().argmin(1)
    assert widest.numbers == len(w) * len(quantiser.levels())


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_passes_straight_through_to_w(kind: str) -> None:
    w = coordinates().requires_grad_()
    g = torch.randn(200, generator=torch.Generator().manual_seed(4))
    (fitted(kind, w.detach())(w) @ g).backward()
    torch.testing.assert_close(w.grad, g)


def test_level_gradient_is_the_sum_over_assigned_coordinates() -> None:
    w = coordinates()
    quantiser = fitted("kmeans", w)
    g = torch.randn(200, generator=torch.Generator().manual_seed(4))
    (quantiser(w) @ g).backward()
    expected = torch.zeros(7).index_add(0, quantiser.symbols(w), g)
    torch.testing.assert_close(quantiser.values.grad, expected)


def test_step_gradient_counts_the_thresholds_too() -> None:
    w = coordinates()
    quantiser = fitted("grid", w)
    g = torch.randn(200, generator=torch.Generator().manual_seed(4))
    (quantiser(w) @ g).backward()
    assert isinstance(quantiser, GridQuantiser)
    step = quantiser.log_step.detach().exp()
    expected = step * ((w / step).round() - w / step) @ g
    torch.testing.assert_close(quantiser.log_step.grad, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_rate_is_the_entropy_code_at_the_levels(kind: str) -> None:
    """For coordinates on levels, the rate is the sum of -ln of their smoothed frequencies."""
    quantiser = fitted(kind, coordinates(5000))
    with torch.no_grad():
        w = quantiser(coordinates(5000))
        counts = quantiser.counts(w) + 0.5
        expected = -(counts / counts.sum()).log()[quantiser.symbols(w)].sum()
        torch.testing.assert_close(quantiser.rate_nats(w), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_rate_gradient_is_its_slope(kind: str) -> None:
    """A small move between two levels, which changes no symbol, changes the rate by gradient times move."""
    w = coordinates().requires_grad_()
    quantiser = fitted(kind, w.detach())
    quantiser.rate_nats(w).backward()
    gradient = w.grad
    assert gradient is not None
    move = 1e-3 * torch.randn(200, generator=torch.Generator().manual_seed(5))
    same = quantiser.symbols(w + move) == quantiser.symbols(w)
    move = torch.where(same, move, 0)
    w = w.detach()
    change = quantiser.rate_nats(w + move) - quantiser.rate_nats(w)
    assert float(change.detach()) == pytest.approx(float(gradient @ move), abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sent_is_what_was_trained_up_to_half_precision(kind: str) -> None:
    w = coordinates()
    quantiser = fitted(kind, w)
    codebook, symbols = quantiser.message_parts(w)
    np.testing.assert_allclose(codebook.values()[symbols], quantiser(w).detach().numpy(), rtol=2**-11)
    assert symbols.min() == 0 or isinstance(codebook, Grid)
    assert symbols.max() < codebook.size
    assert isinstance(codebook, imported(CODEBOOKS[kind].form))


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_are_fitted_quantisers_of_the_same_kind(kind: str) -> None:
    w = coordinates()
    quantiser = fitted(kind, w)
    before = quantiser.levels().detach().clone()
    candidates = quantiser.candidates()
    steps = [candidate.gap() / quantiser.gap() for candidate in candidates]
    expected = [2.0**-halvings for halvings in STEP_HALVINGS] if kind == "grid" else [1.0]
    assert steps == pytest.approx(expected)
    assert all(type(candidate) is type(quantiser) for candidate in candidates)
    assert torch.equal(quantiser.levels(), before)


def test_all_zero_coordinates_need_one_level() -> None:
    codebook, symbols = fitted("grid", torch.zeros(9)).message_parts(torch.zeros(9))
    assert codebook.size == 1
    assert (symbols == 0).all()


def test_a_diverged_step_is_refused() -> None:
    quantiser = GridQuantiser()
    with torch.no_grad():
        quantiser.log_step.fill_(20.0)
    with pytest.raises(PactlError, match="cannot be quantised"):
        quantiser.codebook()


def test_kmeans_with_fewer_values_than_levels() -> None:
    assert kmeans_levels(torch.tensor([1.0, 1.0, 2.0]), 4).tolist() == [1, 2, 2, 2]


def test_bin_means() -> None:
    means = bin_means(torch.tensor([-3.0, -2.8, 0.5, 3.0]), 3)
    assert means.tolist() == pytest.approx([-2.9, 0.5, 3.0])
