"""The certificate: the fields of `bound.json`, and the arithmetic that derives them from counts and bits.

The inputs are measured integers: errors, examples and bits. The sender and everybody who checks a certificate compute
the bounds with the same functions.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_FLOOR, ROUND_UP, Context, Decimal
from fractions import Fraction
from html import escape
from math import ceil, log2
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field, field_validator

from pactl_cli.catalogue import BOUNDS, HEADLINE, dataset_in_words
from pactl_cli.certificate.format import FORMAT, FROZEN_BOUNDS, MOST_DELTAS, MOST_GUARANTEES
from pactl_cli.certificate.guarantees import THRESHOLD_BITS, Guarantee
from pactl_cli.certificate.percent import in_bits, percent
from pactl_cli.certificate.questions import ERROR
from pactl_cli.certificate.record import Error, Record
from pactl_cli.certificate.risk_bounds import binomial_bound, catoni_bound
from pactl_cli.certificate.symbols import Symbols

SCHEMA_VERSION = 3

_LOCAL = r"\+(cpu|xpu|cu[0-9]+|rocm[0-9.]+|git[0-9a-f]+)"
VERSION = rf"[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?(\.(post|dev)[0-9]+)*({_LOCAL})?"
"""A pattern for package versions, so narrow that a stranger cannot put text of their own into a version field."""

HOLD_OUT: Final = "d=0 hold-out"
"""The hypothesis is the prior itself: the counted examples only measure its errors, and did not shape it."""

Bounds = dict[str, float]
"""Bounds by name, from the same counts and bits; they do not hold jointly."""


class BitParts(Record):
    """The bits of each part of the message, and those of the ledger."""

    configuration: int = Field(ge=0)
    codebook: int = Field(ge=0)
    symbols: int = Field(ge=0)
    threshold: int = Field(ge=0, le=THRESHOLD_BITS)
    ledger: float = Field(ge=0)


EXTRA, SHARE = "--misc-extra-bits", "the share of delta of the error"
"""The reasons for a charge in the ledger."""


class Charge(Record):
    """Bits paid for a choice that the message does not carry, or for sharing delta."""

    bits: float = Field(ge=0)
    reason: str


class Published(Record):
    """The published program's bits and bound for the same symbols: a comparison, never the headline."""

    bits: float
    bound: Error
    fine_tuned: bool


class AtDelta(Record):
    """The bound on the error at another delta, from the same counts and bits; it holds jointly with the headline."""

    delta: float = Field(gt=0, le=0.5)
    error_bound: Error


_Word = Annotated[str, Field(max_length=2000, pattern="^[a-z0-9,.:_-]+$")]
MadeWith = Annotated[dict[_Word, _Word | Annotated[int, Field(ge=0, le=2**63)] | float | None], Field(max_length=40)]
"""The options of the `bound` command, as a note: too narrow a type for a stranger's sentences."""


class Posthoc(Record):
    """The best k-means codebook of the trained coordinates without fine-tuning, by the published accounting."""

    levels: int
    errors: int
    bits: float
    bound: Error


