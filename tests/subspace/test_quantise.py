"""The quantised coordinates of training are those of the message, and gradients and rates are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pactl_cli.catalogue import CODEBOOKS, imported
from pactl_cli.certificate.codebook import Grid
from pactl_cli.errors import PactlError
from pactl_cli.subspace.quantise import STEP_HALVINGS, GridQuantiser, Quantiser, bin_means, kmeans_levels

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
