"""`pactl verify`: decode, rebuild, recount, recompute; believe nothing that can be derived."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose, isfinite
from pathlib import Path
from typing import Any, ClassVar

import torch

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.codes import DecodeError
from pactl_cli.certificate.configuration import silent
from pactl_cli.certificate.message import Encoded, Message, decode
from pactl_cli.certificate.questions import ABSTAIN
from pactl_cli.certificate.risk_bounds import catoni_bound
from pactl_cli.errors import FAILED, MissingError, PactlError
from pactl_cli.models.normalisation import running_statistics
from pactl_cli.models.preparation import Prepared
from pactl_cli.problem.consent import Named, place_of_data, require_own_network
from pactl_cli.problem.display import Display
from pactl_cli.problem.machine import data_directory, find_device
from pactl_cli.problem.network_facts import NetworkFacts
from pactl_cli.problem.problem import Problem
from pactl_cli.problem.reloading import reload_problem, restore, trained_coordinates
from pactl_cli.runs.calibrated import Calibrated
from pactl_cli.runs.directory import CERTIFICATE, CLASSIFIER, MESSAGE, RunDirectory
from pactl_cli.stages import posthoc
from pactl_cli.stages.claims import intact_certificate, open_certified, wrong_guarantees
from pactl_cli.stages.classifier import agreed_network
from pactl_cli.stages.evidence import Claim, Measured, assemble, coordinates_of, recount, tested
from pactl_cli.stages.guaranteeing import Inquiry, recounted
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.training.counting import Counts

Document = dict[str, Any]

_TOLERANCE = 1e-9
"""Relative: the last digits of a special function on another machine."""
_NLL_TOLERANCE = 1e-3
_KMEANS_TOLERANCE = 1e-3


_Counted = tuple[Counts, Counts, Counts | None]
"""What this machine counts: at the trained coordinates, at the decoded ones, and there on the test set."""


@dataclass(frozen=True)
class Verdict:
    """A certificate that agrees with the files, the data and the program.

    Attributes:
        data: where the data came from, and what is known of them, in a sentence.
    """

    certificate: Certificate
    data: str

    NOT_LOOKED_AT: ClassVar = (
        "the training curves in metrics.jsonl",
        "the versions and the device in manifest.json",
        "program_version and made_with in bound.json",
    )
    """What of a run directory may be false all the same."""


def verify(path: Path, named: Named, device: str, display: Display) -> Verdict:
    """Check the certificate in a run directory. Nothing is fetched or written.

    Args:
        named: what the user says of data and network: nothing else is believed.

    Raises:
        PactlError: exit code 1 with the reason if anything disagrees; 2 if there is no
            certificate, or the data, the device or something that the user has to name is missing.
    """
    find_device(device)
    if named.data_dir is not None:
        data_directory(named.data_dir)
    run = open_certified(path, **{name: value for name, value in vars(named).items() if name != "option"})
    try:
        return _check(run, named, device, display)
    except MissingError:
        raise
    except PactlError as error:
        raise PactlError(f"verification failed: {error.message}", error.hint, FAILED) from error


def _check(run: RunDirectory, named: Named, device: str, display: Display) -> Verdict:
    """Check everything, cheap checks first."""
    certificate = intact_certificate(run)
    require_own_network(run, named.model_name)
    problem = reload_problem(run, named, device, display, only_read=True)
    require_true(run, certificate, problem, display, named.groups)
    return Verdict(certificate, place_of_data(run, problem.settings, named, only_read=True).in_words())


def require_true(
    run: RunDirectory, certificate: Certificate, problem: Problem, display: Display, groups: Path | None
) -> None:
    """Raise PactlError unless a certificate of a run is what its message, the data and the program say.

    Args:
        groups: the file of the groups that the user names.
    """
    if not problem.kind.certifies(problem.settings):  # what its source has seen was then not left out of S
        raise PactlError(f"{run.path} makes a source, for which there is no message")
    for name in wrong_guarantees(certificate):  # of prices nothing else here says whether they share delta
        raise PactlError(f"{run.path / CERTIFICATE} contradicts itself: {name} does not follow from counts and bits")
    trained_coordinates(run, problem.configuration.intrinsic_dim)  # a file that is as large as the message will be
    problem = problem.abstaining(certificate.guarantee(ABSTAIN) is not None)
    inquiry = Inquiry.behind(certificate, problem, groups)
    message, encoded = _read_message(run, problem)
    _require_same_task(run, certificate, problem)
    network = agreed_network(run, certificate, problem.blueprint, problem.task)
    module = problem.build_module()
    restore(module, run)
    coordinates, trained = coordinates_of(message, module), None
    if not torch.equal(coordinates, module.w.detach().cpu()):
        trained = recount(problem, problem.classifier(module, module.w.detach()), display)
    classifier = problem.classifier(module, coordinates)
    other = _other_statistics(run, certificate, problem, classifier)
    counted = recounted(problem, classifier, inquiry, display)
    decoded = counted.counts
    measured = _agreed(run, certificate, (trained or decoded, decoded, tested(problem, classifier)), network)
    inquiry.require_counts(run, certificate, counted)
    if other is not None:  # another machine's, and the classifier that the run gives has them
        other.place_into(running_statistics(classifier.network))
        counted = recounted(problem, classifier, inquiry, display)
        _require_errors(run, certificate, counted.counts)
        inquiry.require_counts(run, certificate, counted)
    expected = assemble(problem, message, encoded, measured, _claim_of(certificate))
    for name, claimed, derived in _differences(*_compared(certificate, expected)):
        raise PactlError(f"{run.path / CERTIFICATE} says {name} is {claimed!r}, but it is {derived!r}")
    _check_posthoc(run, certificate, problem, module, display)


def _claim_of(certificate: Certificate) -> Claim:
    """Return what a certificate was asked to say."""
    return Claim(
        *(certificate.delta, certificate.extra_bits, certificate.published.fine_tuned, certificate.posthoc),
        other_deltas=tuple(each.delta for each in certificate.at_other_deltas),
        made_with=certificate.made_with,
        share_bits=certificate.share_bits,
        headline=certificate.headline,
    )


def _compared(claimed: Certificate, derived: Certificate) -> tuple[Document, Document]:
    """What must be equal: all but the note on the version, and bounds of which the certificate does not speak."""
    said, known = (each.model_dump(mode="json", exclude={"program_version"}) for each in (claimed, derived))
    known["bounds"] = {name: value for name, value in known["bounds"].items() if name in claimed.bounds}
    return said, known


def _require_same_task(run: RunDirectory, certificate: Certificate, problem: Problem) -> None:
    """Raise PactlError if the certificate is about other inputs or classes, or texts split otherwise."""
    data = problem.dataset
    here: dict[str, Any] = {
        "classes": data.classes,
        "inputs": data.spec.as_dict(),
        "tokenizer_sha256": data.tokenizer_sha256,
    }
    for name, derived in here.items():
        if (claimed := certificate.side_information.get(name)) != derived:
            raise PactlError(f"{run.path / CERTIFICATE} says {name} is {reprlib.repr(claimed)}, but it is {derived!r}")


def _other_statistics(
    run: RunDirectory, certificate: Certificate, problem: Problem, classifier: Prepared
) -> Calibrated | None:
    """Return what a run has been given, if its last bits are another machine's; None if they are this one's.

    Raises:
        PactlError: if that is, unpaid, something else than the data give it.
    """
    given = Calibrated.load(run, problem.dataset.spec, certificate.classifier_sha256)
    derived = problem.calibrated(classifier)
    if name := given.difference(derived):
        raise PactlError(f"{run.path / CLASSIFIER} does not say of the data what they are: {name} differs")
    return (
        None if all(torch.equal(given.buffers[name], derived.buffers[name].cpu()) for name in given.buffers) else given
    )


def _read_message(run: RunDirectory, problem: Problem) -> tuple[Message, Encoded]:
    """Return the decoded message, which must speak of the run's own configuration, or say that w = 0 there."""
    try:
        message, encoded = decode(run.read_bytes(MESSAGE), problem.task, problem.configuration.intrinsic_dim)
    except DecodeError as error:
        raise PactlError(f"{run.path / MESSAGE} cannot be decoded: {error}") from error
    if message.configuration not in (problem.configuration, silent(problem.configuration, problem.task)):
        raise PactlError(f"{run.path / MESSAGE} and config.yml name different configurations")
    return message, encoded


