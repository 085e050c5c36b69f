"""Guarantees beside the error: counts of events, a bound for each, and a sentence that states the guarantee."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import pairwise
from math import ceil, inf
from typing import Annotated

from pydantic import Field

from pactl_cli.certificate.percent import percent, percent_at_least
from pactl_cli.certificate.questions import (
    ABSTAIN,
    CALIBRATION,
    CLASS,
    COST,
    GROUPS,
    MOST_EVENTS,
    rank_of,
)
from pactl_cli.certificate.record import Error, Record
from pactl_cli.certificate.risk_bounds import binomial_bound, mean_bound

THRESHOLD_BITS = 6
_SIXTHS = (16, 18, 20, 23, 25, 28)
THRESHOLDS = (0.0, *(2.0 ** (place // 6 - 7) * _SIXTHS[place % 6] for place in range(2**THRESHOLD_BITS - 1)))
"""The margins between the two largest logits below which a classifier may abstain: 0, then six in each doubling."""

CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""The borders between the bins of the largest softmax probability."""

MEMBERS = {CLASS: "class", GROUPS: "group"}
"""The word for a member of a guarantee whose events are each about the examples of one member."""

COST_UNITS = 10**6
"""The units in a cost of 1: costs are counted in millionths, rounded up."""


class Event(Record):
    """An event, its count, and an upper bound on its probability.

    Attributes:
        errors: the number of examples on which it occurred; for costs, their sum in millionths.
        examples: the number of examples on which it could occur; for costs, in millionths too.
        bound: the bound on the probability of the event for an example of that kind; 1 where there were none.
    """

    name: str = Field(max_length=60, pattern=r"^[a-z0-9 .-]+$")
    errors: int = Field(ge=0)
    examples: int = Field(ge=0)
    bound: Error


class Guarantee(Record):
    """A guarantee that holds jointly with the error, and the counts behind it.

    Attributes:
        what: its name.
        price_bits: the bits that each event pays for its share of delta.
        events: the events, in the order of `event_names`.
        bound: the guarantee as one number: for classes and groups the worst, for abstention the error of the accepted.
        accepted: for abstention, a lower bound on the share of new examples that is accepted.
        claim: the guarantee in words.
        threshold: for abstention, the place of the margin in `THRESHOLDS`.
        abstain_error: the target that the threshold was chosen for: an error among the accepted.
        groups_sha256: a hash of the groups of the counted examples.
        costs: the cost of each pair of a true and a predicted class.
    """

    what: str = Field(max_length=20, pattern=r"^[a-z]+(-[0-9]+)?$")
    price_bits: float = Field(ge=0)
    events: tuple[Event, ...] = Field(min_length=1, max_length=MOST_EVENTS)
    bound: Error | None
    accepted: Error | None = None
    claim: str
    threshold: Annotated[int, Field(ge=0, lt=2**THRESHOLD_BITS)] | None = None
    abstain_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    groups_sha256: str | None = None
    costs: tuple[tuple[Annotated[float, Field(ge=0, le=1)], ...], ...] | None = None

    @property
    def shared_events(self) -> int:
        """The number of events that divide its share of delta; the message pays for the choice of a threshold."""
        return 2 if self.what == ABSTAIN else len(self.events)

    @property
    def margin(self) -> float:
        """The margin below which the classifier abstains."""
        return 0.0 if self.threshold is None else THRESHOLDS[self.threshold]

    @property
    def loss(self) -> float:
        """The number by which messages are compared if this is the headline; less is better.

        For abstention this is the share that is refused, or, above the target error, 1 more than the error.
        """
        if self.what != ABSTAIN:
            return inf if self.bound is None else self.bound
        error = self.bound or 0.0
        return 1 - (self.accepted or 0.0) if error <= (self.abstain_error or 0.0) else 1 + error

    @property
    def worst(self) -> Event:
        """The event with the largest bound, the first of several."""
        return max(self.events, key=lambda event: event.bound)

    def derived(self, bits: float, delta: float) -> Guarantee:
        """Return the same counts with all that follows from them.

        Args:
            bits: the bits of the message, and those paid for choices that it does not carry.
            delta: the delta of the certificate.
        """
        paid = bits + self.price_bits
        is_exact = all(cost in (0, 1) for row in self.costs or () for cost in row)  # then a sum of costs is a count
        events = tuple(_bounded(event, self.what, paid, delta, is_exact=is_exact) for event in self.events)
        return self.model_copy(update={"events": events})._at_threshold(self.threshold)

    def with_threshold(self, bits: float, delta: float) -> Guarantee:
        """Return abstention with the best threshold.

        This is the one that certifies the largest acceptance at the target error or, if none reaches the target, the
        one that certifies the least error.
        """
        found = self.derived(bits, delta)
        tried = (found._at_threshold(place) for place in range(len(THRESHOLDS)))
        return min(tried, key=lambda each: each.loss)

    def _at_threshold(self, place: int | None) -> Guarantee:
        """Return the guarantee with its number and its words, for the threshold at a place."""
        bound, accepted = _numbers(self.what, self.events, place)
        found = self.model_copy(update={"threshold": place, "bound": bound, "accepted": accepted})
        return found.model_copy(update={"claim": claim_of(found)})


