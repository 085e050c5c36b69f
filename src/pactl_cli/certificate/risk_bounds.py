"""Upper bounds on the true error rate, from errors, examples, message bits and delta.

A hypothesis that is written as a message of `bits` bits of a prefix-free code, and that makes `errors`
mistakes on `examples` independent examples, has a true error rate at most the returned number, with
probability at least 1 - delta over the examples, for all messages at once. With bits = 0 the
hypothesis was fixed before the examples were seen.

Every bound lies between errors / examples and 1, and is 1 when every example is an error. It is a
guarantee, not an estimate: the error budget of its own evaluation is added, and the result is
rounded up. Each rounding error below is counted in units of `_EPS`, twice the unit roundoff. All
bounds raise the errors of `binomial_bound`.

>>> for bound in (binomial_bound, kl_bound, catoni_bound, mcallester_bound):
...     print(f"{bound(errors=3012, examples=60_000, bits=3854, delta=0.05):.4f}")
0.1422
0.1424
0.1428
0.1997
"""

import math
import operator
import sys
from collections.abc import Callable
from numbers import Real
from typing import Literal, SupportsIndex

import numpy as np
from numpy.typing import NDArray

_EPS = sys.float_info.epsilon
_MOST_EXAMPLES = 10**9  # the range in which the error budgets below were checked
_CATONI_ALPHA = 1e-4
_CATONI_GRID_STEP = 2.0**-11  # in ln lambda; the minimum is quadratic, so the grid is within about 3e-8 of it
_CATONI_LARGEST_RATIO = 40.0  # beyond lambda = 40 n, 1 - exp(-lambda / n) is 1 and the bound only grows


def binomial_bound(*, errors: int, examples: int, bits: float, delta: float) -> float:
    """Return the exact Occam bound: the largest p with P[Bin(examples, p) <= errors] >= delta 2^-bits.

    The sharpest of the four, and the certificate's headline. With bits = 0 it is the Clopper-Pearson
    upper limit, the hold-out bound.

    Args:
        errors: mistakes on the examples, a count in 0 .. examples.
        examples: independent examples, a count of at least 1.
        bits: length of the whole message in bits, not below 0.
        delta: probability, in (0, 1/2], that the statement fails.

    Returns:
        The bound, a rate in [errors / examples, 1]: not below the exact value, and above it by a
        relative 1e-12 at most.

    Raises:
        ValueError: an argument is out of its range. TypeError: it is not a number of its kind.

    Source: Langford 2005, "Tutorial on practical prediction theory for classification": the Occam's razor
    bound; with bits = 0 the test set bound.

    >>> 0.1422 < binomial_bound(errors=3012, examples=60_000, bits=3854, delta=0.05) < 0.14225
    True
    >>> round(binomial_bound(errors=0, examples=100, bits=0, delta=0.05), 9)  # 1 - 0.05 ** (1 / 100)
    0.02951305
    """
    errors, examples = _checked_counts(errors, examples)
    nats = _occam_nats(bits, delta)
    if errors == examples:
        return 1.0

    def is_above(p: float) -> bool:
        log_tail, slack = _log_lower_tail(errors, examples, p, 1.0 - p)
        return log_tail + slack <= -nats

    return _smallest_certified(errors / examples, is_above)


def kl_bound(
    *, errors: int, examples: int, bits: float, delta: float, form: Literal["maurer", "chernoff"] = "maurer"
) -> float:
    """Return the largest p with kl(errors / examples || p) <= (bits ln 2 + penalty) / examples.

    The penalty in nats is ln(2 sqrt(examples) / delta) in the form of Seeger and Maurer, which also
    holds for randomised hypotheses, and ln(1 / delta) in the Chernoff form, which holds for
    deterministic hypotheses, all messages at once, and relaxes `binomial_bound`.

    Args:
        errors, examples, bits, delta: as for `binomial_bound`.
        form: the penalty.

    Returns:
        The bound, a rate in [errors / examples, 1], not below the exact value.

    Source: Seeger 2002; Maurer 2004, "A note on the PAC Bayesian theorem"; Langford 2005 for the
    Chernoff form.

    >>> round(kl_bound(errors=3012, examples=60_000, bits=3854, delta=0.05, form="chernoff"), 6)
    0.142301
    """
    errors, examples = _checked_counts(errors, examples)
    nats = _occam_nats(bits, delta)
    if form == "maurer":
        nats = _maurer_nats(nats, examples)
    elif form != "chernoff":
        raise ValueError(f"form must be 'maurer' or 'chernoff', not {form!r}")
    if errors == examples:
        return 1.0

    def is_above(p: float) -> bool:
        divergence, slack = _scaled_kl(errors, examples, p, 1.0 - p)
        return divergence - slack >= nats

    return _smallest_certified(errors / examples, is_above)


