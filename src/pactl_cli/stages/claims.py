"""Certificates and messages read from a run directory that may be a stranger's, without the data and the network.

Whatever follows from other fields of the file must agree with them, every number must be in its range, and no header
decides how much memory is used.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pactl_cli.catalogue import HEADLINE
from pactl_cli.certificate.certificate import (
    CERTIFICATES,
    HOLD_OUT,
    SCHEMA_VERSION,
    Certificate,
    all_bounds,
    at_deltas,
    ledger,
    sentence,
)
from pactl_cli.certificate.format import FORMAT, MAX_DIM, MAX_LEVELS
from pactl_cli.certificate.guarantees import COST_UNITS, MEMBERS, THRESHOLDS, Guarantee, claim_of, event_names
from pactl_cli.certificate.message import Message, read_message
from pactl_cli.certificate.questions import ABSTAIN, CLASS, COST, ERROR, GROUPS, listed, rank_of
from pactl_cli.certificate.symbols import learned_probabilities
from pactl_cli.certificate.task import Task
from pactl_cli.errors import MissingError, PactlError, shell_command
from pactl_cli.runs.directory import CERTIFICATE, MESSAGE, RunDirectory, require_schema

LEFT_OUT = ("excluded_examples", "copies_left_out")
"""Fields of the side information that count examples left out because the classifier has seen them or their copies."""
TOLERANCE = 1e-9
"""Relative: another machine's special functions differ in the last digits."""
_LARGEST_CERTIFICATE = 1 << 20
_LARGEST_DRAWN_MESSAGE = 1 << 22
_LARGEST_DRAWN_DIM = 1 << 20
"""The most coordinates that are decoded only to draw them."""
_MOST_EXAMPLES = 10**9
_TOLD = {ABSTAIN: ("threshold", "abstain_error"), GROUPS: ("groups_sha256",), COST: ("costs",)}
"""Fields that guarantees of these kinds have beside their events; no other guarantee has them."""


@dataclass(frozen=True)
class Histogram:
    """The counts of the levels in a message, and the probabilities that the adaptive code learned.

    Attributes:
        levels: the values that symbols stand for, ascending, shape (K,).
        counts: the number of times that each level occurs, shape (K,).
        probabilities: the probability of each symbol after the last one, shape (K,).
    """

    levels: NDArray[np.float32]
    counts: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def entropy_bits(self) -> float:
        """The bits of all symbols, if the receiver knew their frequencies."""
        used = self.counts[self.counts > 0]
        return float((used * np.log2(used.sum() / used)).sum())


def open_certified(path: Path, **said: Any) -> RunDirectory:
    """Return a run that has a complete certificate.

    Args:
        said: options for the hint with the command that makes one, as `shell_command` takes them.

    Raises:
        MissingError: if it has none.
    """
    run = RunDirectory.open(path)
    if run.manifest.stages.get("bound") != "complete":
        raise MissingError(f"{path} has no complete certificate", f"run {shell_command('bound', path, **said)}")
    return run


def intact_certificate(run: RunDirectory) -> Certificate:
    """Return the certificate of a run, whose files must agree with its manifest.

    Raises:
        PactlError: if a file is altered or missing, or the certificate cannot be read.
    """
    if altered := run.altered():
        raise PactlError(f"{altered[0]} is truncated, altered or missing")
    return read_certificate(run)


def read_certificate(run: RunDirectory) -> Certificate:
    """Return the certificate in a run directory.

    Raises:
        PactlError: if the file is no certificate, or is not written in the canonical form.
    """
    content = run.read_bytes(CERTIFICATE, _LARGEST_CERTIFICATE)
    kind = _require_readable(run.path / CERTIFICATE, content)
    try:
        certificate = CERTIFICATES[kind].model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PactlError(f"{run.path / CERTIFICATE} is not a certificate: {where} {first['msg']}") from error
    if certificate.to_bytes() != content:
        raise PactlError(f"{run.path / CERTIFICATE} is not in canonical form")
    return certificate