def _agreed(run: RunDirectory, certificate: Certificate, counted: _Counted, network: NetworkFacts) -> Measured:
    """The certificate's measured numbers, each found to be what this machine counts, up to the numerical margin."""
    trained, decoded, test = counted
    _require_errors(run, certificate, decoded)
    if not _is_log_loss(certificate.train_nll_bits, decoded.nll_bits):
        raise PactlError(
            f"{run.path / CERTIFICATE} says train_nll_bits is {certificate.train_nll_bits}, not {decoded.nll_bits}"
        )
    return Measured(
        errors=certificate.errors,
        train_errors=_plain_errors("train_error", certificate.train_error, trained),
        test_errors=None if test is None else _plain_errors("test_error", certificate.test_error, test),
        train_nll_bits=certificate.train_nll_bits,
        network=network,
        classifier_sha256=certificate.classifier_sha256,
        guarantees=certificate.guarantees,
    )


def _require_errors(run: RunDirectory, certificate: Certificate, decoded: Counts) -> None:
    """Raise PactlError unless the errors of a certificate are those of its classifier, up to the numerical margin."""
    if not decoded.plain <= certificate.errors <= decoded.doubtful:
        raise PactlError(
            f"{run.path / CERTIFICATE} says errors is {certificate.errors:,}, but the decoded classifier makes "
            f"{decoded.plain:,} errors, {decoded.cautious:,} with the numerical margin"
        )


