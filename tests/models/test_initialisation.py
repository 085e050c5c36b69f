"""Initial weights from a seed: they do not depend on torch's release, and have the right distributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import kstest, norm, truncnorm, uniform
from torch import nn
from torch.nn.init import trunc_normal_

from pactl_cli import randomness
from pactl_cli.errors import PactlError
from pactl_cli.models.initialisation import seeded, sketched


def drawn(draw: Callable[[torch.Tensor], object], count: int = 4000) -> torch.Tensor:
    """Return the numbers that an initialiser draws."""

    class Weights(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(count))
            with torch.no_grad():
                draw(self.weight)

    return seeded(Weights, 7).get_parameter("weight").detach()


@pytest.mark.parametrize(
    ("draw", "distribution"),
    [
        (lambda w: w.normal_(), norm()),
        (lambda w: w.normal_(2.0), norm(2)),
        (lambda w: w.normal_(std=3.0), norm(0, 3)),
        (lambda w: w.normal_(2.0, 3.0), norm(2, 3)),
        (lambda w: w.uniform_(), uniform(0, 1)),
        (lambda w: w.uniform_(0.5), uniform(0.5, 0.5)),
        (lambda w: w.uniform_(-2, 4), uniform(-2, 6)),
        (nn.init.trunc_normal_, truncnorm(-2, 2)),
        (lambda w: nn.init.trunc_normal_(w, std=0.02), norm(0, 0.02)),
        (lambda w: nn.init.trunc_normal_(w, 1.0, 2.0, a=0.0, b=5.0), truncnorm(-0.5, 2, 1, 2)),
        (lambda w: trunc_normal_(w, 1.0, 2.0, a=0.0, b=5.0), truncnorm(-0.5, 2, 1, 2)),
    ],
)
def test_numbers_have_the_distribution_asked_for(draw: Callable[[torch.Tensor], object], distribution: Any) -> None:
    assert kstest(drawn(draw), distribution.cdf).pvalue > 0.001


def test_a_wrong_distribution_is_seen() -> None:
    assert kstest(drawn(lambda w: w.normal_(2.0)), norm().cdf).pvalue < 0.001


def test_a_dense_layer_has_torchs_own_distribution() -> None:
    weight = seeded(lambda: nn.Linear(400, 300), 7).get_parameter("weight")
    assert weight.abs().max() <= 1 / 20
    assert weight.std().item() == pytest.approx(1 / 20 / 3**0.5, rel=0.02)
    assert not torch.equal(weight[:, :200], weight[:, 200:])


@pytest.mark.parametrize(("low", "high"), [(-2, 2), (0.5, 0.6), (8, 9), (-9, -8), (30, 40), (-1e9, 1e9)])
def test_truncated_numbers_stay_within_even_far_out(low: float, high: float) -> None:
    values = randomness.truncated_gaussians(137, "test", 1000, low, high)
    assert ((values >= low) & (values <= high)).all()
    assert len(set(values)) > 990


def test_golden_truncated_numbers() -> None:
    """Any change here changes every network that draws them."""
    values = randomness.truncated_gaussians(137, "test", 3, -2, 2)
    assert values.tolist() == pytest.approx([0.4841555422749673, 1.310614976669045, 0.40410968041240725], rel=1e-12)


def test_torchs_own_initialiser_is_back_afterwards() -> None:
    before = nn.init.trunc_normal_
    drawn(nn.init.trunc_normal_)
    assert nn.init.trunc_normal_ is before
    with pytest.raises(PactlError):
        drawn(lambda w: w.bernoulli_())
    assert nn.init.trunc_normal_ is before


@pytest.mark.parametrize(
    "draw", [lambda w: torch.randn(3), torch.randn_like, torch.rand_like, lambda w: torch.randperm(3), torch.bernoulli]
)
def test_other_draws_are_refused(draw: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(PactlError, match="not the same on every machine"):
        drawn(draw)


def test_a_sketch_has_shapes_and_no_numbers() -> None:
    network = sketched(lambda: nn.Sequential(nn.Linear(10**6, 10**6), nn.BatchNorm1d(10**6)))
    assert {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} == {"meta"}
    assert network(torch.empty(2, 10**6, device="meta")).shape == (2, 10**6)
