"""What a certificate rests on, derived alike by who certifies and by who verifies."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor

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
from pactl_cli.data.splits import Indices
from pactl_cli.errors import PactlError
from pactl_cli.runs.checkpoint import load_tensors
from pactl_cli.runs.directory import CHECKPOINT, CONFIG, INDICES, INIT, RunDirectory
from pactl_cli.runs.settings import SETTINGS
from pactl_cli.runs.start import Start
from pactl_cli.stages.assumptions import assumptions, side_information
from pactl_cli.stages.consent import Named, place_of_data
from pactl_cli.stages.display import Display
from pactl_cli.stages.loading import load_subject
from pactl_cli.stages.machine import find_device
from pactl_cli.stages.memory import require_modest
from pactl_cli.stages.network_facts import NetworkFacts
from pactl_cli.stages.subject import PERMUTATION, Subject
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.subspace.quantise import LevelQuantiser
from pactl_cli.training.counting import NUMERICAL_MARGIN, Counts, count
from pactl_cli.training.processes import ALONE, World

_LARGEST_HEADER = 1 << 20


@dataclass(frozen=True)
class Measured:
    """What was found: the integers of counting, the total log-loss on S in bits, and what the network is."""

    errors: int
    train_errors: int
    test_errors: int | None
    train_nll_bits: float | None
    network: NetworkFacts


def reload_subject(
    run: RunDirectory,
    named: Named,
    device: str,
    display: Display,
    world: World = ALONE,
    *,
    only_read: bool = False,
) -> Subject:
    """The subject of a run, which may be a stranger's, from its configuration and the data.

    Args:
        named: what the user has named; nothing else is read, run or built on the run's behalf.
        only_read: nothing is fetched or written, and the run does not say where named data sets lie.

    Raises:
        PactlError: if configuration, indices or data are not those of the run, or the user has to name something.
    """
    trained = SETTINGS[run.manifest.kind].parse(run.read_config())
    named.require_network(run, trained.model_name)
    place = place_of_data(run, trained, named, only_read=only_read)
    start = None if run.manifest.kind == "train" else Start.load(run, trained)
    if start is not None and run.manifest.parent != start.sha256():
        raise PactlError(f"{run.path / INIT} is not what the run in {run.path} started from")
    permutation = _recorded_permutation(run) if trained.indices_path else None
    subject = load_subject(
        trained, find_device(device, world), display, start, world, place=place, permutation=permutation
    )
    if subject.settings.as_dict() | {"data_dir": None} != trained.as_dict() | {"data_dir": None}:
        raise PactlError(f"{run.path / CONFIG} does not hold the fully resolved settings of a run")
    require_same_data(run, subject, place.dataset)
    if subject.has_indices:
        subject.require_indices(run.read_arrays(INDICES), run.path / INDICES)
    require_modest(run, subject, named.model_name)
    return subject


def _recorded_permutation(run: RunDirectory) -> Indices:
    """The permutation that somebody brought, as the run has it: the file that it names is not looked for.

    Raises:
        PactlError: if it has none.
    """
    permutation = run.read_arrays(INDICES).get(PERMUTATION)
    if permutation is None:
        raise PactlError(f"{run.path / INDICES} does not hold the permutation of {CONFIG}")
    return permutation


def require_same_data(run: RunDirectory, subject: Subject, dataset: str) -> None:
    """Raises PactlError unless the data are those with which a run began, every example of them.

    Args:
        dataset: the data set that was read, for the message.
    """
    recorded, found = run.manifest, subject.fingerprints
    for what, before, now in (
        ("S", recorded.data_sha256, found.sample),
        ("its training set", recorded.train_sha256, found.train),
        ("its test set", recorded.test_sha256, found.test),
    ):
        if before != now:
            raise PactlError(
                f"the data set {dataset} is not the one that the run in {run.path} was trained on: {what} differs",
                "restore its files, or name the right --data-dir or --dataset",
            )


def trained_coordinates(run: RunDirectory, dim: int) -> Tensor:
    """The trained coordinates of a complete run, shape (dim,).

    Raises:
        PactlError: if the checkpoint does not hold them.
    """
    tensors, _ = load_tensors(run.path / CHECKPOINT, 4 * dim + _LARGEST_HEADER)  # a hole takes no space on the disk
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
    test_examples = len(subject.dataset.test) if subject.dataset.test else 0
    test_error = None if measured.test_errors is None else measured.test_errors / test_examples
    return Certificate(
        schema_version=SCHEMA_VERSION,
        statement=_statement(subject, message, bounds.binomial, delta),
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
