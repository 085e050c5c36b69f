"""The guarantees of a certificate in words: claims with their prices, and tables by class or group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.guarantees import MEMBERS, Event, Guarantee
from pactl_cli.certificate.percent import in_bits, percent, percent_at_least
from pactl_cli.certificate.questions import ABSTAIN, CLASS, COST
from pactl_cli.commands.layout import wrapped
from pactl_cli.commands.page.markup import plain

_MOST_ROWS = 20
_LONGEST_NAME = 30


@dataclass(frozen=True)
class Claim:
    """A guarantee in words.

    Attributes:
        what: its name.
        text: a sentence that continues "with 95 % confidence,".
        bits: the price of each event for its share of delta.
        events: the number of events that share delta equally.
        bound: the guarantee as one number; None if it has several.
        guarantee: the guarantee that is claimed; None for the error.
    """

    what: str
    text: str
    bits: float
    events: int
    bound: float | None
    guarantee: Guarantee | None = None

    def as_dict(self) -> dict[str, str | float | None]:
        """Return the claim as JSON."""
        accepted = {"accepted": self.guarantee.accepted} if self.guarantee and self.what == ABSTAIN else {}
        return {"claim": self.text, "bound": self.bound, **accepted}

    @property
    def price(self) -> str:
        """The price in words, rounded up."""
        return f"{self.what}: {in_bits(self.bits)}" + (
            f" for each of {self.events:,} events" if self.events > 1 else ""
        )


def claims(certificate: Certificate) -> list[Claim]:
    """Return all claims that hold at once, the headline first; none if only the error is certified."""
    if not certificate.guarantees:
        return []
    found = []
    for what, text in certificate.claims.items():
        each = certificate.guarantee(what)
        names = _class_names(certificate) if what == CLASS else None
        if each is None:
            found.append(Claim(what, text, certificate.share_bits, 1, certificate.error_bound))
            continue
        text += f" ({names[each.events.index(each.worst)]})" if names else ""
        found.append(Claim(what, text, each.price_bits, each.shared_events, each.bound, each))
    return found


def in_short(guarantee: Guarantee) -> str:
    """Return a guarantee as a few words and numbers."""
    if guarantee.bound is None:
        return guarantee.what
    if guarantee.what == COST:
        return f"{COST} {ceil(guarantee.bound * 10**6) / 10**6:.6g}"
    accepted = f" of at least {percent_at_least(guarantee.accepted)} accepted" if guarantee.what == ABSTAIN else ""
    return f"{guarantee.what} {percent(guarantee.bound)}{accepted}"


def _class_names(certificate: Certificate) -> list[str] | None:
    """Return the names of the classes; None if there are none, or a forged file has another number of them."""
    names, classes = (certificate.side_information.get(name) for name in ("class_names", "classes"))
    if not isinstance(names, list) or len(names) != classes:
        return None
    return [plain(name, _LONGEST_NAME) for name in names]


@dataclass(frozen=True)
class ByMember:
    """The events of a guarantee by class or by group.

    Attributes:
        kind: class or group.
        rows: the name and the event of each, the largest bounds first, at most 20.
        rest: a sentence on the others; "" if there are none.
    """

    kind: str
    rows: list[tuple[str, Event]]
    rest: str

    @classmethod
    def of(cls, certificate: Certificate, guarantee: Guarantee) -> ByMember | None:
        """Return the events of a guarantee; None if it is not about classes or groups."""
        if guarantee.what not in MEMBERS:
            return None
        kind, names = MEMBERS[guarantee.what], _class_names(certificate) if guarantee.what == CLASS else None
        numbers = [event.name.removeprefix(f"{kind} ") for event in guarantee.events]
        shown = [f"{number} {name}" for number, name in zip(numbers, names, strict=True)] if names else numbers
        ranked = sorted(zip(shown, guarantee.events, strict=True), key=lambda row: -row[1].bound)
        rows, others = ranked[:_MOST_ROWS], ranked[_MOST_ROWS:]
        rest = f"{len(others):,} more, none above {percent(others[0][1].bound)}." if others else ""
        return cls(kind, rows, rest)


def seen(event: Event) -> str:
    """Return how often an event occurred, in percent; a dash if there are no examples."""
    return percent(event.errors / event.examples if event.examples else None)


def lines(certificate: Certificate, width: int | None) -> Iterator[str]:
    """Yield the lines of all claims that hold at once, with their prices and with tables by class or group.

    Args:
        width: the width of a line; None for a stream that is no terminal.
    """
    for claim in claims(certificate):
        yield from wrapped(f"{claim.text} ({claim.price})", width, "  - ")
        table = claim.guarantee and ByMember.of(certificate, claim.guarantee)
        if table:
            yield from ("", *_table(table), "")


def _table(table: ByMember) -> Iterator[str]:
    """Yield the lines of a table."""
    column = max(len(table.kind), *(len(name) for name, _ in table.rows))
    yield f"    {table.kind:<{column}}  {'errors':>7}  {'examples':>8}  {'error':>8}  {'at most':>8}"
    for name, event in table.rows:
        counts = f"{event.errors:>7,}  {event.examples:>8,}"
        yield f"    {name:<{column}}  {counts}  {seen(event):>8}  {percent(event.bound):>8}"
    if table.rest:
        yield f"    {table.rest}"
