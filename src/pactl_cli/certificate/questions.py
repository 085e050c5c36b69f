"""Which guarantees a certificate is asked for, and the price of each of their events.

A guarantee is about events. An event is true or false for one example under the decoded classifier, such as "its class
is not among the five that the classifier ranks highest". The guarantees of one certificate share delta, so they hold
jointly; the events of a guarantee share its part equally. A share of 2^-b costs b bits, so the shares of all events
form a prefix code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from pactl_cli.certificate.format import MOST_GUARANTEES

ERROR, CLASS, GROUPS, ABSTAIN, COST, CALIBRATION = "error", "class", "groups", "abstain", "cost", "calibration"
SHOWN = f"{ERROR}, top-K, {CLASS}, {GROUPS}, {ABSTAIN}, {COST}, {CALIBRATION}"
"""The names of all guarantees, for messages."""

ABSTAIN_ERROR = 0.01
"""The default target for the error among the accepted examples."""
MOST_EVENTS = 4096
"""The most events of one guarantee, and so the most classes or groups."""

_TOP = re.compile(r"top-([1-9][0-9]{0,5})")
_FILES = re.compile(rf"({COST}|{GROUPS})[:= ](.+)")
_SHARED = re.compile(r"(.+)@([0-9./]+)")


@dataclass(frozen=True)
class Wanted:
    """One guarantee, as the command line asks for it.

    Attributes:
        what: its name.
        share: its share of delta; None for an equal part of what is left.
        file: the file that goes with it; None for no file.
    """

    what: str
    share: Fraction | None = None
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """Return the guarantee that a text such as `class`, `top-5`, `cost:costs.csv` or `error@0.5` asks for.

        Raises:
            ValueError: if the text has another form.
        """
        shared = _SHARED.fullmatch(text.strip())
        name, share = shared.groups() if shared else (text.strip(), "")
        file = _FILES.fullmatch(name)
        what = file[1] if file else name
        if what not in SHOWN.split(", ") and not _TOP.fullmatch(what):
            raise ValueError(f"there is no guarantee {what!r}: choose from {SHOWN}")
        try:
            part = Fraction(share) if share else None
        except (ValueError, ZeroDivisionError):
            part = Fraction(0)
        if part is not None and not 0 < part < 1:
            raise ValueError(f"the share of {what} must lie between 0 and 1, not be {share!r}")
        return cls(what, part, file[2] if file else None)


@dataclass(frozen=True)
class Question:
    """The guarantees of one certificate, which hold jointly with probability 1 - delta.

    Attributes:
        shares: the share of delta of each guarantee, by name; the error is always among them.
        headline: the guarantee that the message is chosen by, and that is stated first.
        abstain_error: the error among the accepted that the threshold of abstention aims at.
    """

    shares: Mapping[str, Fraction] = field(default_factory=lambda: {ERROR: Fraction(1)})
    headline: str = ERROR
    abstain_error: float = ABSTAIN_ERROR

    @classmethod
    def of(cls, wanted: Iterable[Wanted], headline: str = ERROR, abstain_error: float = ABSTAIN_ERROR) -> Question:
        """Return the question that asks for the error and for some guarantees.

        Raises:
            ValueError: if the shares are more than delta, a guarantee has two shares, there are too many guarantees, or
                the headline is not a single number.
        """
        given: dict[str, Fraction | None] = {ERROR: None}
        for each in (*wanted, first := Wanted.parse(headline)):
            if each.share is not None and given.get(each.what) not in (None, each.share):
                raise ValueError(f"{each.what} has two shares")
            given[each.what] = each.share or given.get(each.what)
        if first.what == CALIBRATION:
            raise ValueError("--headline calibration is not a single number: choose another headline")
        if len(given) > 1 + MOST_GUARANTEES:
            raise ValueError(f"{len(given) - 1} guarantees beside the error are more than {MOST_GUARANTEES}")
        left = 1 - sum(share for share in given.values() if share)
        equal = sum(share is None for share in given.values())
        if left < 0 or (equal and not left):
            raise ValueError("the shares of the guarantees are more than 1 together, or leave nothing for the others")
        shares = {what: share or Fraction(left) / equal for what, share in given.items()}
        return cls(shares, first.what, abstain_error)

    @property
    def others(self) -> list[str]:
        """The guarantees beside the error, in order."""
        return [what for what in self.shares if what != ERROR]

    @property
    def abstains(self) -> bool:
        """True if the message names a threshold."""
        return ABSTAIN in self.shares

    def price(self, what: str, events: int) -> float:
        """Return the bits that each event of a guarantee costs, rounded up."""
        return price(self.shares[what], events)


def listed(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the guarantees that a list, or a text with commas, asks for: each once, in a form for `Wanted.parse`.

    Raises:
        ValueError: if one has another form.
    """
    if given is not None and not isinstance(given, str | list | tuple):
        raise ValueError(f"must name guarantees: choose from {SHOWN}")
    texts = [given] if isinstance(given, str) else given or ()
    parts = [part.strip() for text in texts for part in str(text).split(",")]
    for part in parts:
        Wanted.parse(part)
    return tuple(dict.fromkeys(parts))


def rank_of(what: str) -> int | None:
    """Return the K of `top-K`; None for another guarantee."""
    found = _TOP.fullmatch(what)
    return int(found[1]) if found else None


def price(share: Fraction, events: int) -> float:
    """Return the bits that each event costs where `events` of them divide a share: -log2(share / events), rounded up.

    >>> price(Fraction(1, 2), 4)
    3.0
    """
    parts = events / share
    if parts.denominator == 1 and parts.numerator.bit_count() == 1:
        return float(parts.numerator.bit_length() - 1)
    bits = math.log2(parts.numerator) - math.log2(parts.denominator)
    return bits * (1.0 + 2.0**-48) + 2.0**-48  # each logarithm errs by less than 2^-52 of at most a few hundred bits
