"""The risk bounds against 60-digit arithmetic, against each other, and against bad arguments."""

import math
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy.special import betaincinv

from pactl_cli.certificate.risk_bounds import (
    binomial_bound,
    catoni_bound,
    kl_bound,
    log_binomial_tail,
    mcallester_bound,
)

Case = tuple[int, int, float, float]  # errors, examples, bits, delta

TOLERANCE = mpf("1e-12")  # relative; the promise is 1e-9
CATONI_TOLERANCE = mpf("1e-7")
MOST_EXAMPLES = 1_300_000


@pytest.fixture(autouse=True)
def sixty_digits() -> Iterator[None]:
    with mp.workdps(60):
        yield


# --- the oracle: textbook formulas in 60-digit arithmetic, no shared code ---


def exact_log_tail(errors: int, examples: int, p: mpf) -> mpf:
    """Return ln P[Bin(examples, p) <= errors], summed term by term from the last one down."""
    if errors == examples:
        return mpf(0)
    if p >= 1:
        return mpf("-inf")
    odds, digits = (1 - p) / p, mpf(10) ** -50
    total = term = mpf(1)
    for j in range(errors, 0, -1):
        term *= j * odds / (examples - j + 1)
        total += term
        if term < digits * total and j * odds < examples - j + 1:
            break
    factorials = mp.loggamma(examples + 1) - mp.loggamma(errors + 1) - mp.loggamma(examples - errors + 1)
    return factorials + errors * mp.log(p) + (examples - errors) * mp.log1p(-p) + mp.log(total)


def exact_nats(bits: float, delta: float) -> mpf:
    return mpf(bits) * mp.log(2) - mp.log(mpf(delta))


def exact_maurer_nats(examples: int, bits: float, delta: float) -> mpf:
    return exact_nats(bits, delta) + mp.log(2 * mp.sqrt(examples))


def exact_kl(errors: int, examples: int, p: mpf) -> mpf:
    q = mpf(errors) / examples
    if p >= 1:
        return mpf("inf") if errors < examples else mpf(0)
    left = q * mp.log(q / p) if errors else mpf(0)
    right = (1 - q) * mp.log((1 - q) / (1 - p)) if errors < examples else mpf(0)
    return left + right


def exact_catoni(case: Case) -> mpf:
    """Return the infimum over lambda >= 1 of Catoni's bound, by a dense grid in numpy and a search in mpmath."""
    errors, examples, bits, delta = case
    q, alpha, nats = mpf(errors) / examples, mpf(0.0001), exact_nats(bits, delta)

    def bound(x: Any, ln: Callable[[Any], Any], expm1: Callable[[Any], Any], exp: Callable[[Any], Any], to: Any) -> Any:
        scale = exp(x) / examples
        union = 2 * ln(2 + x / to(mp.log1p(alpha)))
        return expm1(-scale * (to(q) + to(1 + alpha) * (to(nats) + union) / exp(x))) / expm1(-scale)

    def exact(x: mpf) -> mpf:
        return bound(x, mp.log, mp.expm1, mp.exp, mpf)

    end = math.log(200.0 * examples)
    grid = np.concatenate([np.geomspace(1e-12, 1e-3, 500), np.linspace(1e-3, end, 4001)])
    best = int(np.argmin(bound(grid, np.log, np.expm1, np.exp, float)))
    low, high = mpf(grid[max(best - 1, 0)]), mpf(grid[min(best + 1, len(grid) - 1)])
    for _ in range(40):
        third = (high - low) / 3
        low, high = (low, high - third) if exact(low + third) <= exact(high - third) else (low + third, high)
    return min(mpf(1), exact(mpf(0)), exact((low + high) / 2))


def solves(bound: float, errors: int, examples: int, is_above: Callable[[mpf], bool]) -> bool:
    """Return True if `bound` is not below the root of an increasing test, and at most TOLERANCE above it."""
    if not errors / examples <= bound <= 1.0:
        return False
    below = mpf(bound) * (1 - TOLERANCE)
    is_sound = bound == 1.0 or is_above(mpf(bound))
    return is_sound and (below * examples <= errors or not is_above(below))


def binomial_is_right(bound: float, case: Case) -> bool:
    errors, examples, bits, delta = case
    target = -exact_nats(bits, delta)
    return solves(bound, errors, examples, lambda p: bool(exact_log_tail(errors, examples, p) <= target))


def kl_is_right(bound: float, case: Case, form: str) -> bool:
    errors, examples, bits, delta = case
    nats = exact_maurer_nats(examples, bits, delta) if form == "maurer" else exact_nats(bits, delta)
    return solves(bound, errors, examples, lambda p: bool(examples * exact_kl(errors, examples, p) >= nats))


