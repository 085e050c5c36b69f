"""What a certificate rests on, derived alike by who certifies and by who verifies."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor

from pactl_cli import __version__
from pactl_cli.catalogue import HEADLINE
from pactl_cli.certificate.certificate import (
    HOLD_OUT,
    SCHEMA_VERSION,
    BitParts,
    Certificate,
    Charge,
    Posthoc,
    SubspaceCertificate,
    all_bounds,
    holdout_bound,
    published,
    sentence,
)
from pactl_cli.certificate.format import FORMAT, NUMERICAL_MARGIN
from pactl_cli.certificate.message import Encoded, Message
from pactl_cli.problem.display import Display
from pactl_cli.problem.network_facts import NetworkFacts
from pactl_cli.problem.subject import Subject
from pactl_cli.stages.assumptions import assumptions, side_information
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.subspace.quantise import kmeans
from pactl_cli.training.counting import Counts, count


@dataclass(frozen=True)
class Measured:
    """What was found: the integers of counting, the total log-loss on S in bits, and what the network is."""

    errors: int
    train_errors: int
    test_errors: int | None
    train_nll_bits: float | None
    network: NetworkFacts


def recount(
    subject: Subject, module: SubspaceModule, coordinates: Tensor, display: Display, *, test: bool = True
) -> tuple[Counts, Counts | None]:
    """Counts the classifier at some coordinates on S, and on the test set if there is one and it is wanted."""
    classifier = subject.classifier(module, coordinates)
    with display.progress("counting errors") as advance:
        on_sample = count(classifier, subject.sample, subject.statistics, advance, world=subject.world)
    if not test or subject.dataset.test is None:
        return on_sample, None
    return on_sample, count(classifier, subject.dataset.test, subject.statistics, world=subject.world)


def posthoc(
    subject: Subject, module: SubspaceModule, size: int, display: Display, *, delta: float, extra_bits: float
) -> Posthoc:
    """The published path on the trained coordinates: k-means with `size` levels, no fine-tuning, their accounting."""
    quantiser = kmeans(size).to(module.w.device)
    quantiser.fit(module.w.detach())
    codebook, symbols = quantiser.message_parts(module.w)
    errors = recount(subject, module, torch.from_numpy(codebook.values()[symbols]), display, test=False)[0].cautious
    entry = published(
        symbols=symbols,
        errors=errors,
        examples=len(subject.sample),
        delta=delta,
        fine_tuned=False,
        extra_bits=extra_bits,
    )
    return Posthoc(levels=size, errors=errors, bits=entry.bits, bound=entry.bound)


def assemble(
    subject: Subject,
    message: Message,
    encoded: Encoded,
    measured: Measured,
    comparison: Posthoc | None,
    *,
    delta: float,
    extra_bits: float,
    fine_tuned: bool,
) -> Certificate:
    """The certificate that follows from what was sent and what was counted."""
    counts = {"errors": measured.errors, "examples": len(subject.sample)}
    bounds = all_bounds(**counts, bits=encoded.bits + extra_bits, delta=delta)
    test_examples = len(subject.dataset.test) if subject.dataset.test else 0
    test_error = None if measured.test_errors is None else measured.test_errors / test_examples
    return SubspaceCertificate(
        schema_version=SCHEMA_VERSION,
        format=FORMAT,
        kind="subspace",
        program_version=__version__,
        statement=_statement(subject, message, bounds[HEADLINE], delta),
        error_bound=bounds[HEADLINE],
        delta=delta,
        bound_examples=len(subject.sample),
        errors=measured.errors,
        quantised_train_error=measured.errors / len(subject.sample),
        train_error=measured.train_errors / len(subject.sample),
        test_error=test_error,
        test_examples=test_examples,
        train_nll_bits=measured.train_nll_bits,
        message_bits=encoded.bits,
        ledger_bits=extra_bits,
        bits=BitParts(
            configuration=encoded.configuration_bits,
            codebook=encoded.codebook_bits,
            symbols=encoded.symbols_bits,
            ledger=extra_bits,
        ),
        ledger=(Charge(bits=extra_bits, reason="--misc-extra-bits"),) if extra_bits else (),
        bounds=bounds,
        published=published(
            symbols=message.symbols, **counts, delta=delta, fine_tuned=fine_tuned, extra_bits=extra_bits
        ),
        posthoc=comparison,
        holdout_bound=holdout_bound(test_error=test_error, test_examples=test_examples, delta=delta),
        dataset=subject.task.dataset,
        hypothesis="subspace" if len(message.symbols) else HOLD_OUT,
        intrinsic_dim=len(message.symbols),
        levels=message.codebook.size if message.codebook else 0,
        configuration=message.configuration.as_dict(),
        numerical_margin=NUMERICAL_MARGIN,
        data_sha256=subject.fingerprints.sample,
        message_sha256=sha256(encoded.data).hexdigest(),
        side_information=side_information(subject, measured.network),
        assumptions=assumptions(subject, measured.network),
    )


def _statement(subject: Subject, message: Message, error_bound: float, delta: float) -> str:
    """The sentence of a certificate."""
    parts = subject.partition
    return sentence(
        error_bound,
        delta,
        len(subject.sample),
        subject.task.dataset,
        hold_out=subject.start is not None and not message.coordinates().any(),
        left_out=len(parts.excluded) + len(parts.copies),
        label_noise=subject.configuration.label_noise,
    )
