"""What a certificate rests on, derived alike by who certifies and by who verifies."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pactl_cli import __version__
from pactl_cli.certificate.certificate import (
    HOLD_OUT,
    SCHEMA_VERSION,
    BitParts,
    Certificate,
    Charge,
    Posthoc,
    all_bounds,
    holdout_bound,
    published,
    sentence,
)
from pactl_cli.certificate.message import Encoded, Message
from pactl_cli.errors import PactlError
from pactl_cli.runs.checkpoint import load_tensors
from pactl_cli.runs.directory import CHECKPOINT, CONFIG, INDICES, INIT, RunDirectory
from pactl_cli.runs.settings import SETTINGS, PriorSettings
from pactl_cli.runs.start import Start
from pactl_cli.stages.display import Display
from pactl_cli.stages.loading import load_subject
from pactl_cli.stages.machine import find_device
from pactl_cli.stages.subject import Subject
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.subspace.quantise import LevelQuantiser
from pactl_cli.training.counting import NUMERICAL_MARGIN, Counts, count
from pactl_cli.training.processes import ALONE, World


@dataclass(frozen=True)
class Measured:
    """The integers that counting gave, and the total log-loss of the decoded classifier on S in bits."""

    errors: int
    train_errors: int
    test_errors: int | None
    train_nll_bits: float | None


def reload_subject(
    run: RunDirectory, data_dir: Path | None, device: str, display: Display, world: World = ALONE
) -> Subject:
    """The subject of a run, from its configuration and the data, named anew or where they were.

    Raises:
        PactlError: if configuration, indices or data are not those of the run.
    """
    trained = SETTINGS[run.manifest.kind].parse(run.read_config())
    if data_dir is not None:
        trained = trained.model_copy(update={"data_dir": data_dir})
    start = None if run.manifest.kind == "train" else Start.load(run, trained)
    if start is not None and run.manifest.parent != start.sha256():
        raise PactlError(f"{run.path / INIT} is not what the run in {run.path} started from")
    subject = load_subject(trained, find_device(device, world), display, start, world)
    if subject.settings.as_dict() | {"data_dir": None} != trained.as_dict() | {"data_dir": None}:
        raise PactlError(f"{run.path / CONFIG} does not hold the fully resolved settings of a run")
    if not subject.whole_sample:
        subject.partition.check(run.read_arrays(INDICES), run.path / INDICES)
    if run.manifest.data_sha256 != subject.data_sha256:
        raise PactlError(
            f"the data set {trained.dataset} is not the one that the run in {run.path} was trained on",
            "restore its files, or name the right --data-dir",
        )
    return subject


def trained_coordinates(run: RunDirectory, dim: int) -> Tensor:
    """The trained coordinates of a complete run, shape (dim,).

    Raises:
        PactlError: if the checkpoint does not hold them.
    """
    tensors, _ = load_tensors(run.path / CHECKPOINT)
    w = tensors.get("w")
    if w is None or w.shape != (dim,) or w.dtype != torch.float32 or not w.isfinite().all():
        raise PactlError(f"{run.path / CHECKPOINT} does not hold {dim:,} finite coordinates")
    return w


@torch.no_grad()
def restore(module: SubspaceModule, run: RunDirectory) -> None:
    """Takes up the trained coordinates of a complete run.

    Raises:
        PactlError: if the checkpoint does not fit.
    """
    module.w.copy_(trained_coordinates(run, len(module.w)))


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
    quantiser = LevelQuantiser(size, kmeans=True).to(module.w.device)
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
    is_hold_out = subject.start is not None and not message.coordinates().any()
    test_examples = len(subject.dataset.test) if subject.dataset.test else 0
    test_error = None if measured.test_errors is None else measured.test_errors / test_examples
    return Certificate(
        schema_version=SCHEMA_VERSION,
        statement=sentence(bounds.binomial, delta, len(subject.sample), subject.task.dataset, hold_out=is_hold_out),
        error_bound=bounds.binomial,
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
        data_sha256=subject.data_sha256,
        message_sha256=sha256(encoded.data).hexdigest(),
        side_information=_side_information(subject),
        assumptions=_assumptions(subject),
    )


def _side_information(subject: Subject) -> dict[str, Any]:
    """What the receiver needs beside the message; all of it fixed before S was seen."""
    channels, height, width = subject.dataset.shape
    return {
        "program_version": __version__,
        "classes": subject.dataset.classes,
        "image_shape": [channels, height, width],
        "train_examples": subject.task.train_examples,
        "task": subject.task.as_dict(),
        "label_noise": subject.settings.label_noise,
        "theta0_sha256": subject.theta0_sha256,
        "source": subject.start and subject.start.origin,
        "excluded_examples": len(subject.partition.excluded),
        "indices_sha256": subject.partition.sha256(),
    }


def _assumptions(subject: Subject) -> tuple[str, ...]:
    """What the program cannot check, in sentences."""
    settings = subject.settings
    lines = [
        f"The {len(subject.sample):,} examples that were counted are independent draws from the distribution that "
        "the certificate is about.",
        "Which examples are counted, the name of the data set, delta, this version of the program and its defaults "
        "were fixed before looking at them.",
        f"The number of classes ({subject.dataset.classes}) and the size of an image are known of the task, not "
        "learned from the sample.",
        "Another machine's logits differ by less than half the numerical margin, relative to the largest.",
    ]
    if settings.label_noise:
        lines.append(
            f"The distribution has its labels replaced by uniform ones with probability {settings.label_noise}."
        )
    lines += _assumptions_on_theta0(subject)
    if settings.indices_path is not None:
        lines.append("The permutation of --indices-path was not chosen by looking at the examples.")
    if subject.task.brought:
        name = subject.task.brought.name
        lines.append(
            f"The network {name}, brought by the user, was not chosen by looking at these examples, and is a function "
            "of one example at a time, which was tried on a few only."
        )
    return (*lines, *subject.sample.assumptions)


def _assumptions_on_theta0(subject: Subject) -> list[str]:
    """What cannot be checked of the weights that training started from."""
    start, sample = subject.start, len(subject.sample)
    if start is None:
        return []
    if isinstance(subject.settings, PriorSettings):
        return [
            f"The prior, the weights theta0, was trained on the {len(subject.partition.prior):,} examples recorded for "
            f"it alone, and not chosen by looking at the {sample:,} that are counted."
        ]
    lines = [f"The weights theta0, from {start.origin}, were not chosen by looking at the {sample:,} examples."]
    if excluded := len(subject.partition.excluded):
        lines.append(
            f"{excluded:,} examples on which theta0 was trained were removed before anything was counted: the "
            "certificate is about examples that theta0 was not trained on."
        )
    if not start.seen_is_complete:
        lines.append(
            "Theta0 was trained on none of them but those: not all of its own training data are at hand to compare."
            if excluded
            else "Theta0 was not trained on any of them: not all of its own training data are at hand to compare."
        )
    return lines