def _require_readable(path: Path, content: bytes) -> str:
    """Return the kind of a certificate; raise PactlError if its schema, message format or kind is not known here."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PactlError(f"{path} is not a certificate: it is not JSON") from error
    document: dict[str, Any] = found if isinstance(found, dict) else {}
    require_schema(path, document.get("schema_version"), SCHEMA_VERSION)
    form, kind = document.get("format"), document.get("kind")
    if type(form) is int and form != FORMAT:
        raise PactlError(
            f"{path} is about a message of format {reprlib.repr(form)}, and this version of pactl reads format {FORMAT}"
        )
    if isinstance(kind, str) and kind not in CERTIFICATES:
        raise PactlError(f"{path} is of a kind that this version of pactl does not know: {reprlib.repr(kind)}")
    return kind if isinstance(kind, str) else next(iter(CERTIFICATES))


def require_arithmetic(run: RunDirectory, certificate: Certificate) -> None:
    """Raise PactlError unless a certificate's bounds and statement follow from its own counts and bits."""
    for name in _contradictions(certificate):
        raise PactlError(
            f"{run.path / CERTIFICATE} contradicts itself: {name} does not follow from its counts and bits",
            f"it was altered: run {shell_command('bound', run.path)} again",
        )


def _contradictions(certificate: Certificate) -> Iterator[str]:
    """Yield the names of fields that contradict others, or are out of range."""
    parts = certificate.bits
    posthoc = certificate.posthoc
    fractions: dict[str, float | None] = {
        "train_error": certificate.train_error,
        "test_error": certificate.test_error,
        "holdout_bound": certificate.holdout_bound,
        "published": certificate.published.bound,
        "posthoc": posthoc.bound if posthoc else None,
    }
    yield from (name for name, value in fractions.items() if value is not None and not 0 <= value <= 1)
    counts = {
        "intrinsic_dim": (certificate.intrinsic_dim, MAX_DIM),
        "levels": (certificate.levels, MAX_LEVELS),
        "test_examples": (certificate.test_examples, _MOST_EXAMPLES),
        "posthoc": (posthoc.levels if posthoc else 0, MAX_LEVELS),
    }
    yield from (name for name, (value, most) in counts.items() if not 0 <= value <= most)
    if certificate.message_bits != parts.configuration + parts.codebook + parts.symbols + parts.threshold:
        yield "message_bits"
    paid = ledger(certificate.extra_bits, certificate.share_bits)
    if certificate.ledger_bits != parts.ledger or paid != certificate.ledger:
        yield "ledger_bits"
    if certificate.extra_bits + certificate.share_bits != certificate.ledger_bits:
        yield "ledger"
    if (certificate.hypothesis == HOLD_OUT) != (certificate.intrinsic_dim == 0):
        yield "hypothesis"
    yield from _wrong_bounds(certificate)


def _wrong_bounds(certificate: Certificate) -> Iterator[str]:
    """Yield the names of fields that do not follow from the certificate's own counts and bits."""
    counts = {"errors": certificate.errors, "examples": certificate.bound_examples}
    try:
        derived = all_bounds(**counts, bits=certificate.paid_bits, delta=certificate.delta)
    except (ValueError, OverflowError):
        yield "bounds"
        return
    if certificate.bounds.keys() - derived.keys():
        yield "bounds"
    for name, value in derived.items():
        if name in certificate.bounds and not isclose(certificate.bounds[name], value, rel_tol=TOLERANCE):
            yield f"bounds.{name}"
    others = certificate.at_other_deltas
    again = at_deltas(**counts, bits=certificate.paid_bits, deltas=[each.delta for each in others])
    if not all(isclose(a.error_bound, b.error_bound, rel_tol=TOLERANCE) for a, b in zip(others, again, strict=True)):
        yield "at_other_deltas"
    if not isclose(certificate.error_bound, derived[HEADLINE], rel_tol=TOLERANCE):
        yield "error_bound"
    if certificate.quantised_train_error != certificate.errors / certificate.bound_examples:
        yield "quantised_train_error"
    wrong, examples = certificate.majority_error, certificate.bound_examples
    within = 0 <= wrong < 1 and wrong <= (certificate.chance_error or 1.0) + TOLERANCE
    if not within or round(wrong * examples) / examples != wrong:
        yield "majority_error"
    yield from wrong_guarantees(certificate)
    facts = certificate.error_bound, certificate.delta, certificate.bound_examples, certificate.dataset
    left_out: list[Any] = [certificate.side_information.get(name, 0) for name in LEFT_OUT]
    if not all(type(count) is int and 0 <= count <= _MOST_EXAMPLES for count in left_out):
        yield "side_information"
        return
    noise = certificate.configuration.get("label_noise", 0.0)
    if not isinstance(noise, float) or not 0 <= noise <= 1:
        yield "configuration"
        return
    headline = certificate.guarantee(certificate.headline)
    said = {"left_out": sum(left_out), "label_noise": noise, "claim": headline.claim if headline else ""}
    if certificate.statement not in {sentence(*facts, hold_out=hold_out, **said) for hold_out in (False, True)}:
        yield "statement"


