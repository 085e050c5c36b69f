"""The derivation of a certificate from a message and counts, which `bound` and `verify` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from pactl_cli import __version__
from pactl_cli.catalogue import HEADLINE
from pactl_cli.certificate.certificate import (
    HOLD_OUT,
    SCHEMA_VERSION,
    BitParts,
    Certificate,
    MadeWith,
    Posthoc,
    Published,
    SubspaceCertificate,
    all_bounds,
    at_deltas,
    holdout_bound,
    ledger,
    published,
    sentence,
)
from pactl_cli.certificate.format import FORMAT, NUMERICAL_MARGIN
from pactl_cli.certificate.guarantees import Guarantee
from pactl_cli.certificate.message import Encoded, Message
from pactl_cli.certificate.questions import ABSTAIN, ERROR
from pactl_cli.models.preparation import Prepared
from pactl_cli.problem.display import Display
from pactl_cli.problem.network_facts import NetworkFacts
from pactl_cli.problem.problem import Problem
from pactl_cli.stages.assumptions import assumptions, side_information
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.training.counting import Counts, count


@dataclass(frozen=True)
class Claim:
    """The terms of a certificate.

    Attributes:
        delta: the probability that it fails.
        extra_bits: bits paid for choices that the message does not carry.
        fine_tuned: whether the levels were trained, for the published accounting.
        comparison: the comparison with the published path; None if the user did not ask for it.
        other_deltas: deltas at which the same message is certified as well.
        made_with: a note on how the message was found.
        share_bits: bits that the bound on the error pays for its share of delta.
        headline: the guarantee that comes first.
    """

    delta: float
    extra_bits: float
    fine_tuned: bool
    comparison: Posthoc | None = None
    other_deltas: tuple[float, ...] = ()
    made_with: MadeWith = field(default_factory=dict)
    share_bits: float = 0.0
    headline: str = ERROR


@dataclass(frozen=True)
class Measured:
    """The counts and facts from which a certificate follows.

    Attributes:
        errors: cautious errors of the decoded classifier on S, the ones that are certified.
        train_errors: plain errors on S before quantising.
        test_errors: plain errors on the test set; None without one.
        train_nll_bits: the total log-loss on S, in bits; None if it is not finite.
        classifier_sha256: a fingerprint of the statistics computed from the data.
        guarantees: the guarantees beside the error, of which only the counts are used.
    """

    errors: int
    train_errors: int
    test_errors: int | None
    train_nll_bits: float | None
    network: NetworkFacts
    classifier_sha256: str
    guarantees: tuple[Guarantee, ...] = ()


def coordinates_of(message: Message, module: SubspaceModule) -> Tensor:
    """Return the coordinates of a message, shape (d,); all are 0 if the message has no symbols."""
    return torch.from_numpy(message.coordinates()) if len(message.symbols) else torch.zeros(len(module.w))


def count_on_sample(problem: Problem, classifier: Prepared, display: Display) -> Counts:
    """Count the errors of a classifier on S."""
    with display.progress("counting errors") as advance:
        return count(classifier, problem.sample, advance, problem.world)


def count_on_test_set(problem: Problem, classifier: Prepared) -> Counts | None:
    """Count the errors of a classifier on the test set; return None without a test set."""
    return None if problem.dataset.test is None else count(classifier, problem.dataset.test, world=problem.world)


def assemble(problem: Problem, message: Message, encoded: Encoded, measured: Measured, claim: Claim) -> Certificate:
    """Return the certificate that follows from a message and the counts of its classifier."""
    examples = len(problem.sample)
    told = encoded.bits + claim.extra_bits
    counts: dict[str, Any] = {"errors": measured.errors, "examples": examples, "bits": told + claim.share_bits}
    bounds = all_bounds(**counts, delta=claim.delta)
    guarantees = tuple(_guaranteed(each, message, told, claim) for each in measured.guarantees)
    return SubspaceCertificate(
        schema_version=SCHEMA_VERSION,
        format=FORMAT,
        kind="subspace",
        program_version=__version__,
        statement=_statement(problem, message, bounds[HEADLINE], claim, guarantees),
        error_bound=bounds[HEADLINE],
        delta=claim.delta,
        at_other_deltas=at_deltas(**counts, deltas=claim.other_deltas),
        headline=claim.headline,
        guarantees=guarantees,
        bound_examples=examples,
        errors=measured.errors,
        quantised_train_error=measured.errors / examples,
        train_error=measured.train_errors / examples,
        train_nll_bits=measured.train_nll_bits,
        majority_error=_majority_error(problem),
        bounds=bounds,
        posthoc=claim.comparison,
        dataset=problem.task.dataset,
        numerical_margin=NUMERICAL_MARGIN,
        classifier_sha256=measured.classifier_sha256,
        data_sha256=problem.fingerprints.sample,
        side_information=side_information(problem, measured.network),
        assumptions=assumptions(problem, measured.network, guarantees),
        made_with=claim.made_with,
        **_on_the_message(message),
        **_on_the_test_set(problem, measured, claim),
        **_on_the_bits(encoded, claim),
        published=_published(message, measured, examples, claim),
    )


def _on_the_message(message: Message) -> dict[str, Any]:
    """Return the fields that describe the message."""
    return {
        "hypothesis": "subspace" if len(message.symbols) else HOLD_OUT,
        "intrinsic_dim": len(message.symbols),
        "levels": message.codebook.size if message.codebook else 0,
        "configuration": message.configuration.as_dict(),
    }


def _guaranteed(guarantee: Guarantee, message: Message, bits: float, claim: Claim) -> Guarantee:
    """Return the guarantee that follows from its counts, and from the threshold in the message."""
    if guarantee.what == ABSTAIN:
        guarantee = guarantee.model_copy(update={"threshold": message.threshold})
    return guarantee.derived(bits, claim.delta)


def _published(message: Message, measured: Measured, examples: int, claim: Claim) -> Published:
    """Return the published accounting of a message."""
    return published(
        symbols=message.symbols,
        errors=measured.errors,
        examples=examples,
        delta=claim.delta,
        fine_tuned=claim.fine_tuned,
        extra_bits=claim.extra_bits,
    )


def _majority_error(problem: Problem) -> float:
    """Return the error on S of always answering the most frequent class there."""
    labels = problem.sample.labels
    return (len(labels) - int(labels.flatten().bincount().max())) / len(labels)


def _on_the_test_set(problem: Problem, measured: Measured, claim: Claim) -> dict[str, Any]:
    """Return the fields about the test set; no other field depends on it."""
    examples = len(problem.dataset.test) if problem.dataset.test else 0
    error = None if measured.test_errors is None else measured.test_errors / examples
    alone = holdout_bound(test_error=error, test_examples=examples, delta=claim.delta)
    return {"test_error": error, "test_examples": examples, "holdout_bound": alone}


def _on_the_bits(encoded: Encoded, claim: Claim) -> dict[str, Any]:
    """Return the fields that account for the bits."""
    extra = claim.extra_bits + claim.share_bits
    parts = BitParts(
        configuration=encoded.configuration_bits,
        codebook=encoded.codebook_bits,
        symbols=encoded.symbols_bits,
        threshold=encoded.threshold_bits,
        ledger=extra,
    )
    return {
        "message_bits": encoded.bits,
        "message_sha256": sha256(encoded.data).hexdigest(),
        "ledger_bits": extra,
        "ledger": ledger(claim.extra_bits, claim.share_bits),
        "bits": parts,
    }


def _statement(
    problem: Problem, message: Message, error_bound: float, claim: Claim, guarantees: Sequence[Guarantee]
) -> str:
    """Return the sentence that states a certificate's headline."""
    parts = problem.partition
    return sentence(
        error_bound,
        claim.delta,
        len(problem.sample),
        problem.task.dataset,
        hold_out=problem.blueprint.start is not None and not message.coordinates().any(),
        left_out=len(parts.excluded) + len(parts.copies),
        label_noise=problem.configuration.label_noise,
        claim=next((each.claim for each in guarantees if each.what == claim.headline), ""),
    )
