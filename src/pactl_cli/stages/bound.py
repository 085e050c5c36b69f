"""`pactl bound`: quantise, fine-tune, code, count, certify."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import isfinite, log
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pactl_cli.catalogue import CODEBOOKS
from pactl_cli.certificate.certificate import Certificate, Posthoc
from pactl_cli.certificate.message import Encoded, Message, decode, encode
from pactl_cli.certificate.risk_bounds import binomial_bound
from pactl_cli.certificate.symbols import Symbols, ideal_bits, symbol_trees
from pactl_cli.errors import FAILED, PactlError
from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Advance, Display
from pactl_cli.problem.reloading import reload_subject, restore, trained_coordinates
from pactl_cli.problem.subject import Subject
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.claim import claimed
from pactl_cli.runs.directory import CERTIFICATE, MESSAGE, METRICS, RunDirectory, require_writable
from pactl_cli.runs.following import FollowedRun
from pactl_cli.runs.settings import BoundSettings, PriorSettings
from pactl_cli.stages.acceptance import require_trainable
from pactl_cli.stages.evidence import Measured, assemble, posthoc, recount
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.subspace.quantise import Quantiser
from pactl_cli.training.counting import Counts
from pactl_cli.training.loop import State, Trainer
from pactl_cli.training.objectives import RateObjective
from pactl_cli.training.recipes import Plan

STAGE = "bound"
POSTHOC_LEVELS = (5, 7, 10, 20, 50)


@dataclass(frozen=True)
class Candidate:
    """One run's certificate, the message it is about, and the lines of metrics of its fine-tuning: not yet written."""

    run: RunDirectory
    certificate: Certificate
    message: bytes
    metrics: list[dict[str, Any]]


def bound(
    paths: list[Path], settings: BoundSettings, display: Display, world: World = ALONE
) -> tuple[Path, Certificate]:
    """Certifies the runs and writes the best certificate into its run directory.

    Nothing is written, and no earlier certificate withdrawn, before the best is known; the other runs stay as they are.
    The configuration is in the message, so choosing among runs on the same examples costs nothing further.
    Several processes share training and counting; rank 0 writes.

    Returns:
        The directory that got the files, and its certificate.

    Raises:
        PactlError: exit code 2 if a run cannot be certified, 1 if fine-tuning fails.
    """
    with ExitStack() as claims:
        runs = world.from_first(lambda: _opened(paths, claims))
        if not world.leads:
            runs = [FollowedRun(run.path, run.manifest) for run in runs]
        named = Named(settings.data_dir, settings.dataset, settings.model_name)
        subjects = [reload_subject(run, named, settings.device, display, world) for run in runs]
        _require_comparable(paths, subjects)
        candidates = [_certify(run, subject, settings, display) for run, subject in zip(runs, subjects, strict=True)]
        best = min(candidates, key=lambda candidate: candidate.certificate.error_bound)
        _write(best)
        return best.run.path, best.certificate


def _write(best: Candidate) -> None:
    """Withdraws the earlier certificate of a run, if it has one, and puts this one in its place."""
    run = best.run
    run.sweep()
    run.restart_stage(STAGE, (MESSAGE, CERTIFICATE))
    run.keep_metrics(lambda record: record.get("stage") != STAGE)
    for record in best.metrics:
        run.append_metrics(record)
    run.write_bytes(MESSAGE, best.message)
    run.write_bytes(CERTIFICATE, best.certificate.to_bytes())
    run.set_stage(STAGE, "complete", (MESSAGE, CERTIFICATE, METRICS))


def _opened(paths: list[Path], claims: ExitStack) -> list[RunDirectory]:
    """Runs that can be certified, and into which nobody else writes."""
    for path in {path.resolve() for path in paths}:
        claims.enter_context(claimed(path))
    runs = [RunDirectory.open(path) for path in paths]
    for run in runs:
        run.require_complete(run.manifest.kind)
        require_writable(run.path)
    return runs


