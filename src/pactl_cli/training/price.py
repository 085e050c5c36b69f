"""The price of a bit: how much of the loss a bit of the message is worth."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, log, sqrt

from pactl_cli.certificate.risk_bounds import binomial_bound
from pactl_cli.errors import FAILED, PactlError
from pactl_cli.training.counting import Counts


@dataclass(frozen=True)
class Price:
    """rho at which cross-entropy and bits lower the bound alike (mathematics, section 2).

    Attributes:
        slope: change of the error per change of the mean cross-entropy, in nats: as between the classifier that was
            counted and one that has neither; but at least `FLOOR` of that between it and guessing: after a short
            training the loss is large where errors are few, and so dear a bit would drop all that was learned.
        examples: n.
        most: it is never above this: where few bits are left it would grow without limit, and then none would be.
    """

    HASTE = 1.7
    """A run of a few thousand steps ends before all that this price would drop is dropped: measured, not derived."""
    FLOOR = 1 / 3
    """Measured as well."""

    slope: float
    examples: int
    delta: float
    most: float = inf

    @classmethod
    def of(cls, trained: Counts, classes: int, delta: float) -> Price:
        """Return the price for a classifier that was counted before it is quantised.

        Raises:
            PactlError: with exit code 1 if its log-loss is not finite.
        """
        if not isfinite(trained.nll_nats):
            raise PactlError(
                "the log-loss before fine-tuning is not finite, and so has no price in bits",
                "certify without fine-tuning: --quant-epochs 0",
                FAILED,
            )
        nats = max(trained.nll_nats / trained.examples, 1e-9)
        error = max(trained.plain_error, 1 / trained.examples)
        slope, lost = error / nats, log(classes) - nats
        if lost > 0:
            slope = max(slope, cls.FLOOR * (1 - 1 / classes - error) / lost)
        return cls(slope, trained.examples, delta)

    def at(self, error: float, bits: float) -> float:
        """Return rho, the price of a bit, at this training error and this many bits.

        With p the bound and q the error, dp/d(nats/n) = 1 / ((1-q)/(1-p) - q/p) and dp/dq is that times
        ln(p(1-q) / (q(1-p))); their quotient, times the slope, is the price.
        """
        errors = min(max(1, round(error * self.examples)), self.examples - 1)
        q = errors / self.examples
        p = min(binomial_bound(errors=errors, examples=self.examples, bits=bits, delta=self.delta), 1 - 1e-9)
        return min(self.HASTE / (self.slope * log(p * (1 - q) / (q * (1 - p)))), self.most)


def next_price(first: float, found: dict[float, float]) -> float:
    """Return the constant price to try next.

    The first is half of `first`. While the best so far is the least or the largest that was tried, the next is half or
    twice of it; after that it lies between the best and the better of its two neighbours.

    Args:
        found: the bound at each price that was tried.
    """
    prices = sorted(found, key=found.__getitem__) or [first]
    best, low, high = prices[0], min(prices), max(prices)
    if best in (low, high):
        return best / 2 if best == low else 2 * best
    below, above = max(p for p in prices if p < best), min(p for p in prices if p > best)
    return sqrt(best * min(below, above, key=found.__getitem__))
