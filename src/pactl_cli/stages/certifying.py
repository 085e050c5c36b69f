"""The certificate of one run: try several messages, and certify the best."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from math import isfinite
from typing import Any

import numpy as np
import torch

from pactl_cli import catalogue
from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.configuration import silent
from pactl_cli.certificate.message import Encoded, Message, decode, encode
from pactl_cli.certificate.questions import ABSTAIN, ERROR
from pactl_cli.certificate.risk_bounds import binomial_bound, catoni_lambda
from pactl_cli.problem.display import Display
from pactl_cli.problem.problem import Problem
from pactl_cli.problem.reloading import restore, trained_coordinates
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.runs.settings import BoundSettings
from pactl_cli.stages.acceptance import require_trainable
from pactl_cli.stages.evidence import Claim, Measured, assemble, coordinates_of, count_on_test_set
from pactl_cli.stages.fine_tuning import fine_tune, tariffs
from pactl_cli.stages.guaranteeing import Counted, Inquiry, notes_on
from pactl_cli.stages.posthoc import Comparison
from pactl_cli.stages.workbench import SILENCE, STAGE, Attempt, Workbench
from pactl_cli.subspace.quantise import Quantiser
from pactl_cli.training.counting import Counts


@dataclass(frozen=True)
class Candidate:
    """A certificate that is not yet written, with the files that belong to it.

    Attributes:
        message: the content of `message.bin`.
        classifier: the content of `classifier.safetensors`: statistics computed from the data.
        metrics: the lines of metrics that led to it; None keeps the lines that the run has.
    """

    run: RunDirectory
    certificate: Certificate
    message: bytes
    classifier: bytes
    metrics: list[dict[str, Any]] | None


def candidate(
    run: RunDirectory, problem: Problem, settings: BoundSettings, inquiry: Inquiry, display: Display
) -> Candidate:
    """Return the certificate of one run; write nothing.

    Raises:
        PactlError: if its network cannot be certified, or fine-tuning fails.
    """
    trained_coordinates(run, problem.configuration.intrinsic_dim)  # refused before memory of its size is used
    bench = Workbench(problem, problem.build_module(), settings, inquiry, display)
    restore(bench.module, run)
    require_trainable(problem, bench.module, bench.plan.batch_size)
    trained, claim = bench.counted_at(bench.module.w.detach()).counts, _claim(bench)
    tried = list(_tries(bench, trained, claim))
    best, certificate, classifier = _best(bench, tried, trained, claim)
    _note(bench, tried, best, certificate)
    for note in notes_on(certificate):
        display.warn(note)
    return Candidate(run, certificate, best.encoded.data, classifier, bench.metrics)


def _claim(bench: Workbench) -> Claim:
    """Return the terms of the certificate, with the comparison if the user asked for it."""
    settings, question = bench.settings, bench.inquiry.question
    delta, *others = settings.deltas
    claim = Claim(
        delta=delta,
        extra_bits=settings.misc_extra_bits,
        fine_tuned=settings.quant_epochs > 0,
        other_deltas=tuple(others),
        made_with=settings.made_with,
        share_bits=question.price(ERROR, 1),
        headline=question.headline,
    )
    if settings.compare_posthoc and len(bench.module.w):
        comparison = Comparison(bench.problem, bench.module, bench.display, claim.delta, claim.extra_bits)
        claim = replace(claim, comparison=comparison.best())
    return claim


def _note(bench: Workbench, tried: list[_Try], best: _Try, certificate: Certificate) -> None:
    """Add a line of metrics for each message, and for each search with its best point at the grid's edge."""
    for each in tried:
        line = {"bits": each.encoded.bits, "errors": each.counted.counts.cautious, "error_bound": each.bound}
        bench.metrics.append({"stage": STAGE, "attempt": asdict(each.attempt)} | line | {"chosen": each is best})
    for what in ("levels", "price"):
        values = [getattr(each.attempt, what) for each in tried]
        numbers = list(dict.fromkeys(value for value in values if isinstance(value, int | float)))
        if "auto" not in values:
            bench.note_search(what, numbers, getattr(best.attempt, what))
    low, middle, high = catoni_lambda(
        errors=certificate.errors,
        examples=certificate.bound_examples,
        bits=certificate.paid_bits,
        delta=certificate.delta,
    )
    bench.note_search("lambda", (low, high), middle)


@dataclass(frozen=True)
class _Try:
    """A message that was tried.

    Attributes:
        decoded: the message as a receiver decodes it.
        counted: counts of its classifier on S, from features if there are any.
        bound: the bound on its error.
        loss: the number that tries are compared by, less is better.
    """

    attempt: Attempt
    decoded: Message
    encoded: Encoded
    counted: Counted
    bound: float
    loss: float


