"""Statements at several deltas hold jointly: one can only fail if those at all larger deltas fail too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pactl_cli.certificate.certificate import at_deltas

EXAMPLES, BITS, TRUE_ERROR = 60, 3, 0.5
DELTAS = (0.4, 0.2, 0.1, 0.3)


def failures(errors: NDArray[np.int64], deltas: tuple[float, ...]) -> NDArray[np.bool_]:
    """Return whether the bound of any hypothesis is false, in each trial and at each delta: shape (trials, deltas)."""
    table = np.array(
        [
            [each.error_bound for each in at_deltas(errors=k, examples=EXAMPLES, bits=BITS, deltas=deltas)]
            for k in range(EXAMPLES + 1)
        ]
    )
    return np.asarray((table[errors] < TRUE_ERROR).any(axis=1))


def simulated(trials: int) -> NDArray[np.int64]:
    """Draw the errors of 2^BITS independent hypotheses, any of which may be picked after looking."""
    return np.random.default_rng(7).binomial(EXAMPLES, TRUE_ERROR, size=(trials, 2**BITS))


def test_all_hold_at_once_as_often_as_the_largest(rate: Any) -> None:
    failed = failures(simulated(40_000), DELTAS)
    any_failed = failed.any(axis=1)
    assert (any_failed == failed[:, DELTAS.index(max(DELTAS))]).all(), "they fail together or not at all"
    assert rate(any_failed, "any of them").high <= max(DELTAS)
    for delta, each in zip(DELTAS, failed.T, strict=True):
        assert rate(each, f"delta {delta}").high <= delta
    summed = sum(rate(each).low for each in failed.T)
    assert summed > 1.5 * rate(any_failed).high, "a union bound would have been paid in vain"


@pytest.mark.parametrize("larger", [0.011, 0.05, 0.5])
def test_failures_are_nested_for_every_count_and_length(larger: float) -> None:
    """For any k, n and L, the bound at the smaller delta is not below that at the larger one, to the last digit."""
    random = np.random.default_rng(0)
    for examples in random.integers(1, 5000, 60):
        errors, bits = int(random.integers(0, examples + 1)), float(random.integers(0, 3000))
        small, large = at_deltas(errors=errors, examples=int(examples), bits=bits, deltas=(0.01, larger))
        assert small.error_bound >= large.error_bound


def test_deltas_that_share_nothing_would_be_seen() -> None:
    """If each statement had its own sample, some statement would fail more often than the largest delta allows."""
    failed = [failures(np.random.default_rng(seed).binomial(EXAMPLES, 0.5, (20_000, 8)), DELTAS) for seed in range(4)]
    apart = np.stack([each[:, place] for place, each in enumerate(failed)], axis=1).any(axis=1)
    together = failed[0].any(axis=1)
    assert apart.mean() > 1.3 * together.mean()
