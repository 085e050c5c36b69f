"""Statistics of calibration examples: mean and deviation of inputs are exact, and so is BatchNorm's calibration."""

from __future__ import annotations

from fractions import Fraction
from math import sqrt

import numpy as np
import pytest
import torch
from torch import nn

from pactl_cli.certificate.format import CALIBRATION_BATCH
from pactl_cli.models.normalisation import calibrate, running_statistics, statistics_of
from pactl_cli.models.preparation import Prepared


def exactly(numbers: list[Fraction]) -> tuple[float, float]:
    mean = sum(numbers) / len(numbers)
    return float(mean), sqrt(float(sum((number - mean) ** 2 for number in numbers) / len(numbers)))


@pytest.mark.parametrize("kind", ["bytes", "features", "images"])
def test_statistics_are_those_of_fractions(kind: str) -> None:
    random = np.random.default_rng(3)
    if kind == "bytes":
        inputs = torch.from_numpy(random.integers(0, 256, (13, 3, 5, 4), dtype=np.uint8))
    else:
        shape = (57, 3) if kind == "features" else (13, 3, 5, 4)
        inputs = torch.from_numpy((1e3 + random.lognormal(size=shape)).astype(np.float32))
    mean, std = statistics_of(inputs)
    for channel in range(3):
        scale = 255 if kind == "bytes" else 1
        expected = exactly([Fraction(number) / scale for number in inputs[:, channel].flatten().tolist()])
        assert (mean[channel], std[channel]) == pytest.approx(expected, rel=1e-14)
        assert mean[channel] == expected[0]
        assert std[channel] == pytest.approx(float(inputs[:, channel].double().std(correction=0) / scale), rel=1e-9)


def test_the_order_of_examples_changes_no_mean() -> None:
    features = torch.from_numpy(np.random.default_rng(0).lognormal(sigma=4, size=(501, 2)).astype(np.float32))
    assert statistics_of(features) == statistics_of(features.flip(0))


def test_constant_inputs_are_not_scaled() -> None:
    assert statistics_of(torch.tensor([[0.1, 7.0], [0.1, 9.0]])) == ((float(np.float32(0.1)), 8.0), (1.0, 1.0))
    assert statistics_of(torch.full((4, 1, 2, 2), 51, dtype=torch.uint8)) == ((0.2,), (1.0,))


def test_calibration_is_the_mean_over_equal_batches() -> None:
    norm = nn.BatchNorm2d(3)
    inputs = torch.rand(2 * CALIBRATION_BATCH, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    calibrate(norm, inputs)
    halves = inputs.split(CALIBRATION_BATCH)
    mean = torch.stack([half.mean((0, 2, 3)) for half in halves]).mean(0)
    variance = torch.stack([half.var((0, 2, 3)) for half in halves]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    assert not norm.training


def test_calibration_forgets_what_was_there_and_leaves_dropout_alone() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3))
    inputs = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    calibrate(network, 100 * inputs)
    calibrate(network, inputs)
    torch.testing.assert_close(network[1].running_mean, inputs.mean((0, 2, 3)))
    assert network[1].momentum == 0.1


def test_calibration_leaves_its_examples_as_they_are() -> None:
    """A network that changes its inputs in place gets a copy."""

    class Drift(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mul_(1.00001)

    inputs = torch.rand(200, 3)
    before = inputs.clone()
    calibrate(nn.Sequential(Drift(), nn.BatchNorm1d(3)), inputs)
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_batch_statistics_are_exact_over_many_pixels_in_any_layout(layout: torch.memory_format) -> None:
    pixels = torch.rand(CALIBRATION_BATCH, 16, 28, 28, generator=torch.Generator().manual_seed(0)) + 1
    norm = nn.BatchNorm2d(16)
    calibrate(norm, pixels.contiguous(memory_format=layout))
    variance, mean = torch.var_mean(pixels.double(), (0, 2, 3))
    for found, exact in zip(running_statistics(nn.Sequential(norm)).values(), (mean, variance), strict=True):
        torch.testing.assert_close(found.double(), exact, rtol=2e-6, atol=0)
    assert not norm._forward_pre_hooks


@pytest.mark.parametrize(
    "inputs",
    [
        torch.tensor([[1.0, 20.0], [3.0, 60.0]]),
        torch.arange(16.0).view(2, 2, 2, 2),
        torch.arange(16).view(2, 2, 2, 2),
        torch.arange(0, 160, 10, dtype=torch.uint8).view(2, 2, 2, 2),
        torch.arange(0, 60, 10, dtype=torch.uint8).view(2, 3),
    ],
)
def test_calibrated_inputs_have_mean_zero_and_deviation_one(inputs: torch.Tensor) -> None:
    seen = Prepared(nn.Identity(), statistics_of(inputs), code="", every_number=True)(inputs)
    rows = seen.transpose(0, 1).flatten(1)
    assert torch.allclose(rows.mean(1), torch.zeros(()), atol=1e-6)
    assert torch.allclose(rows.std(1, correction=0), torch.ones(()), atol=1e-6)


def test_other_constants_are_for_bytes_alone() -> None:
    features = torch.tensor([[1.0, 20.0]])
    assert Prepared(nn.Identity(), ((0.5,), (0.5,)), code="")(features).tolist() == [[1, 20]]
