"""Whether the guarantees in a certificate follow from its own counts and bits: a stranger's file is not believed."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import isclose

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.guarantees import COST_UNITS, MEMBERS, THRESHOLDS, Guarantee, claim_of, event_names
from pactl_cli.certificate.questions import ABSTAIN, CLASS, COST, ERROR, GROUPS, listed, rank_of

_TOLERANCE = 1e-9
"""Relative: the last digits of a special function on another machine."""


def wrong_guarantees(certificate: Certificate) -> Iterator[str]:
    """Yield the fields of guarantees that cannot be as they are, by name."""
    whats = [each.what for each in certificate.guarantees]
    if len({*whats, ERROR}) != len(whats) + 1 or certificate.headline not in (*whats, ERROR):
        yield "guarantees"
        return
    if not _share_delta(certificate) or bool(certificate.bits.threshold) != (ABSTAIN in whats):
        yield "guarantees"
    for guarantee in certificate.guarantees:
        try:
            listed(f"{guarantee.what}:file" if guarantee.what in (COST, GROUPS) else guarantee.what)
            holds = _is_of_its_kind(guarantee, certificate) and _follows(guarantee, certificate)
        except (ArithmeticError, ValueError, LookupError):
            holds = False
        if not holds:
            yield f"guarantees.{guarantee.what}"


def _share_delta(certificate: Certificate) -> bool:
    """Return whether the shares of delta of all events are at most all of it: Kraft's sum."""
    prices = [(1, certificate.share_bits), *((each.shared_events, each.price_bits) for each in certificate.guarantees)]
    if any(bits > 1000 for _, bits in prices):
        return False
    return sum(count * Fraction(2.0**-bits) for count, bits in prices) <= 1 + Fraction(_TOLERANCE)


def _is_of_its_kind(guarantee: Guarantee, certificate: Certificate) -> bool:
    """Return whether a guarantee has the events of its kind, and their counts agree with those of the errors."""
    what, events, examples = guarantee.what, guarantee.events, certificate.bound_examples
    classes = certificate.side_information["classes"]
    if type(classes) is not int or (what == CLASS and len(events) != classes):  # before anything grows with them
        return False
    fields = {
        ABSTAIN: guarantee.threshold is not None and guarantee.abstain_error is not None,
        GROUPS: guarantee.groups_sha256 is not None,
        COST: guarantee.costs is not None and {len(guarantee.costs), *map(len, guarantee.costs)} == {classes},
    }
    told = [guarantee.threshold, guarantee.abstain_error, guarantee.groups_sha256, guarantee.costs]
    if not fields.get(what, True) or sum(each is not None for each in told) != {ABSTAIN: 2, GROUPS: 1, COST: 1}.get(
        what, 0
    ):
        return False
    names = [event.name for event in events]
    members = [int(name.removeprefix(MEMBERS[what])) for name in names] if what == GROUPS else range(len(events))
    if names != event_names(what, members) or list(members) != sorted({*members}) or (rank_of(what) or 0) > classes:
        return False
    whole = {COST: examples * COST_UNITS}.get(what, examples)
    if not all(event.errors <= event.examples <= whole for event in events):
        return False
    if what in MEMBERS:
        sums = sum(event.errors for event in events), sum(event.examples for event in events)
        return sums == (certificate.errors, examples)
    if what == ABSTAIN:
        return all(event.examples == examples for event in events[len(THRESHOLDS) :])
    return events[0].examples == whole if len(events) == 1 else True


def _follows(guarantee: Guarantee, certificate: Certificate) -> bool:
    """Return whether the bounds of a guarantee are those of its counts, and its claim that of its bounds."""
    again = guarantee.derived(certificate.message_bits + certificate.extra_bits, certificate.delta)
    numbers = ((each.bound, each.accepted, *(event.bound for event in each.events)) for each in (guarantee, again))
    for said, derived in zip(*numbers, strict=True):
        if (said is None) != (derived is None) or (
            said is not None
            and derived is not None
            and not isclose(said, derived, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
        ):
            return False
    return guarantee.claim == claim_of(guarantee)
