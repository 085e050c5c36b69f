"""The sentence of a certificate never claims more than what holds."""

from __future__ import annotations

import random
import re
from fractions import Fraction
from math import ulp

import pytest

from pactl_cli.certificate.certificate import sentence

SHORT = "more than 99.9999999999999999"


def confidence(delta: float, *, hold_out: bool = False) -> str:
    """Return the confidence in the sentence."""
    found = re.search(r"[Ww]ith ((?:more than )?[0-9.]+) % confidence", sentence(0.1, delta, 9, "x", hold_out=hold_out))
    assert found
    return found[1]


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (0.5, "50"),
        (0.05, "95"),
        (0.01, "99"),
        (0.001, "99.9"),
        (0.1, "90"),
        (0.035, "96.5"),
        (1 / 3, "66.66666666"),
        (1e-12, "99.9999999999"),
        (1e-18, "99.9999999999999999"),
        (9e-19, SHORT),
        (1e-300, SHORT),
        (5e-324, SHORT),
    ],
)
def test_confidence_in_words(delta: float, expected: str) -> None:
    assert confidence(delta) == expected
    assert confidence(delta, hold_out=True) == expected


def deltas() -> list[float]:
    """Return thousands of deltas, with few and many digits, large and small."""
    draw = random.Random(0)
    spread = [0.5 * 10 ** -draw.uniform(0, 20) for _ in range(4000)]
    even = [draw.uniform(1e-9, 0.5) for _ in range(2000)]
    rounded = [float(f"{delta:.{draw.randint(1, 4)}g}") for delta in spread]
    return [*spread, *even, *rounded]


def test_confidence_is_rounded_down_and_little() -> None:
    """Compare with exact fractions; a float may stand for a decimal that is half a unit in the last place away."""
    for delta in deltas():
        said = confidence(delta)
        exact = 100 * (1 - Fraction(repr(delta)))
        if said == SHORT:
            assert exact > Fraction(said.removeprefix("more than "))
            continue
        assert Fraction(said) <= exact, delta
        assert Fraction(said) <= 100 * (1 - Fraction(delta) + Fraction(ulp(delta)) / 2), delta
        assert exact - Fraction(said) <= Fraction(delta) * 100 / 10**8, delta


def test_confidence_never_says_everything() -> None:
    for exponent in range(1, 324):
        assert Fraction(confidence(10.0**-exponent).removeprefix("more than ")) < 100