def _require_comparable(paths: list[Path], subjects: list[Subject]) -> None:
    """Raises PactlError if there is no message for a run, or if runs differ in something that no message can tell."""
    for path, subject in zip(paths, subjects, strict=True):
        if not (subject.configuration.intrinsic_dim or isinstance(subject.settings, PriorSettings)):
            raise PactlError(
                f"{path} has trained all its weights (d = 0), for which there is no message",
                f"use it as a source: pactl transfer {path}",
            )
    populations = [subject.population() for subject in subjects] if len(subjects) > 1 else []
    brought = sorted({subject.task.brought.name for subject in subjects if subject.task.brought})
    differs = f"have different networks of your own, {' and '.join(brought)}" if len(brought) > 1 else ""
    for path, population in zip(paths, populations, strict=False):
        if population != populations[0]:
            differs = f"were trained on different examples or from different weights ({path} and {paths[0]})"
    if len({pool for subject in subjects if (pool := subject.calibration_pool_sha256)}) > 1:
        differs = "draw their calibration examples from permutations of their own"
    if differs:
        raise PactlError(
            f"the runs {differs}, which no message can tell",
            "choosing between them by their certificates would be cheating: certify one of them",
        )


def _certify(run: RunDirectory, subject: Subject, settings: BoundSettings, display: Display) -> Candidate:
    """The candidate of one run, in whose directory nothing changes."""
    trained_coordinates(run, subject.configuration.intrinsic_dim)  # before anything as large is made
    module = subject.build_module()
    restore(module, run)
    plan = _plan(subject, settings)
    require_trainable(subject, module, plan.batch_size)
    metrics: list[dict[str, Any]] = []
    trained, _ = recount(subject, module, module.w.detach(), display, test=False)
    comparison = (
        _best_posthoc(subject, module, settings, display) if settings.compare_posthoc and len(module.w) else None
    )
    best: tuple[Certificate, Encoded] | None = None
    for message in _messages(subject, module, trained, plan, settings, display, metrics):
        encoded = encode(message, subject.task)
        subject.world.require_same("the message", encoded.data)
        decoded, _ = decode(encoded.data, subject.task)
        quantised, test = recount(subject, module, torch.from_numpy(decoded.coordinates()), display)
        measured = Measured(
            errors=quantised.cautious,
            train_errors=trained.plain,
            test_errors=test.plain if test else None,
            train_nll_bits=quantised.nll_bits if isfinite(quantised.nll_bits) else None,
            network=subject.network_facts,
        )
        certificate = assemble(
            subject,
            decoded,
            encoded,
            measured,
            comparison,
            delta=settings.delta,
            extra_bits=settings.misc_extra_bits,
            fine_tuned=settings.quant_epochs > 0,
        )
        if best is None or certificate.error_bound < best[0].error_bound:
            best = certificate, encoded
    assert best is not None
    return Candidate(run, best[0], best[1].data, metrics)


def _messages(
    subject: Subject,
    module: SubspaceModule,
    trained: Counts,
    plan: Plan,
    settings: BoundSettings,
    display: Display,
    metrics: list[dict[str, Any]],
) -> Iterator[Message]:
    """The messages to choose from, which is free: one for each number of levels, or the one there is.

    The lines of metrics of fine-tuning are added to `metrics`.
    """
    w = module.w.detach().clone()
    if not len(w):
        yield Message(subject.configuration, None, np.zeros(0, dtype=np.int64))
        return
    for levels in settings.level_counts:
        with torch.no_grad():
            module.w.copy_(w)
        quantiser: Quantiser = CODEBOOKS[settings.effective_codebook].maker()(levels)
        quantiser.to(w.device).fit(w)
        if settings.quant_epochs:
            _fine_tune(subject, module, quantiser, trained, plan, settings, display, metrics)
        else:
            quantiser = _best_candidate(subject, module, quantiser, settings, display)
        yield Message(subject.configuration, *quantiser.message_parts(module.w))


def _plan(subject: Subject, settings: BoundSettings) -> Plan:
    """How fine-tuning goes: Adam, cosine to 0."""
    return Plan("adam_cos", settings.quant_epochs, settings.batch_size or subject.settings.batch_size or 1, settings.lr)


class _FineTuning:
    """Observes fine-tuning: metrics, progress, and, where it is automatic, the price of a bit after every epoch."""

    def __init__(
        self, metrics: list[dict[str, Any]], objective: RateObjective, price: _Price | None, advance: Advance
    ) -> None:
        self._metrics, self._objective, self._price, self._advance = metrics, objective, price, advance

    def advance(self, step: int, steps: int, loss: float) -> None:
        """Moves the bar."""
        self._advance(step, steps)

    def epoch(self, record: dict[str, Any]) -> None:
        """One line of metrics; then the price that the present errors and bits imply."""
        symbols = self._objective.quantiser.message_parts(self._objective.module.w)[1]
        bits = ideal_symbol_bits(symbols)
        self._metrics.append(record | {"symbols_bits": round(bits, 1), "rate_weight": self._objective.rate_weight})
        if self._price is not None:
            self._objective.rate_weight = self._price.at(record["error"], bits)

    def save(self, state: State) -> None:
        """Fine-tuning is short; it starts again."""