def mcallester_is_right(bound: float, case: Case) -> bool:
    errors, examples, bits, delta = case
    exact = mpf(errors) / examples + mp.sqrt(exact_maurer_nats(examples, bits, delta) / (2 * examples))
    exact = min(mpf(1), exact)
    return bool(exact <= bound <= exact * (1 + TOLERANCE))


def catoni_is_right(bound: float, case: Case) -> bool:
    errors, examples, _, _ = case
    exact = exact_catoni(case)
    return errors / examples <= bound and bool(exact <= bound <= exact * (1 + CATONI_TOLERANCE))


# --- the cases ---


def arguments(case: Case) -> dict[str, Any]:
    return dict(zip(("errors", "examples", "bits", "delta"), case, strict=True))


def random_case(source: random.Random, most_examples: int = MOST_EXAMPLES) -> Case:
    """Draw log-uniform sizes, and error counts at both ends as well as in the middle."""
    examples = round(math.exp(source.uniform(0.0, math.log(most_examples))))
    few = min(examples, round(math.exp(source.uniform(0.0, math.log(examples)))))
    errors = source.choice([0, few, examples - few, source.randint(0, examples), source.randint(0, examples)])
    bits = source.choice([0.0, 10.0 ** source.uniform(-3.0, 6.0), examples * 10.0 ** source.uniform(-3.0, 1.0)])
    return errors, examples, min(bits, 1e6), 10.0 ** source.uniform(-12.0, math.log10(0.5))