def _tried(bench: Workbench, attempt: Attempt, message: Message, claim: Claim) -> _Try:
    """Encode a message, and count and bound what a receiver decodes."""
    task, question = bench.problem.task, bench.inquiry.question
    encoded = encode(message, task)
    decoded, _ = decode(encoded.data, task)
    counted = bench.counted_at(coordinates_of(decoded, bench.module))
    bits, counts = encoded.bits + claim.extra_bits, counted.counts
    paid = bits + claim.share_bits
    bound = binomial_bound(errors=counts.cautious, examples=counts.examples, bits=paid, delta=claim.delta)
    guarantees = {each.what: each for each in bench.inquiry.guarantees(counted, bits, claim.delta)}
    if question.abstains:
        decoded = replace(decoded, threshold=guarantees[ABSTAIN].threshold)
        encoded = encode(decoded, task)
    bench.problem.world.require_same("the message", encoded.data)
    headline = guarantees.get(question.headline)
    return _Try(attempt, decoded, encoded, counted, bound, headline.loss if headline else bound)


def _best(bench: Workbench, tried: list[_Try], trained: Counts, claim: Claim) -> tuple[_Try, Certificate, bytes]:
    """Return the try with the least loss and what `_certified` makes of it.

    `_certified` counts with the whole network. If rounding in the features made a try look better than silence, the
    last try, and it is not, silence is returned.
    """
    best, silence = min(tried, key=lambda each: each.loss), tried[-1]
    certified = _certified(bench, best, trained, claim)
    if certified[0].loss <= silence.loss:
        return best, *certified
    quiet = _certified(bench, silence, trained, claim)
    return (silence, *quiet) if quiet[0].loss < certified[0].loss else (best, *certified)


def _certified(bench: Workbench, found: _Try, trained: Counts, claim: Claim) -> tuple[Certificate, bytes]:
    """Return the certificate of a message, and the content of its `classifier.safetensors`."""
    problem = bench.problem
    classifier = problem.classifier(bench.module, coordinates_of(found.decoded, bench.module))
    given = problem.calibrated(classifier).to_bytes()
    inquiry, counted = bench.inquiry, found.counted
    if bench.inputs.head:
        counted = inquiry.count(classifier, problem.sample, problem, bench.display)
    quantised, test = counted.counts, count_on_test_set(problem, classifier)
    measured = Measured(
        errors=quantised.cautious,
        train_errors=trained.plain,
        test_errors=test.plain if test else None,
        train_nll_bits=quantised.nll_bits if isfinite(quantised.nll_bits) else None,
        network=problem.blueprint.network_facts,
        classifier_sha256=sha256(given).hexdigest(),
        guarantees=inquiry.guarantees(counted, found.encoded.bits + claim.extra_bits, claim.delta),
    )
    return assemble(problem, found.decoded, found.encoded, measured, claim), given


def _tries(bench: Workbench, trained: Counts, claim: Claim) -> Iterator[_Try]:
    """Yield the messages to choose from, each made from the trained w; the last one says w = 0. The choice is free."""
    problem, module, settings = bench.problem, bench.module, bench.settings
    w = module.w.detach().clone()
    for levels in settings.level_counts if len(w) else ():
        fitted: Quantiser = catalogue.CODEBOOKS[settings.effective_codebook].maker()(levels)
        fitted.to(w.device).fit(w)
        attempt = Attempt(settings.effective_codebook, levels)
        found: dict[float, float] = {}
        for tariff in tariffs(bench, fitted, trained, found) if settings.quant_epochs else ():
            quantiser, priced = deepcopy(fitted), replace(attempt, price=tariff.name)
            fine_tune(bench, quantiser, tariff, priced)
            message = Message(problem.configuration, *quantiser.message_parts(module.w))
            with torch.no_grad():
                module.w.copy_(w)
            tried = _tried(bench, priced, message, claim)
            if tariff.price is None:
                found[tariff.first] = tried.loss
            yield tried
        if not settings.quant_epochs:
            message = Message(problem.configuration, *_best_candidate(bench, fitted).message_parts(w))
            yield _tried(bench, attempt, message, claim)
    nothing = np.zeros(0, dtype=np.int64)
    yield _tried(bench, Attempt(SILENCE), Message(silent(problem.configuration, problem.task), None, nothing), claim)


def _best_candidate(bench: Workbench, quantiser: Quantiser) -> Quantiser:
    """Return the candidate quantiser with the least bound. The choice is free, as is every way to find a message."""
    candidates = quantiser.candidates()
    if len(candidates) == 1:
        return quantiser
    best = min(candidates, key=lambda candidate: bench.bound_at(*candidate.message_parts(bench.module.w)))
    bench.note_search("step", [candidate.gap() for candidate in candidates], best.gap())
    return best
