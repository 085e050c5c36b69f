"""Guarantees from counts of events: bounds, the choice of a threshold, costs, and sentences."""

from __future__ import annotations

from itertools import product
from math import comb, prod

import numpy as np
import pytest
from scipy.stats import beta

from pactl_cli.certificate.guarantees import (
    CONFIDENCES,
    COST_UNITS,
    THRESHOLD_BITS,
    THRESHOLDS,
    Event,
    Guarantee,
    accuracies,
    cost_units,
    event_names,
)
from pactl_cli.certificate.questions import ABSTAIN, CALIBRATION, CLASS, COST, GROUPS
from pactl_cli.certificate.risk_bounds import binomial_bound, kl_bound, mean_bound


def guarantee(what: str, counts: list[tuple[int, int]], members: range = range(3), **more: object) -> Guarantee:
    """Return a guarantee with nothing but counts: (errors, examples) of each event."""
    names = event_names(what, members)
    events = tuple(Event(name=n, errors=k, examples=m, bound=1.0) for n, (k, m) in zip(names, counts, strict=True))
    return Guarantee(what=what, price_bits=more.pop("price_bits", 0.0), events=events, bound=None, claim="", **more)  # type: ignore[arg-type]


def clopper_pearson(errors: int, examples: int, delta: float) -> float:
    return 1.0 if errors == examples else float(beta.ppf(1 - delta, errors + 1, examples - errors))


def test_without_a_message_and_a_price_they_are_clopper_pearson() -> None:
    found = guarantee(CLASS, [(3, 50), (0, 20), (7, 7)]).derived(0, 0.05)
    expected = [clopper_pearson(3, 50, 0.05), clopper_pearson(0, 20, 0.05), 1.0]
    assert [event.bound for event in found.events] == pytest.approx(expected, rel=1e-9)
    assert found.bound == 1.0
    assert found.claim == "no class has an error above 100.00 %: the worst is class 2"


def test_bits_and_price_are_paid_by_every_event() -> None:
    found = guarantee(GROUPS, [(3, 50), (1, 20), (2, 9)], price_bits=4.5).derived(10, 0.05)
    expected = [clopper_pearson(k, n, 0.05 * 2**-14.5) for k, n in [(3, 50), (1, 20), (2, 9)]]
    assert [event.bound for event in found.events] == pytest.approx(expected, rel=1e-9)
    assert found.bound == max(event.bound for event in found.events)


def test_a_class_without_examples_has_no_guarantee() -> None:
    found = guarantee(CLASS, [(1, 50), (0, 0), (0, 50)]).derived(0, 0.05)
    assert [event.bound == 1 for event in found.events] == [False, True, False]
    assert found.worst.name == "class 1"


def test_thresholds_are_as_many_as_their_bits_say_and_exact() -> None:
    assert len(THRESHOLDS) == 2**THRESHOLD_BITS
    assert THRESHOLDS[0] == 0
    ratios = np.divide(THRESHOLDS[2:], THRESHOLDS[1:-1])
    assert ratios.min() > 1.08
    assert ratios.max() < 1.16
    assert (THRESHOLDS[1], THRESHOLDS[7], THRESHOLDS[-1]) == (0.125, 0.25, 160)
    assert all(np.float32(threshold) == threshold for threshold in THRESHOLDS), "no machine rounds one"


def abstention(aim: float, seed: int = 0) -> Guarantee:
    """Return the counts of 5,000 examples, drawn so that errors have small margins."""
    random = np.random.default_rng(seed)
    margins = random.exponential(5, 5000)
    wrong = random.random(5000) < 0.5 * np.exp(-margins)
    accepted = [margins >= threshold for threshold in THRESHOLDS]
    counts = [(int((a & wrong).sum()), int(a.sum())) for a in accepted] + [(int((~a).sum()), 5000) for a in accepted]
    return guarantee(ABSTAIN, counts, abstain_error=aim, price_bits=2.0)


