"""The bounds hold for the best of several fixed hypotheses, and fail if the choice is not paid for.

Every hypothesis here errs on exactly half of all examples, so a certificate below one half is false.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from pactl_cli.certificate.risk_bounds import binomial_bound, catoni_bound, kl_bound, mcallester_bound

Bound = Callable[..., float]

EXAMPLES, DELTA, TRUE_ERROR = 100, 0.05, 0.5
CODE_BITS = 5
HYPOTHESES = 2**CODE_BITS
BOUNDS: dict[str, Bound] = {
    "binomial": binomial_bound,
    "chernoff": partial(kl_bound, form="chernoff"),
    "kl": kl_bound,
    "catoni": catoni_bound,
    "mcallester": mcallester_bound,
}


def walsh_classifiers() -> NDArray[np.bool_]:
    """Return the answers of each hypothesis to 64 inputs: parities of input bits, any two of which differ on half."""
    inputs, masks = np.arange(2 * HYPOTHESES), np.arange(1, HYPOTHESES + 1)
    return np.bitwise_count(inputs & masks[:, None]) % 2 == 1


def simulate_errors(trials: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw the errors of all hypotheses on samples of uniform inputs and fair labels: shape (trials, hypotheses)."""
    random = np.random.default_rng(seed)
    answers = walsh_classifiers()
    inputs = random.integers(answers.shape[1], size=(trials, EXAMPLES))
    labels = random.integers(2, size=(trials, EXAMPLES)) == 1
    return np.stack([np.count_nonzero(row[inputs] != labels, axis=1) for row in answers], axis=1)


def fewest_errors(hypotheses: int, trials: int) -> NDArray[np.int64]:
    """Draw the errors of the best of many independent hypotheses, by inversion of the distribution: (trials, 1)."""
    uniform = np.random.default_rng(2).random((trials, 1))
    return binom.ppf(-np.expm1(np.log1p(-uniform) / hypotheses), EXAMPLES, TRUE_ERROR).astype(np.int64)


def certificates(errors: NDArray[np.int64], bits: Any, bound: Bound = binomial_bound) -> NDArray[np.float64]:
    """Return the lowest bound of each trial, where hypothesis h is charged `bits[h]`."""
    charged = np.broadcast_to(bits, errors.shape[1:])
    tables = {
        cost: np.array([bound(errors=k, examples=EXAMPLES, bits=cost, delta=DELTA) for k in range(EXAMPLES + 1)])
        for cost in set(charged.tolist())
    }
    bounds = np.stack([tables[cost][errors[:, h]] for h, cost in enumerate(charged.tolist())], axis=1)
    return bounds.min(axis=1)


def exact_rate(bits: int) -> float:
    """Return the exact probability that the best of independent hypotheses gets a false certificate."""
    allowed = DELTA * 2.0**-bits
    most = max(k for k in range(EXAMPLES) if binom.cdf(k, EXAMPLES, TRUE_ERROR) < allowed)
    return float(1 - (1 - binom.cdf(most, EXAMPLES, TRUE_ERROR)) ** HYPOTHESES)


def check_picking(trials: int, rate: Any) -> None:
    errors = simulate_errors(trials)
    false = {bits: rate(certificates(errors, bits) < TRUE_ERROR, f"{bits} bits") for bits in (CODE_BITS, 3, 0)}
    for bits, found in false.items():
        assert found.low <= exact_rate(bits) <= found.high
    assert false[CODE_BITS].high <= DELTA
    assert false[3].low > DELTA, "two bits too few must be seen"
    assert false[0].low > 0.7, "not to charge the choice must be seen"


def test_exact_rates() -> None:
    assert exact_rate(CODE_BITS) <= DELTA
    assert exact_rate(3) > 1.5 * DELTA
    assert exact_rate(0) == pytest.approx(0.77, abs=0.01)


def test_picking_after_looking_in_short(rate: Any) -> None:
    check_picking(3000, rate)


@pytest.mark.slow
def test_picking_after_looking(rate: Any) -> None:
    check_picking(20_000, rate)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDS)
def test_no_bound_is_false_too_often(name: str, rate: Any) -> None:
    errors = simulate_errors(20_000, seed=1)
    assert rate(certificates(errors, CODE_BITS, BOUNDS[name]) < TRUE_ERROR, name).high <= DELTA


@pytest.mark.slow
@pytest.mark.parametrize("name", ["binomial", "chernoff", "kl", "mcallester"])
def test_every_bound_needs_its_bits(name: str, rate: Any) -> None:
    """With 4,096 hypotheses and free bits the looser bounds fail too. Catoni's would need more, as its union term alone
    is some 20 nats."""
    best = fewest_errors(4096, trials=5000)
    assert rate(certificates(best, 0, BOUNDS[name]) < TRUE_ERROR, f"{name}, free").low > 2 * DELTA
    assert rate(certificates(best, 12, BOUNDS[name]) < TRUE_ERROR, f"{name}, charged").high <= DELTA


@pytest.mark.slow
def test_unequal_messages(rate: Any) -> None:
    """Lengths 1, 2, .. 31, 31 fill Kraft's sum; to charge the shortest length for every message must fail."""
    errors = simulate_errors(20_000, seed=3)
    lengths = np.minimum(np.arange(1, HYPOTHESES + 1), HYPOTHESES - 1)
    assert (2.0**-lengths).sum() == 1
    assert rate(certificates(errors, lengths) < TRUE_ERROR, "own lengths").high <= DELTA
    assert rate(certificates(errors, 1) < TRUE_ERROR, "one bit each").low > 4 * DELTA


@pytest.mark.slow
@pytest.mark.parametrize("errors", [0, 3, 20, 60])
@pytest.mark.parametrize("bits", [0, CODE_BITS])
def test_the_binomial_bound_uses_up_delta(errors: int, bits: int, rate: Any) -> None:
    """If the true error is barely above the bound for some count, certificates are false with probability delta."""
    bound = binomial_bound(errors=errors, examples=EXAMPLES, bits=bits, delta=DELTA)
    random = np.random.default_rng(errors)
    drawn = random.binomial(EXAMPLES, bound * (1 + 1e-9), size=(20_000, 2**bits))
    found = rate(certificates(drawn, bits) <= bound, f"{errors} errors, {bits} bits")
    assert found.low <= DELTA
    assert found.high >= 0.9 * DELTA
    assert found.low >= 0.75 * DELTA