def ideal_symbol_bits(symbols: Symbols) -> float:
    """The bits of a sequence of symbols under the better of its trees."""
    return min(ideal_bits(tree, symbols) for tree in symbol_trees(int(symbols.max()) + 1))


@dataclass(frozen=True)
class _Price:
    """rho at which cross-entropy and bits lower the bound alike (mathematics, section 2).

    Attributes:
        slope: change of the error per change of the mean cross-entropy, in nats.
        examples: n.
    """

    HASTE = 1.7
    """A run of a few thousand steps ends before all that this price would drop is dropped: measured, not derived."""

    slope: float
    examples: int
    delta: float

    def at(self, error: float, bits: float) -> float:
        """rho where the classifier has this training error and this many bits.

        With p the bound and q the error, dp/d(nats/n) = 1 / ((1-q)/(1-p) - q/p) and dp/dq is that times
        ln(p(1-q) / (q(1-p))); their quotient, times the slope, is the price.
        """
        errors = min(max(1, round(error * self.examples)), self.examples - 1)
        q = errors / self.examples
        p = min(binomial_bound(errors=errors, examples=self.examples, bits=bits, delta=self.delta), 1 - 1e-9)
        return self.HASTE / (self.slope * log(p * (1 - q) / (q * (1 - p))))


def _fine_tune(
    subject: Subject,
    module: SubspaceModule,
    quantiser: Quantiser,
    trained: Counts,
    plan: Plan,
    settings: BoundSettings,
    display: Display,
    metrics: list[dict[str, Any]],
) -> None:
    """Trains w and the levels through the quantiser, paying for bits; on augmented images where training was."""
    examples = len(subject.sample)
    price = None
    if settings.rate_weight == "auto":
        price = _Price(_slope(trained), examples, settings.delta)
        bits = ideal_symbol_bits(quantiser.message_parts(module.w)[1])
        rate_weight = price.at(2 * trained.plain_error, bits / 2)
    else:
        rate_weight = float(settings.rate_weight)
    objective = RateObjective(module, quantiser, rate_weight=rate_weight, examples=examples)
    trainer = Trainer(
        objective,
        subject.sample,
        subject.statistics,
        plan,
        seed=subject.settings.seed,
        stage=STAGE,
        augment=bool(subject.settings.augment),
        advice="run pactl bound again",
        lr_scales={"module.w": quantiser.gap()} | quantiser.lr_scales(),
        world=subject.world,
    )
    with display.progress(f"fine-tuning {settings.effective_codebook} codebook") as advance:
        trainer.run(_FineTuning(metrics, objective, price, advance))


def _slope(trained: Counts) -> float:
    """Errors for each nat of log-loss: of a classifier and one that has neither.

    Raises:
        PactlError: with exit code 1 if the log-loss is not finite.
    """
    if not isfinite(trained.nll_nats):
        raise PactlError(
            "the log-loss before fine-tuning is not finite, and so has no price in bits",
            "certify without fine-tuning: --quant-epochs 0",
            FAILED,
        )
    nats = max(trained.nll_nats / trained.examples, 1e-9)
    return max(trained.plain_error, 1 / trained.examples) / nats


def _best_candidate(
    subject: Subject, module: SubspaceModule, quantiser: Quantiser, settings: BoundSettings, display: Display
) -> Quantiser:
    """Without fine-tuning, the candidate of the least bound: free, as is every way of finding a message."""

    def bound_of(candidate: Quantiser) -> float:
        codebook, symbols = candidate.message_parts(module.w)
        counts, _ = recount(subject, module, torch.from_numpy(codebook.values()[symbols]), display, test=False)
        bits = ideal_symbol_bits(symbols)
        return binomial_bound(errors=counts.cautious, examples=counts.examples, bits=bits, delta=settings.delta)

    candidates = quantiser.candidates()
    return min(candidates, key=bound_of) if len(candidates) > 1 else quantiser


def _best_posthoc(subject: Subject, module: SubspaceModule, settings: BoundSettings, display: Display) -> Posthoc:
    """The best of several sizes, as the published program would choose it."""
    entries = [
        posthoc(subject, module, size, display, delta=settings.delta, extra_bits=settings.misc_extra_bits)
        for size in POSTHOC_LEVELS
    ]
    return min(entries, key=lambda entry: entry.bound)