def cost_units(cost: float) -> int:
    """Return a cost in `COST_UNITS`, rounded up.

    >>> cost_units(0.1), cost_units(1e-9)
    (100000, 1)
    """
    return ceil(Decimal(repr(cost)) * COST_UNITS)


def event_names(what: str, members: Sequence[int]) -> list[str]:
    """Return the names of a guarantee's events, in order.

    Args:
        members: the numbers of the classes, or of the groups.
    """
    if what in MEMBERS:
        return [f"{MEMBERS[what]} {member}" for member in members]
    if what == ABSTAIN:
        return [f"{event} at {margin:g}" for event in ("wrong if accepted", "refused") for margin in THRESHOLDS]
    if what == CALIBRATION:
        ends = (0.0, *CONFIDENCES, 1.0)
        bins = [f"{low:g} to {high:g}" for low, high in pairwise(ends)]
        return [f"{event} at {each}" for event in ("wrong", "right") for each in bins]
    return [what]


def _bounded(event: Event, what: str, bits: float, delta: float, *, is_exact: bool) -> Event:
    """Return an event with its bound."""
    if not event.examples:
        bound = 1.0
    elif what != COST:
        bound = binomial_bound(errors=event.errors, examples=event.examples, bits=bits, delta=delta)
    elif is_exact:
        counts = event.errors // COST_UNITS, event.examples // COST_UNITS
        bound = binomial_bound(errors=counts[0], examples=counts[1], bits=bits, delta=delta)
    else:
        examples = event.examples // COST_UNITS
        bound = mean_bound(total=event.errors, units=COST_UNITS, examples=examples, bits=bits, delta=delta)
    return event.model_copy(update={"bound": bound})


def _numbers(what: str, events: Sequence[Event], threshold: int | None) -> tuple[Error | None, Error | None]:
    """Return a guarantee as one number and, for abstention, the share that is accepted."""
    if what == CALIBRATION:
        return None, None
    if what == ABSTAIN:
        place = threshold or 0
        return events[place].bound, 1 - events[place + len(THRESHOLDS)].bound
    return max(event.bound for event in events), None


def claim_of(guarantee: Guarantee) -> str:
    """Return a guarantee in words that can follow "with 95 % confidence,"."""
    what, bound = guarantee.what, percent(guarantee.bound)
    if rank := rank_of(what):
        return f"for at most {bound} of new examples the true class is not among the {rank} that are ranked highest"
    if what in MEMBERS:
        return f"no {MEMBERS[what]} has an error above {bound}: the worst is {guarantee.worst.name}"
    if what == ABSTAIN:
        accepted = percent_at_least(guarantee.accepted or 0.0)
        return (
            f"this classifier accepts at least {accepted} of new examples and errs on at most {bound} of those "
            f"that it accepts; it abstains where {_where(guarantee.margin)}"
        )
    if what == COST:
        cost = ceil(Decimal(repr(guarantee.bound)) * 10**6) / 10**6
        return f"the mean cost on new examples is at most {cost:.6g}"
    half = len(guarantee.events) // 2
    seen = [ends for ends, event in zip(accuracies(guarantee), guarantee.events[:half], strict=True) if event.examples]
    widest = percent(max((high - low for low, high in seen), default=1.0))
    return f"the accuracy in each of {len(seen)} bins of confidence lies in an interval, the widest of {widest}"


def _where(margin: float) -> str:
    """Return in words when a classifier abstains; with a margin of 0, only a logit that is not finite."""
    return f"its two largest logits differ by less than {margin:g}" if margin else "a logit is no number"


def accuracies(guarantee: Guarantee) -> Iterator[tuple[float, float]]:
    """Yield the interval, as (low, high), of the accuracy in each bin of confidence."""
    half = len(guarantee.events) // 2
    for wrong, right in zip(guarantee.events[:half], guarantee.events[half:], strict=True):
        yield 1 - wrong.bound, right.bound