def mean_bound(*, total: int, units: int, examples: int, bits: float, delta: float) -> float:
    """Return an upper bound on the mean of a loss in [0, 1]: the Chernoff form of `kl_bound`, which holds for it too.

    Args:
        total: the sum of the losses of all examples, in parts of 1 / units.
        units: the number of parts in a loss of 1.
        examples, bits, delta: as for `binomial_bound`.

    Source: Hoeffding 1963, theorem 1: the moment generating function of a variable in [0, 1] is at most that of a
    Bernoulli variable with the same mean.

    >>> mean_bound(total=30, units=10, examples=100, bits=7, delta=0.05) == kl_bound(
    ...     errors=3, examples=100, bits=7, delta=0.05, form="chernoff"
    ... )
    True
    """
    _, examples = _checked_counts(0, examples)
    total, units = _checked_integer("total", total), _checked_integer("units", units)
    if not 0 <= total <= units * examples:
        raise ValueError(f"total must be in 0 .. units * examples = {units * examples}, not {total}")
    nats = _occam_nats(bits, delta)
    if total == units * examples:
        return 1.0

    def is_above(p: float) -> bool:
        divergence, slack = _scaled_kl(total / units, examples, p, 1.0 - p, rest=(units * examples - total) / units)
        return divergence - slack >= nats

    return _smallest_certified(total / units / examples, is_above)


def catoni_bound(*, errors: int, examples: int, bits: float, delta: float) -> float:
    """Return Catoni's bound, minimised over lambda > 1: the one published for compressed networks.

    With n = examples, q = errors / n, a = 1e-4 and B = bits ln 2 - ln delta + 2 ln(2 + ln lambda / ln(1 + a)),
    the bound is (1 - exp(-lambda q / n - (1 + a) B / n)) / (1 - exp(-lambda / n)). It holds for every
    lambda > 1 at once, so the best point of a grid is a bound; the grid depends on n only, which keeps
    the result monotone in the other arguments (but for the last digit of exp).

    Args:
        errors, examples, bits, delta: as for `binomial_bound`.

    Returns:
        The bound, a rate in [errors / examples, 1]: not below the exact infimum, and above it by a
        relative 1e-7 at most.

    Source: Catoni 2007, theorem 1.2.6; in this form Zhou et al. 2019, "Non-vacuous generalization bounds at
    the ImageNet scale".

    >>> round(catoni_bound(errors=3012, examples=60_000, bits=3854, delta=0.05), 5)
    0.14282
    """
    errors, examples = _checked_counts(errors, examples)
    nats = _occam_nats(bits, delta)
    bound = float(_catoni_curve(errors, examples, nats)[1].min())
    return _rounded_up(bound * (1.0 + 32.0 * _EPS), errors, examples)


def catoni_lambda(*, errors: int, examples: int, bits: float, delta: float) -> tuple[float, float, float]:
    """Return the smallest lambda of the grid, the one with the least Catoni bound, and the largest.

    >>> low, best, high = catoni_lambda(errors=3012, examples=60_000, bits=3854, delta=0.05)
    >>> low < best < high
    True
    """
    errors, examples = _checked_counts(errors, examples)
    log_lambda, bounds = _catoni_curve(errors, examples, _occam_nats(bits, delta))
    low, best, high = np.exp(log_lambda[[0, int(bounds.argmin()), -1]]).tolist()
    return low, best, high


