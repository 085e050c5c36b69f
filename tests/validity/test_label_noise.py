"""The rate of label noise is a choice that the message must pay for.

Label noise comes from one fixed stream, which at some rates happens to change few labels. A classifier that knows every
true label errs on exactly the changed labels. So the best certificate of many rates is false too often, unless the
message pays for the rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binom

from pactl_cli import randomness
from pactl_cli.certificate.codebook import Grid
from pactl_cli.certificate.configuration import complete
from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.certificate.message import Message, encode
from pactl_cli.certificate.risk_bounds import binomial_bound
from pactl_cli.certificate.task import Task
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.errors import PactlError
from pactl_cli.runs.settings import TrainSettings

DELTA, CLASSES = 0.05, 2
RATES = np.arange(1, 1000) / 1000


def errors_at(labels: torch.Tensor, rate: float) -> int:
    """Return the number of labels that the program's noise changes."""
    images = torch.zeros((len(labels), 1, 1, 1), dtype=torch.uint8)
    noisy = Dataset("npz:x.npz", CLASSES, Examples(images, labels), None).with_label_noise(rate)
    return int((noisy.train.labels != labels).sum())


def paid_bits(examples: int, rate: float) -> int:
    """Return the bits of a message of zeros with the default configuration, except for the rate."""
    task = Task("npz:x.npz", examples, 1)
    configuration = complete({"label_noise": rate}, task)
    symbols = np.zeros(configuration.intrinsic_dim, dtype=np.int64)
    return encode(Message(configuration, Grid(1.0, 0), symbols), task).bits


def errors_at_all(labels: torch.Tensor) -> NDArray[np.int64]:
    """Return the changed labels at every rate: what a rate replaces, every higher rate replaces by the same label."""
    images = torch.zeros((len(labels), 1, 1, 1), dtype=torch.uint8)
    replaced = Dataset("npz:x.npz", CLASSES, Examples(images, labels), None).with_label_noise(1.0).train.labels
    drawn = randomness.uniforms(DEFAULT_SEED, "label-noise/train/chosen", len(labels))
    return np.searchsorted(np.sort(drawn[(replaced != labels).numpy()]), RATES)


def best_is_false(random: np.random.Generator, *, paid: bool) -> bool:
    """Return whether the certificate of some rate on a fresh sample is below the error of the noisy distribution.

    This is so if a count as low has, at that error, a probability below what the certificate allows.
    """
    examples = int(random.integers(300, 3000))
    labels = torch.from_numpy(random.integers(CLASSES, size=examples))
    true_errors = RATES * (CLASSES - 1) / CLASSES
    bits = paid_bits(examples, RATES[0] if paid else 0.0)  # every rate costs as much
    chances = binom.logcdf(errors_at_all(labels), examples, true_errors)
    return bool((chances < np.log(DELTA) - np.log(2) * bits).any())


def allowed(*, paid: bool) -> float:
    """Return the probability with which the certificate of one message may be false."""
    return DELTA * 2.0 ** -paid_bits(1000, RATES[0] if paid else 0.0)


def outcomes(trials: int, *, paid: bool) -> list[bool]:
    """Return, for each trial, whether the best certificate is false."""
    random = np.random.default_rng(3)
    return [best_is_false(random, paid=paid) for _ in range(trials)]


def test_the_errors_at_all_rates_are_those_at_each() -> None:
    labels = torch.from_numpy(np.random.default_rng(0).integers(CLASSES, size=700))
    errors = errors_at_all(labels)
    for place in (0, 59, 500, 998):
        assert errors[place] == errors_at(labels, float(RATES[place]))


def test_the_criterion_is_the_certificate() -> None:
    for errors, rate in ((30, 0.1), (31, 0.1), (32, 0.1), (40, 0.1)):
        bound = binomial_bound(errors=errors, examples=1000, bits=3, delta=DELTA)
        assert (bound < rate / 2) == (binom.logcdf(errors, 1000, rate / 2) < np.log(DELTA / 8))


def test_label_noise_in_short(rate: Any) -> None:
    """Version 0.1.0 did not pay for the rate, like the first line here."""
    assert rate(outcomes(300, paid=False), "the best of 999 rates, unpaid").low > allowed(paid=False)
    assert rate(outcomes(300, paid=True), "paid").events == 0


@pytest.mark.slow
def test_label_noise(rate: Any) -> None:
    assert rate(outcomes(5000, paid=False), "the best of 999 rates, unpaid").low > 3 * allowed(paid=False)
    assert rate(outcomes(5000, paid=True), "paid").high <= len(RATES) * allowed(paid=True) + 2e-3


def test_a_rate_has_as_many_digits_as_a_message_carries() -> None:
    assert TrainSettings.parse({"label_noise": 0.0625}).label_noise == 0.0625
    with pytest.raises(PactlError, match="four decimal digits"):
        TrainSettings.parse({"label_noise": 0.06251})