def wrong_guarantees(certificate: Certificate) -> Iterator[str]:
    """Yield the names of guarantees that contradict themselves or the rest of the certificate."""
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
    """Return whether the shares of delta of all events add up to at most delta (Kraft's inequality)."""
    prices = [(1, certificate.share_bits), *((each.shared_events, each.price_bits) for each in certificate.guarantees)]
    if any(bits > 1000 for _, bits in prices):
        return False
    return sum(count * Fraction(2.0**-bits) for count, bits in prices) <= 1 + Fraction(TOLERANCE)


def _is_of_its_kind(guarantee: Guarantee, certificate: Certificate) -> bool:
    """Return whether a guarantee has the events of its kind, and their counts agree with the errors."""
    what, events, examples = guarantee.what, guarantee.events, certificate.bound_examples
    classes = certificate.side_information["classes"]
    if type(classes) is not int or (what == CLASS and len(events) != classes):  # before anything grows with it
        return False
    told = {name for names in _TOLD.values() for name in names if getattr(guarantee, name) is not None}
    if told != set(_TOLD.get(what, ())):
        return False
    if guarantee.costs is not None and {len(guarantee.costs), *map(len, guarantee.costs)} != {classes}:
        return False
    names = [event.name for event in events]
    members = [int(name.removeprefix(MEMBERS[what])) for name in names] if what == GROUPS else range(len(events))
    if names != event_names(what, members) or list(members) != sorted({*members}) or (rank_of(what) or 0) > classes:
        return False
    whole = examples * COST_UNITS if what == COST else examples
    if not all(event.errors <= event.examples <= whole for event in events):
        return False
    if what in MEMBERS:
        sums = sum(event.errors for event in events), sum(event.examples for event in events)
        return sums == (certificate.errors, examples)
    if what == ABSTAIN:
        return all(event.examples == examples for event in events[len(THRESHOLDS) :])
    return len(events) > 1 or events[0].examples == whole


def _follows(guarantee: Guarantee, certificate: Certificate) -> bool:
    """Return whether the bounds of a guarantee follow from its counts, and its claim from its bounds."""
    again = guarantee.derived(certificate.message_bits + certificate.extra_bits, certificate.delta)
    numbers = ((each.bound, each.accepted, *(event.bound for event in each.events)) for each in (guarantee, again))
    agree = all(
        isclose(said, derived, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        if said is not None and derived is not None
        else said is derived
        for said, derived in zip(*numbers, strict=True)
    )
    return agree and guarantee.claim == claim_of(guarantee)


def read_histogram(run: RunDirectory, certificate: Certificate) -> Histogram:
    """Return the histogram of the symbols of a run's message.

    Raises:
        PactlError: with the reason, if the message has none or cannot be decoded.
    """
    if certificate.intrinsic_dim > _LARGEST_DRAWN_DIM:
        raise PactlError(f"{certificate.intrinsic_dim:,} symbols are more than a report decodes")
    _, message = claimed_message(run, certificate, _LARGEST_DRAWN_MESSAGE)
    if message.codebook is None:
        raise PactlError("the message has no symbols")
    counts = np.bincount(message.symbols, minlength=message.codebook.size)
    return Histogram(message.codebook.values(), counts, learned_probabilities(counts))


def claimed_message(run: RunDirectory, certificate: Certificate, limit: int) -> tuple[Task, Message]:
    """Return the task that a certificate states, and the message that it is about, of at most `limit` bytes.

    Raises:
        PactlError: with the reason, if the message cannot be decoded with this task, or disagrees with the certificate.
    """
    data = run.read_bytes(MESSAGE, limit)
    if sha256(data).hexdigest() != certificate.message_sha256:
        raise PactlError(f"{MESSAGE} is not the message that {CERTIFICATE} is about")
    try:
        task = Task.from_dict(certificate.side_information["task"])
        message, num_bits = read_message(data, task, certificate.intrinsic_dim)
    except (PactlError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise PactlError(f"{MESSAGE} cannot be decoded with the facts in {CERTIFICATE}") from error
    abstention = certificate.guarantee(ABSTAIN)
    threshold = abstention.threshold if abstention else None
    said = (certificate.intrinsic_dim, certificate.levels, certificate.configuration, threshold)
    if num_bits != certificate.message_bits or _described(message) != said:
        raise PactlError(f"{MESSAGE} does not say what {CERTIFICATE} says")
    return task, message


def _described(message: Message) -> tuple[Any, ...]:
    """Return dimension, number of levels, configuration and threshold of a message, as a certificate has them."""
    size = message.codebook.size if message.codebook else 0
    return len(message.symbols), size, json.loads(json.dumps(message.configuration.as_dict())), message.threshold