def _catoni_curve(errors: int, examples: int, nats: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the grid of ln lambda, ascending, and Catoni's bound at each of its points."""
    grid_end = math.log(_CATONI_LARGEST_RATIO * examples)
    log_lambda = _CATONI_GRID_STEP * np.arange(math.ceil(grid_end / _CATONI_GRID_STEP) + 1, dtype=np.float64)
    log_lambda[0] = _EPS  # the infimum may sit on the open edge lambda -> 1, where the union term is least
    ratio = np.exp(log_lambda) / examples
    union_nats = 2.0 * np.log(2.0 + log_lambda / math.log1p(_CATONI_ALPHA))
    exponent = ratio * (errors / examples) + (1.0 + _CATONI_ALPHA) * (nats + union_nats) / examples
    bounds: NDArray[np.float64] = np.expm1(-exponent) / np.expm1(-ratio)
    return log_lambda, bounds


def mcallester_bound(*, errors: int, examples: int, bits: float, delta: float) -> float:
    """Return q + sqrt((bits ln 2 + ln(2 sqrt(n) / delta)) / (2 n)), q = errors / n and n = examples.

    Args:
        errors, examples, bits, delta: as for `binomial_bound`.

    Returns:
        The bound, a rate in [errors / examples, 1], not below the exact value.

    Source: McAllester 1999, with the constant of Maurer 2004; the kl bound through Pinsker's inequality.

    >>> round(mcallester_bound(errors=3012, examples=60_000, bits=3854, delta=0.05), 6)
    0.19966
    """
    errors, examples = _checked_counts(errors, examples)
    nats = _maurer_nats(_occam_nats(bits, delta), examples)
    bound = errors / examples + math.sqrt(nats / (2 * examples))
    return _rounded_up(bound * (1.0 + 8.0 * _EPS), errors, examples)


def log_binomial_tail(*, errors: int, examples: int, p: float) -> float:
    """Return ln P[Bin(examples, p) <= errors] in nats, accurate in the far tail where P itself underflows.

    Args:
        errors: the largest count in the tail, in 0 .. examples.
        examples: number of trials, at least 1.
        p: success probability of a trial, in [0, 1].

    Returns:
        The natural logarithm, -inf only where the tail is empty (p = 1, errors < examples).
        It is rounded to nearest, so it is not a bound.

    Raises:
        ValueError: an argument is out of its range. TypeError: it is not a number of its kind.

    Source: Loader 2000, "Fast and accurate computation of binomial probabilities", for the leading term.

    >>> round(log_binomial_tail(errors=3012, examples=60_000, p=0.1422), 3)
    -2674.325
    """
    errors, examples = _checked_counts(errors, examples)
    p = _checked_real("p", p)
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p must be in [0, 1], not {p!r}")
    if errors == examples or p == 0.0:
        return 0.0
    if p == 1.0:
        return -math.inf
    if errors < (examples + 1) * p:
        return _log_lower_tail(errors, examples, p, 1.0 - p)[0]
    # errors lies above the median: the other tail is at most 1/2, so its complement loses nothing
    return math.log1p(-math.exp(_log_lower_tail(examples - errors - 1, examples, 1.0 - p, p)[0]))


def _checked_counts(errors: SupportsIndex, examples: SupportsIndex) -> tuple[int, int]:
    """Return both as plain integers with 0 <= errors <= examples and 1 <= examples."""
    count, total = _checked_integer("errors", errors), _checked_integer("examples", examples)
    if not 1 <= total <= _MOST_EXAMPLES:
        raise ValueError(f"examples must be in 1 .. {_MOST_EXAMPLES}, not {total}")
    if not 0 <= count <= total:
        raise ValueError(f"errors must be in 0 .. examples = {total}, not {count}")
    return count, total


def _checked_integer(name: str, value: SupportsIndex) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer, not a truth value")
    try:
        return operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name} must be an integer, not {value!r}") from error


def _checked_real(name: str, value: float) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, not {value!r}")
    return number


def _occam_nats(bits: float, delta: float) -> float:
    """Return bits ln 2 + ln(1 / delta), rounded up; at least ln 2."""
    bits, delta = _checked_real("bits", bits), _checked_real("delta", delta)
    if bits < 0.0:
        raise ValueError(f"bits must not be below 0, not {bits!r}")
    if not 0.0 < delta <= 0.5:
        raise ValueError(f"delta must be in (0, 0.5], not {delta!r}")
    nats = bits * math.log(2.0) - math.log(delta)
    # both terms are non-negative, so their relative errors (3 and 2 half-units) do not grow in the sum
    return nats * (1.0 + 4.0 * _EPS)


def _maurer_nats(nats: float, examples: int) -> float:
    """Add ln(2 sqrt(examples)), rounded up."""
    return (nats + math.log(2.0) + 0.5 * math.log(examples)) * (1.0 + 4.0 * _EPS)