class BaseCertificate(Record):
    """The fields that every kind of certificate has. Errors are fractions in [0, 1].

    Attributes:
        format: the number of the message format.
        kind: the kind of hypothesis; each kind has a subclass with its own fields.
        program_version: the version that wrote the file; a note that nothing depends on.
        at_other_deltas: the bound on the error at other deltas, for the same message; all hold jointly.
        headline: the guarantee that the message was chosen by, and that the statement is about.
        guarantees: the guarantees that hold jointly with the bound on the error.
        majority_error: the error on S of always answering the most frequent class of S.
        classifier_sha256: the hash of the file that holds what the classifier got from the data beside the message.
        made_with: how the message was found; a note that nothing depends on.
    """

    schema_version: int = Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)
    format: int = Field(ge=FORMAT, le=FORMAT)
    kind: str
    program_version: str = Field(pattern=f"^{VERSION}$", max_length=60)
    statement: str
    error_bound: Error
    delta: float = Field(gt=0, le=0.5)
    at_other_deltas: tuple[AtDelta, ...] = Field(max_length=MOST_DELTAS)
    headline: str
    guarantees: tuple[Guarantee, ...] = Field(max_length=MOST_GUARANTEES)
    bound_examples: int = Field(ge=1)
    errors: int = Field(ge=0)
    majority_error: Error
    test_error: Error | None
    test_examples: int = Field(ge=0)
    message_bits: int = Field(ge=0)
    ledger_bits: float = Field(ge=0)
    ledger: tuple[Charge, ...]
    bounds: dict[str, Error]
    holdout_bound: Error | None
    dataset: str
    hypothesis: str
    configuration: dict[str, Any]
    numerical_margin: float = Field(ge=0)
    data_sha256: str
    message_sha256: str
    classifier_sha256: str
    side_information: dict[str, Any]
    assumptions: tuple[str, ...]
    made_with: MadeWith

    @field_validator("bounds")
    @classmethod
    def _has_frozen_bounds(cls, bounds: dict[str, Error]) -> dict[str, Error]:
        if missing := [name for name in FROZEN_BOUNDS if name not in bounds]:
            raise ValueError(f"lacks {missing[0]}")
        return bounds

    @property
    def paid_bits(self) -> float:
        """The bits that the bounds pay for: the message and the ledger."""
        return self.message_bits + self.ledger_bits

    @property
    def extra_bits(self) -> float:
        """The bits paid for choices that the message does not carry."""
        return sum(charge.bits for charge in self.ledger if charge.reason == EXTRA)

    @property
    def share_bits(self) -> float:
        """The bits that the bound on the error pays for its share of delta."""
        return sum(charge.bits for charge in self.ledger if charge.reason == SHARE)

    def guarantee(self, what: str) -> Guarantee | None:
        """Return the guarantee of a name, other than the error; None if there is none."""
        return next((each for each in self.guarantees if each.what == what), None)

    @property
    def claims(self) -> dict[str, str]:
        """The statements that hold jointly, in words, by name of the guarantee; the headline first."""
        error = f"this classifier errs on at most {percent(self.error_bound)} of new examples"
        found = {ERROR: error} | {each.what: each.claim for each in self.guarantees}
        return {self.headline: found[self.headline]} | found

    @property
    def loss(self) -> float:
        """The number by which certificates of the same question are compared, from their headline; less is better."""
        headline = self.guarantee(self.headline)
        return headline.loss if headline else self.error_bound

    @property
    def chance_error(self) -> Error | None:
        """The error of guessing, 1 - 1 / classes; None where a stranger's file has no valid number of classes."""
        classes = self.side_information.get("classes")
        return 1 - 1 / classes if type(classes) is int and 2 <= classes <= 10**9 else None

    @property
    def says_something(self) -> bool:
        """True if the bound is below the error of the majority class and below that of guessing."""
        return self.error_bound < min(self.majority_error, self.chance_error or 1.0)

    def _repr_html_(self) -> str:
        """Return a small table for a notebook."""
        rows = {
            "certificate": percent(self.error_bound),
            "confidence": f"{_confidence(self.delta)} %",
            "errors": f"{self.errors:,} of {self.bound_examples:,} examples",
            "paid": in_bits(self.paid_bits),
        }
        cells = "".join(f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in rows.items())
        return f"<table><caption>{escape(self.statement)}</caption>{cells}</table>"

    def to_bytes(self) -> bytes:
        """Return the exact bytes of `bound.json`."""
        return (self.model_dump_json(indent=2) + "\n").encode()


class SubspaceCertificate(BaseCertificate):
    """The certificate of coordinates in a subspace. `train_nll_bits` is null where the log-loss is not finite."""

    kind: Literal["subspace"]
    hypothesis: Literal["subspace", "d=0 hold-out"]
    intrinsic_dim: int = Field(ge=0)
    levels: int = Field(ge=0)
    bits: BitParts
    train_error: Error
    quantised_train_error: Error
    train_nll_bits: float | None
    published: Published
    posthoc: Posthoc | None


Certificate = SubspaceCertificate
"""A certificate of any kind: a union, once there are several kinds."""

CERTIFICATES: dict[str, type[Certificate]] = {"subspace": SubspaceCertificate}
"""The class of each kind."""