@pytest.mark.parametrize("aim", [0.012, 0.02, 0.05])
def test_the_threshold_accepts_most_at_the_error_that_is_aimed_at(aim: float) -> None:
    found = abstention(aim).with_threshold(20, 0.05)
    best = 0.0
    for wrong, refused in zip(found.events[:64], found.events[64:], strict=True):
        if clopper_pearson(wrong.errors, wrong.examples, 0.05 * 2**-22) <= aim:
            best = max(best, 1 - clopper_pearson(refused.errors, refused.examples, 0.05 * 2**-22))
    assert found.bound is not None
    assert found.bound <= aim
    assert found.accepted == pytest.approx(best, rel=1e-9)
    assert found.loss == 1 - (found.accepted or 0)


def test_where_no_threshold_is_good_enough_the_best_is_taken() -> None:
    found = abstention(1e-6).with_threshold(20, 0.05)
    assert found.bound == min(event.bound for event in found.events[:64])
    assert found.loss > 1


def test_an_acceptance_is_rounded_down_in_words() -> None:
    found = abstention(0.02).with_threshold(20, 0.05)
    assert found.accepted is not None
    said = float(found.claim.split("at least ")[1].split(" %")[0])
    assert 0 <= 100 * found.accepted - said < 0.01


def test_costs_of_zero_and_one_have_the_exact_tail_and_others_the_kl_inverse() -> None:
    counts = [(7 * COST_UNITS, 200 * COST_UNITS)]
    exact = guarantee(COST, counts, costs=((0.0, 1.0), (1.0, 0.0))).derived(9, 0.05)
    assert exact.bound == binomial_bound(errors=7, examples=200, bits=9, delta=0.05)
    half = guarantee(COST, counts, costs=((0.0, 0.5), (1.0, 0.0))).derived(9, 0.05)
    assert half.bound == pytest.approx(kl_bound(errors=7, examples=200, bits=9, delta=0.05, form="chernoff"), rel=1e-12)
    assert exact.bound < half.bound  # type: ignore[operator]


def test_a_cost_is_rounded_up_to_millionths_and_decimals_stay() -> None:
    assert [cost_units(cost) for cost in (0, 1, 0.1, 0.3, 1 / 3, 1e-12)] == [0, 10**6, 10**5, 3 * 10**5, 333334, 1]


@pytest.mark.parametrize("chances", [(0.5, 0.3, 0.2), (0.9, 0.1, 0.0), (0.05, 0.05, 0.9), (0.0, 1.0, 0.0)])
@pytest.mark.parametrize("examples", [1, 4, 11])
def test_the_mean_bound_by_brute_force(chances: tuple[float, ...], examples: int) -> None:
    """Over every sample of losses 0, 1/2 and 1, the bound is below the true mean with probability at most delta."""
    mean = chances[1] / 2 + chances[2]
    for delta, bits in ((0.3, 0), (0.05, 0), (0.4, 2)):
        failing = 0.0
        for half, one in product(range(examples + 1), repeat=2):
            if (zero := examples - half - one) >= 0:
                total = half + 2 * one
                if mean_bound(total=total, units=2, examples=examples, bits=bits, delta=delta) < mean:
                    ways = comb(examples, half) * comb(examples - half, one)
                    failing += ways * prod(p**k for p, k in zip(chances, (zero, half, one), strict=True))
        assert failing <= delta * 2.0**-bits


def test_the_mean_bound_of_truth_values_is_the_chernoff_bound() -> None:
    for errors, examples in ((0, 10), (3, 10), (10, 10), (57, 60_000), (999, 1000)):
        mean = mean_bound(total=3 * errors, units=3, examples=examples, bits=5, delta=0.01)
        assert mean == pytest.approx(kl_bound(errors=errors, examples=examples, bits=5, delta=0.01, form="chernoff"))
    with pytest.raises(ValueError, match="total must be in"):
        mean_bound(total=31, units=3, examples=10, bits=0, delta=0.05)


def test_accuracy_lies_between_two_bounds() -> None:
    bins = len(CONFIDENCES) + 1
    counts = [(2, 40)] * bins + [(38, 40)] * bins
    found = guarantee(CALIBRATION, counts, price_bits=3.0).derived(4, 0.05)
    for low, high in accuracies(found):
        assert low == pytest.approx(1 - clopper_pearson(2, 40, 0.05 * 2**-7))
        assert high == pytest.approx(clopper_pearson(38, 40, 0.05 * 2**-7))
        assert low < 0.95 < high
    assert found.bound is None