def _rounded_up(bound: float, errors: int, examples: int) -> float:
    """Return the next float up, kept within [errors / examples, 1]; all errors means 1."""
    if errors == examples:
        return 1.0
    return min(1.0, max(math.nextafter(bound, math.inf), errors / examples))


def _smallest_certified(start: float, is_above: Callable[[float], bool]) -> float:
    """Bisect (start, 1) down to neighbouring floats; the result passed `is_above`, or is 1.

    Soundness rests on that last test alone. Every search walks the same tree of midpoints, so a
    stricter test can only move the result up, even where rounding noise makes the test flicker:
    the bound is monotone in bits and delta to the last digit.
    """
    low, high = start, 1.0
    while low < (middle := 0.5 * (low + high)) < high:
        if is_above(middle):
            high = middle
        else:
            low = middle
    return min(1.0, math.nextafter(high, math.inf))


def _log_lower_tail(k: int, n: int, p: float, r: float) -> tuple[float, float]:
    """Return ln P[Bin(n, p) <= k] for 0 <= k < (n + 1) p, r = 1 - p, k < n, and a bound on its absolute error."""
    divergence, slack = _scaled_kl(k, n, p, r)
    if k == 0:
        return -divergence, slack
    # Loader's form: the large parts of the three factorials have cancelled by algebra, not in floats
    log_scale = 0.5 * math.log(n / (2.0 * math.pi * k * (n - k)))
    log_scale += _stirling_error(n) - _stirling_error(k) - _stirling_error(n - k)
    series = _tail_series(k, n, p, r)
    # a product of i ratios carries 6 i half-units, and the mean of i over the series is at most series - 1
    return log_scale - divergence + math.log(series), slack + _EPS * (4.0 * series + 128.0)


def _tail_series(k: int, n: int, p: float, r: float) -> float:
    """Return P[Bin(n, p) <= k] / P[Bin(n, p) = k], at least 1, from the largest term down."""
    odds = r / p
    total, last, start, block = 1.0, 1.0, 0, 256
    while True:
        steps = np.arange(start, min(start + block, k), dtype=np.float64)
        terms = last * np.cumprod((k - steps) * odds / (n - k + 1 + steps))
        total += float(terms.sum())
        last, start, block = float(terms[-1]), start + len(steps), 2 * block
        # the ratios fall, so a geometric series bounds the rest from above; it is 0 when start is k
        ratio = (k - start) * odds / (n - k + 1 + start)
        rest = last * ratio / (1.0 - ratio)
        if rest <= 0.25 * _EPS * total:
            return total + rest


def _scaled_kl(k: float, n: int, p: float, r: float, rest: float | None = None) -> tuple[float, float]:
    """Return n kl(k / n || p) for 0 <= k < n, r = 1 - p, and a bound on its absolute error.

    Where k is not an integer, `rest` is n - k: both are then rounded once, which changes the two deviances by at most
    _EPS times their sum and |n p - k|.
    """
    rest = n - k if rest is None else rest
    if k == 0:
        divergence = -n * (math.log1p(-p) if p < 0.5 else math.log(r))
        return divergence, 4.0 * _EPS * divergence
    divergence = _deviance(k, n * p) + _deviance(rest, n * r)
    # 13: rounding inside both deviances and of their counts; 33: their cancellation, and the rounding of n p and n r
    return divergence, _EPS * (13.0 * divergence + 33.0 * abs(n * p - k) + 8.0)


def _deviance(count: float, mean: float) -> float:
    """Return count ln(count / mean) + mean - count >= 0 without cancellation (Loader's bd0), count > 0."""
    gap = count - mean
    if abs(gap) >= 0.1 * (count + mean):
        return count * math.log(count / mean) - gap
    v = gap / (count + mean)
    total, power, odd = gap * v, 2.0 * count * v, 1
    while True:
        power *= v * v
        odd += 2
        if total + power / odd == total:
            return total
        total += power / odd


def _stirling_error(n: int) -> float:
    """Return ln n! - ln(sqrt(2 pi n) (n / e)^n) for n >= 1, within 5 units of 2^-52."""
    if n < 16:
        return math.log(math.factorial(n) / n**n * math.exp(n) / math.sqrt(2.0 * math.pi * n))
    s = 1.0 / (n * n)
    return (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s / 1188)))) / n