def _is_log_loss(claimed: float | None, counted: float) -> bool:
    """Return whether a claimed log-loss is the one counted; None claims one that is not finite."""
    if claimed is None:
        return not isfinite(counted)
    return isclose(claimed, counted, rel_tol=_NLL_TOLERANCE, abs_tol=_NLL_TOLERANCE)


def _plain_errors(name: str, claimed: float | None, counts: Counts) -> int:
    """Return the claimed number of plain errors, if it is one that this machine could have counted."""
    known = claimed is not None and 0 <= claimed <= 1
    errors = round((claimed or 0.0) * counts.examples) if known else 0
    if not known or not counts.lenient <= errors <= counts.cautious:
        raise PactlError(f"{name} is said to be {claimed}, but {counts.plain:,} of {counts.examples:,} are errors")
    return errors


def _differences(claimed: Any, derived: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the leaves in which two JSON values differ: (name, claimed, derived)."""
    if isinstance(derived, dict) and isinstance(claimed, dict) and derived.keys() == claimed.keys():
        for key, value in derived.items():
            yield from _differences(claimed[key], value, f"{name}.{key}".strip("."))
    elif isinstance(derived, list) and isinstance(claimed, list) and len(derived) == len(claimed):
        for place, value in enumerate(derived):
            yield from _differences(claimed[place], value, f"{name}.{place}")
    elif isinstance(derived, float) and isinstance(claimed, int | float) and not isinstance(claimed, bool):
        if not isclose(claimed, derived, rel_tol=_TOLERANCE):
            yield name, claimed, derived
    elif claimed != derived or isinstance(claimed, bool) != isinstance(derived, bool):
        yield name, claimed, derived


def _check_posthoc(
    run: RunDirectory, certificate: Certificate, problem: Problem, module: SubspaceModule, display: Display
) -> None:
    """Makes the comparison again. k-means may differ by a hair on another machine, and so its counts."""
    claimed = certificate.posthoc
    if claimed is None:
        return
    if claimed.levels not in posthoc.LEVELS:
        raise PactlError(f"{run.path / CERTIFICATE}: no comparison has {claimed.levels} levels")
    comparison = posthoc.Comparison(problem, module, display, certificate.delta, certificate.extra_bits)
    again = comparison.at(claimed.levels)
    for name in ("errors", "bits", "bound"):
        if not isclose(getattr(claimed, name), getattr(again, name), rel_tol=_KMEANS_TOLERANCE):
            raise PactlError(
                f"{run.path / CERTIFICATE} says posthoc.{name} is {getattr(claimed, name)}, not {getattr(again, name)}"
            )
    bound = catoni_bound(
        errors=claimed.errors, examples=certificate.bound_examples, bits=claimed.bits, delta=certificate.delta
    )
    if not isclose(bound, claimed.bound, rel_tol=_TOLERANCE):
        raise PactlError(f"{run.path / CERTIFICATE} says posthoc.bound is {claimed.bound}, but it is {bound}")