def sentence(
    error_bound: Error,
    delta: float,
    examples: int,
    dataset: str,
    *,
    hold_out: bool = False,
    left_out: int = 0,
    label_noise: float = 0.0,
    claim: str = "",
) -> str:
    """Return the certificate in plain words, with the error rounded up and the confidence rounded down.

    Args:
        left_out: the number of examples not counted because theta0 or calibration saw them, or copies of them.
        label_noise: the rate at which labels were replaced by uniform ones.
        claim: the guarantee in words; by default that on the error.
    """
    rounded = ceil(Fraction(error_bound) * 10**4) / 100
    claim = claim or f"this classifier errs on at most {rounded:.2f} % of new examples"
    claim = f"{_confidence(delta)} % confidence, {claim}"
    others, why = "", ""
    if left_out:
        others = " other than those left out"
        why = f" {left_out:,} were left out: the classifier was made from them, or from others like them."
    if label_noise:
        others += f", whose labels are replaced at random with probability {label_noise:g}"
    source = f"{examples:,} training examples of {dataset_in_words(dataset)}"
    if hold_out:
        return (
            f"Hold-out bound of the weights that training started from, d = 0 or every coordinate zero: with {claim}"
            f"{others}, counted on {source} on which they were not trained.{why}"
        )
    return f"With {claim}{others}: computed from {source} alone, no test set.{why}"


def _confidence(delta: float) -> str:
    """Return 100 (1 - delta) as a decimal, rounded down, from delta rounded up to ten significant digits.

    A float is read as the shortest decimal that stands for it, so 0.05 gives 95: the two differ by less than the bounds
    are rounded up. A delta below 1e-18 is written as "more than 99.9999999999999999".
    """
    failing = Context(prec=10, rounding=ROUND_UP).multiply(Decimal(repr(float(delta))), Decimal(100))
    if failing < Decimal("1e-16"):
        return "more than 99.9999999999999999"
    text = f"{Context(prec=40, rounding=ROUND_FLOOR).subtract(Decimal(100), failing):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def all_bounds(*, errors: int, examples: int, bits: float, delta: float) -> Bounds:
    """Return all bounds of one classifier whose message and ledger have `bits` bits together."""
    return {name: row.maker()(errors=errors, examples=examples, bits=bits, delta=delta) for name, row in BOUNDS.items()}


def at_deltas(*, errors: int, examples: int, bits: float, deltas: Iterable[float]) -> tuple[AtDelta, ...]:
    """Return the headline's bound at several deltas, for the same message.

    They hold jointly without sharing delta. The bound falls as delta grows, so a sample on which it fails for some
    message at a small delta makes it fail at every larger delta too.
    """
    headline = BOUNDS[HEADLINE].maker()
    return tuple(
        AtDelta(delta=delta, error_bound=headline(errors=errors, examples=examples, bits=bits, delta=delta))
        for delta in deltas
    )


def ledger(extra_bits: float, share_bits: float) -> tuple[Charge, ...]:
    """Return the charges that are paid beside the message."""
    paid = ((extra_bits, EXTRA), (share_bits, SHARE))
    return tuple(Charge(bits=bits, reason=reason) for bits, reason in paid if bits)


def holdout_bound(*, test_error: Error | None, test_examples: int, delta: float) -> Error | None:
    """Return the binomial bound that the test set alone gives, with no bits to pay; None without a test set."""
    if test_error is None:
        return None
    return binomial_bound(errors=round(test_error * test_examples), examples=test_examples, bits=0, delta=delta)


def published_bits(symbols: Symbols, *, fine_tuned: bool, extra_bits: float) -> float:
    """Return the published program's code length of the symbols, as a prefix code, with K the number of levels in use.

    Source: Lotfi, Finzi et al. 2022, section 4, and the published code; docs/mathematics.md lists the differences.
    """
    counts = np.unique(symbols, return_counts=True)[1]
    entropy_bits = float(-(counts * np.log2(counts / counts.sum())).sum())
    level_bits = (32 if fine_tuned else 16) + (ceil(log2(len(symbols))) if len(symbols) else 0)
    length = ceil(entropy_bits - 1e-9) + 1 + len(counts) * level_bits
    return length + 2 * log2(length) + extra_bits


def published(
    *, symbols: Symbols, errors: int, examples: int, delta: float, fine_tuned: bool, extra_bits: float
) -> Published:
    """Return the published bound, which is Catoni's, with the published accounting of these symbols."""
    bits = published_bits(symbols, fine_tuned=fine_tuned, extra_bits=extra_bits)
    bound = catoni_bound(errors=errors, examples=examples, bits=bits, delta=delta)
    return Published(bits=bits, bound=bound, fine_tuned=fine_tuned)