GRID: list[Case] = [
    (errors, examples, bits, delta)
    for examples in (1, 2, 10, 1000, 60_000, MOST_EXAMPLES)
    for errors in sorted({0, 1, examples // 20, examples // 2, examples - 1, examples})
    for bits in (0.0, 1.0, 3854.0, 1e6)
    for delta in (0.5, 1e-12)
]
RANDOM = [random_case(random.Random(seed)) for seed in range(150)]
FOUR_BOUNDS: list[Any] = [binomial_bound, kl_bound, catoni_bound, mcallester_bound]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    examples = draw(st.one_of(st.integers(1, 50), st.integers(1, MOST_EXAMPLES)))
    errors = draw(st.one_of(st.integers(0, examples), st.just(examples - 1)))
    return errors, examples, draw(BITS), draw(DELTAS)


BITS = st.one_of(st.just(0.0), st.floats(0.0, 100.0), st.floats(0.0, 1e6))
DELTAS = st.floats(1e-12, 0.5)
a_law = settings(max_examples=60, deadline=None)


# --- the oracle itself, and that the comparisons can fail ---


@pytest.mark.parametrize(("errors", "examples"), [(0, 1), (3, 10), (9, 10), (40, 300), (299, 300)])
@pytest.mark.parametrize("p", [0.001, 0.3, 0.97])
def test_the_oracle_agrees_with_exact_fractions_and_with_betainc(errors: int, examples: int, p: float) -> None:
    x = Fraction(p)
    tail = sum(math.comb(examples, j) * x**j * (1 - x) ** (examples - j) for j in range(errors + 1))
    exact = mp.log(mpf(tail.numerator)) - mp.log(mpf(tail.denominator))
    assert mp.almosteq(exact_log_tail(errors, examples, mpf(p)), exact, 1e-40)
    beta = mpmath.betainc(examples - errors, errors + 1, 0, 1 - mpf(p), regularized=True)
    assert mp.almosteq(exact_log_tail(errors, examples, mpf(p)), mp.log(beta), 1e-40)


@pytest.mark.parametrize("case", [(3012, 60_000, 3854.0, 0.05), (7, 20, 1.0, 0.05), (999, 1000, 0.0, 0.05)])
@pytest.mark.parametrize("factor", [1 - 1e-11, 1 + 1e-11])
def test_a_bound_slightly_off_is_told_apart(case: Case, factor: float) -> None:
    off = factor * np.array([binomial_bound(**arguments(case)), kl_bound(**arguments(case))])
    assert not binomial_is_right(float(off[0]), case)
    assert not kl_is_right(float(off[1]), case, "maurer")
    exact = catoni_bound(**arguments(case))
    assert not catoni_is_right(exact * (1 + 1e4 * (factor - 1) * (1 if factor > 1 else 10)), case)


# --- against 60 digits ---


def test_binomial_bound_is_the_root_rounded_up() -> None:
    wrong = [case for case in GRID + RANDOM if not binomial_is_right(binomial_bound(**arguments(case)), case)]
    assert not wrong


@pytest.mark.parametrize("form", ["maurer", "chernoff"])
def test_kl_bound_is_the_root_rounded_up(form: Any) -> None:
    wrong = [case for case in GRID + RANDOM if not kl_is_right(kl_bound(**arguments(case), form=form), case, form)]
    assert not wrong


def test_mcallester_bound_is_the_formula_rounded_up() -> None:
    wrong = [case for case in GRID + RANDOM if not mcallester_is_right(mcallester_bound(**arguments(case)), case)]
    assert not wrong


def test_catoni_bound_is_the_infimum_rounded_up() -> None:
    some = GRID[::4] + RANDOM[:60]
    wrong = [case for case in some if not catoni_is_right(catoni_bound(**arguments(case)), case)]
    assert not wrong


@given(case=cases())
@settings(max_examples=40, deadline=None)
def test_binomial_bound_is_right_wherever_hypothesis_looks(case: Case) -> None:
    with mp.workdps(60):
        assert binomial_is_right(binomial_bound(**arguments(case)), case)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_every_bound_over_a_wide_sweep(seed: int) -> None:
    source = random.Random(1000 + seed)
    for case in (random_case(source) for _ in range(250)):
        assert binomial_is_right(binomial_bound(**arguments(case)), case), case
        assert kl_is_right(kl_bound(**arguments(case)), case, "maurer"), case
        assert kl_is_right(kl_bound(**arguments(case), form="chernoff"), case, "chernoff"), case
        assert mcallester_is_right(mcallester_bound(**arguments(case)), case), case
        assert catoni_is_right(catoni_bound(**arguments(case)), case), case


@pytest.mark.slow
@pytest.mark.parametrize("errors", [1, 1000, 30_000_000, 500_000_000, 999_999_000, 999_999_999])
@pytest.mark.parametrize("bits", [0.0, 1e4])
def test_binomial_bound_at_the_largest_number_of_examples(errors: int, bits: float) -> None:
    case = (errors, 10**9, bits, 0.05)
    assert binomial_is_right(binomial_bound(**arguments(case)), case)


@pytest.mark.parametrize("p", [1e-15, 0.0009, 0.05, 0.0502, 0.4, 0.5, 0.97, 1 - 2.0**-53])
@pytest.mark.parametrize(
    ("errors", "examples"), [(0, 1), (1, 2), (3012, 60_000), (59_999, 60_000), (65_000, MOST_EXAMPLES)]
)
def test_log_binomial_tail_on_both_sides_of_the_median(errors: int, examples: int, p: float) -> None:
    if p * examples > errors:
        exact = exact_log_tail(errors, examples, mpf(p))
    else:
        exact = mp.log1p(-mp.exp(exact_log_tail(examples - errors - 1, examples, 1 - mpf(p))))
    computed = log_binomial_tail(errors=errors, examples=examples, p=p)
    assert abs(computed - exact) <= 1e-12 * abs(exact) + mpf("1e-300")


def test_log_binomial_tail_at_the_ends() -> None:
    assert log_binomial_tail(errors=0, examples=5, p=0.0) == 0.0
    assert log_binomial_tail(errors=0, examples=5, p=1e-300) == pytest.approx(-5e-300, rel=1e-15)
    assert log_binomial_tail(errors=3, examples=5, p=1e-300) == 0.0
    assert log_binomial_tail(errors=4, examples=5, p=1.0) == -math.inf
    assert log_binomial_tail(errors=5, examples=5, p=1.0) == 0.0


# --- known values ---


@pytest.mark.parametrize(
    ("errors", "bits", "bound"), [(3012, 3854, 0.1422), (4380, 3458, 0.1688), (3600, 4395, 0.1651)]
)
def test_binomial_bound_at_known_points(errors: int, bits: float, bound: float) -> None:
    assert round(binomial_bound(errors=errors, examples=60_000, bits=bits, delta=0.05), 4) == bound


@given(examples=st.integers(2, 5000), share=st.floats(0.0, 1.0), delta=st.floats(1e-4, 0.5))
@a_law
def test_without_bits_the_binomial_bound_is_clopper_pearson(examples: int, share: float, delta: float) -> None:
    errors = int(share * (examples - 1))
    expected = float(betaincinv(errors + 1, examples - errors, 1.0 - delta))
    assert binomial_bound(errors=errors, examples=examples, bits=0, delta=delta) == pytest.approx(expected, rel=1e-9)


def test_tiny_cases_by_hand() -> None:
    assert binomial_bound(errors=0, examples=1, bits=0, delta=0.05) == pytest.approx(0.95, rel=1e-15)
    assert binomial_bound(errors=1, examples=2, bits=1, delta=0.5) == pytest.approx(math.sqrt(0.75), rel=1e-15)
    assert binomial_bound(errors=1, examples=2, bits=1e5, delta=0.5) == 1.0


# --- laws ---


@given(case=cases())
@a_law
def test_the_bounds_are_ordered(case: Case) -> None:
    errors, examples, _, _ = case
    binomial, chernoff = binomial_bound(**arguments(case)), kl_bound(**arguments(case), form="chernoff")
    maurer, mcallester = kl_bound(**arguments(case)), mcallester_bound(**arguments(case))
    assert errors / examples <= binomial <= chernoff <= maurer <= mcallester * (1 + 1e-12)
    assert maurer <= 1.0
    assert errors / examples <= catoni_bound(**arguments(case)) <= 1.0


@pytest.mark.parametrize("bound", FOUR_BOUNDS)
@given(examples=st.integers(1, MOST_EXAMPLES), bits=BITS, delta=DELTAS)
@settings(max_examples=20, deadline=None)
def test_all_errors_mean_exactly_one(bound: Any, examples: int, bits: float, delta: float) -> None:
    assert bound(errors=examples, examples=examples, bits=bits, delta=delta) == 1.0


@pytest.mark.parametrize("bound", FOUR_BOUNDS)
@given(case=cases(), other=cases())
@settings(max_examples=25, deadline=None)
def test_more_errors_bits_or_confidence_never_lower_a_bound(bound: Any, case: Case, other: Case) -> None:
    errors, examples, bits, delta = case
    value = bound(**arguments(case))
    if bound is catoni_bound:
        value *= 1 - 1e-15  # exp itself is not monotone to the last digit
    assert bound(errors=min(errors + 1, examples), examples=examples, bits=bits, delta=delta) >= value
    assert bound(errors=errors, examples=examples, bits=bits + other[2], delta=delta) >= value
    assert bound(errors=errors, examples=examples, bits=bits, delta=min(delta, other[3])) >= value


@pytest.mark.parametrize("bound", [binomial_bound, kl_bound])
@pytest.mark.parametrize("errors", [0, 1, 3012, 30_000, 59_999])
def test_the_inverted_bounds_are_monotone_to_the_last_digit_of_bits(bound: Any, errors: int) -> None:
    bits = [3854.0]
    for _ in range(100):
        bits.append(math.nextafter(bits[-1], math.inf))
    bounds = [bound(errors=errors, examples=60_000, bits=b, delta=0.05) for b in bits]
    assert bounds == sorted(bounds)


def test_numpy_integers_are_counts_and_the_result_is_a_plain_float() -> None:
    for bound in FOUR_BOUNDS:
        value = bound(errors=np.int64(3), examples=np.int32(50), bits=np.float32(2.0), delta=0.05)
        assert type(value) is float
        assert value == bound(errors=3, examples=50, bits=2, delta=0.05)


# --- bad arguments ---

GOOD: dict[str, Any] = {"errors": 3, "examples": 50, "bits": 2.0, "delta": 0.05}
BAD: list[tuple[str, Any, type[Exception]]] = [
    ("errors", -1, ValueError),
    ("errors", 51, ValueError),
    ("errors", 3.0, TypeError),
    ("errors", True, TypeError),
    ("errors", np.True_, TypeError),
    ("errors", "3", TypeError),
    ("examples", 0, ValueError),
    ("examples", 10**9 + 1, ValueError),
    ("examples", 50.0, TypeError),
    ("examples", True, TypeError),
    ("bits", -0.001, ValueError),
    ("bits", math.inf, ValueError),
    ("bits", math.nan, ValueError),
    ("bits", 10**400, ValueError),
    ("bits", "2", TypeError),
    ("bits", True, TypeError),
    ("delta", 0.0, ValueError),
    ("delta", -0.1, ValueError),
    ("delta", 0.500001, ValueError),
    ("delta", math.nan, ValueError),
    ("delta", None, TypeError),
]


@pytest.mark.parametrize("bound", FOUR_BOUNDS)
@pytest.mark.parametrize(("name", "value", "error"), BAD)
def test_a_bad_argument_is_named(bound: Any, name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^{name} must"):
        bound(**(GOOD | {name: value}))


@pytest.mark.parametrize(("name", "value"), [("errors", 6), ("examples", 0), ("p", -0.1), ("p", 1.1), ("p", math.nan)])
def test_a_bad_argument_of_the_tail_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must"):
        log_binomial_tail(**({"errors": 2, "examples": 5, "p": 0.3} | {name: value}))


def test_an_unknown_form_is_named() -> None:
    with pytest.raises(ValueError, match=r"^form must"):
        kl_bound(**GOOD, form="seeger")  # type: ignore[arg-type]
