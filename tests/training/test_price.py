"""What a bit of the message is worth in fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest

from pactl_cli.training.counting import Counts
from pactl_cli.training.price import Price, next_price


def price(errors: int, nats: float, classes: int = 2) -> Price:
    """That of a classifier with so many errors of 1,000, and this mean cross-entropy."""
    counts = Counts(1000, errors, errors, errors, errors, nll_nats=1000 * nats)
    return Price.of(counts, classes, delta=0.05)


def test_the_slope_is_the_error_per_nat() -> None:
    assert price(100, 0.25).slope == 0.1 / 0.25


def test_a_classifier_that_is_right_but_unsure_does_not_make_bits_dear() -> None:
    """Photographs, 1 % of errors at 0.56 nats: at the price of 0.01 errors for 0.56 nats all that was learned went."""
    assert price(10, 0.56).slope > 10 * 0.01 / 0.56


def test_more_loss_than_that_of_guessing_has_a_price_too() -> None:
    assert price(400, 0.9).slope == 0.4 / 0.9
    assert price(400, 2.0, classes=10).slope > 0.4 / 2.0


def test_fewer_errors_make_bits_cheaper() -> None:
    assert price(10, 0.1).at(0.01, 300) < price(300, 0.7).at(0.3, 300)


def tried(bound: Callable[[float], float], times: int) -> list[float]:
    """The prices that are tried where 4 is the first and each gives this bound."""
    found: dict[float, float] = {}
    for _ in range(times):
        price = next_price(4, found)
        found[price] = bound(price)
    return list(found)


def test_prices_are_tried_beyond_the_best_or_beside_it() -> None:
    assert tried(lambda price: price, 4) == [2, 1, 0.5, 0.25]
    assert tried(lambda price: -price, 5) == [2, 1, 4, 8, 16]
    assert tried(lambda price: 1.0, 3) == [2, 1, 4], "of prices with one bound the first is the best"
    assert tried(lambda price: abs(log(price / 3)), 6) == pytest.approx([2, 1, 4, 8, 8**0.5, 2**1.75])


@pytest.mark.parametrize("best", [0.3, 1.7, 3.0, 5.5, 30.0])
def test_the_search_of_prices_comes_near_the_best(best: float) -> None:
    assert min(abs(log(price / best)) for price in tried(lambda price: abs(log(price / best)), 7)) < log(2) / 2
