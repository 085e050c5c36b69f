"""The arithmetic of reference_decoder.py: whether bounds follow from their counts, by message-format.md.

It is exact: decimals of 60 digits, of which positive ones alone are added and multiplied, are rounded all up, or all
down. A bound p is not too small if P[Bin(n, p) <= k], rounded up, is at most delta 2^-B, rounded down; it follows if
for p / (1 + 1e-9) the first, rounded down, is at least the second, rounded up. Both take k steps.
"""

from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from fractions import Fraction
from math import ceil, floor

SHARE, UNIT = "the share of delta of the error", 10**6


def require(holds, complaint):
    if not holds:
        raise ValueError(complaint)


def power(base, exponent):
    half = power(base, exponent // 2) if exponent > 1 else Decimal(1)
    return half * half * (base if exponent % 2 else 1)


def follows(p, k, n, bits, delta, *, up):
    """Whether P[Bin(n, p) <= k], rounded up, is at most delta 2^-bits, rounded down; not `up`: the other way round."""
    sides, steps = (ROUND_CEILING, ROUND_FLOOR)[:: 1 if up else -1], ceil(bits * 2**60) if up else floor(bits * 2**60)
    with localcontext(Context(60, sides[0], MIN_EMIN, MAX_EMAX)):
        total = term = power(Decimal(p.denominator - p.numerator) / p.denominator, n)
        for i in range(k):
            term = term * ((n - i) * p.numerator) / ((i + 1) * (p.denominator - p.numerator))
            total += term
    with localcontext(Context(60, sides[1], MIN_EMIN, MAX_EMAX)):
        chance, factor = Decimal(delta) * power(Decimal("0.5"), steps >> 60), Decimal("0.5")
        for place in range(60)[::-1] if steps % 2**60 else ():
            factor = factor.sqrt().next_minus() if up else factor.sqrt().next_plus()
            chance = chance * factor if steps >> place & 1 else chance
    return total <= chance if up else total >= chance


def require_bound(claimed, k, n, bits, delta):
    """The claimed bound is the largest p with P[Bin(n, p) <= k] >= delta 2^-bits, or above it by a hair at most."""
    is_rate = isinstance(claimed, float) and k / n <= claimed <= 1 and 0 <= k <= n and 0 < delta <= 0.5
    require(is_rate and (k < n or claimed == 1), f"a bound of {claimed!r} at delta {delta!r} is none")
    p, less = Fraction(claimed), Fraction(claimed) / (1 + Fraction(1, 10**9))
    require(p == 1 or follows(p, k, n, bits, delta, up=True), f"a bound is too small: {claimed}")
    require(k == n or follows(less, k, n, bits, delta, up=False), f"a bound does not follow from its counts: {claimed}")


def require_mean(claimed, q, n, bits, delta):
    """The claimed bound on a mean is the largest p with n kl(q || p) <= B ln 2 - ln delta, or above it by a hair."""
    with localcontext(Context(60)):
        nats = Decimal(bits.numerator) / bits.denominator * Decimal(2).ln() - Decimal(delta).ln()
        parts = lambda p: ((q, p), (1 - q, 1 - p))  # noqa: E731
        ratio = lambda a, b: Decimal((a / b).numerator) / (a / b).denominator  # noqa: E731
        kl = lambda p: n * sum(ratio(a, 1) * ratio(a, b).ln() for a, b in parts(p) if a) - nats  # noqa: E731
        p, less = Fraction(claimed), Fraction(claimed) / (1 + Fraction(1, 10**9))
        require(q <= p <= 1 and (p == 1 or kl(p) >= 0), f"a bound is too small: {claimed}")
        require(q == 1 or less <= q or kl(less) <= 0, f"a bound does not follow from its counts: {claimed}")


def require_guarantees(said, bits, threshold):
    """All events together have at most all of delta; every bound follows from its counts."""
    counts = [2 if each["what"] == "abstain" else len(each["events"]) for each in said["guarantees"]]
    prices = [Fraction(2.0 ** -each["price_bits"]) for each in said["guarantees"]]
    shared = sum(count * part for count, part in zip(counts, prices, strict=True))
    own = sum(2.0 ** -each["bits"] for each in said["ledger"] if each["reason"] == SHARE) or 1
    require(shared + Fraction(own) <= 1 + Fraction(1, 10**12), "the guarantees share more than delta")
    for each in said["guarantees"]:
        what, paid, bounds = each["what"], bits + Fraction(each["price_bits"]), [row["bound"] for row in each["events"]]
        for bound, k, n in ((row["bound"], row["errors"], row["examples"]) for row in each["events"]):
            if n and what == "cost" and any(0 < cost < 1 for row in each["costs"] for cost in row):
                require_mean(bound, Fraction(k, n), n // UNIT, paid, said["delta"])
            elif n:
                require_bound(bound, *((k // UNIT, n // UNIT) if what == "cost" else (k, n)), paid, said["delta"])
            require(n or bound == 1 == k + 1, "a bound of no examples is none")
        examples = UNIT * said["bound_examples"] if what == "cost" else said["bound_examples"]
        require(max(row["examples"] for row in each["events"]) <= examples, f"{what} has more examples than there are")
        if what in ("class", "groups"):
            sums = [sum(row[name] for row in each["events"]) for name in ("errors", "examples")]
            require(sums == [said["errors"], examples], f"the counts of {what} are not those of all examples")
        elif len(bounds) == 1:
            require(each["events"][0]["examples"] == examples, f"{what} is not about all examples")
        stops, place = what == "abstain", threshold or 0
        require(each["threshold"] == (threshold if stops else None), f"{what} has another threshold than the message")
        number = None if what == "calibration" else bounds[place] if stops else max(bounds)
        accepted = 1 - bounds[64 + place] if stops else None
        require(
            [each["bound"], each["accepted"]] == [number, accepted], f"{what} is another number than its events say"
        )
