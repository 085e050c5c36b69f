"""`pactl verify`: decode, rebuild, recount, recompute; derive everything that can be derived."""

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
from pactl_cli.stages.claims import TOLERANCE, intact_certificate, open_certified, wrong_guarantees
from pactl_cli.stages.classifier import agreed_network
from pactl_cli.stages.evidence import Claim, Measured, assemble, coordinates_of, count_on_sample, count_on_test_set
from pactl_cli.stages.guaranteeing import Inquiry
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.training.counting import Counts

Document = dict[str, Any]

_NLL_TOLERANCE = _KMEANS_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verdict:
    """A certificate that agrees with the files, the data and the program.

    Attributes:
        data: a sentence that says where the data were read, and what vouches for them.
    """

    certificate: Certificate
    data: str

    NOT_LOOKED_AT: ClassVar = (
        "the training curves in metrics.jsonl",
        "the versions and the device in manifest.json",
        "program_version and made_with in bound.json",
    )
    """Contents of a run directory that are not checked, and may be false."""


def verify(path: Path, named: Named, device: str, display: Display) -> Verdict:
    """Check the certificate in a run directory; fetch and write nothing.

    Args:
        named: the data and network that the user names; those that the run names are not trusted.

    Raises:
        PactlError: exit code 1 with the reason if anything disagrees; 2 if there is no certificate, or the data, the
            device, or something that the user must name is missing.
    """
    find_device(device)  # the user's mistakes come before anything about the run, with exit code 2
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
    """Check everything, cheap checks first, and return the verdict."""
    certificate = intact_certificate(run)
    require_own_network(run, named.model_name)
    problem = reload_problem(run, named, device, display, only_read=True)
    require_true(run, certificate, problem, display, named.groups)
    return Verdict(certificate, place_of_data(run, problem.settings, named, only_read=True).in_words())


def require_true(
    run: RunDirectory, certificate: Certificate, problem: Problem, display: Display, groups: Path | None
) -> None:
    """Raise PactlError unless a run's certificate follows from its message, the data and the program.

    Args:
        groups: the file of groups that the user names.
    """
    if not problem.kind.certifies(problem.settings):  # such a run did not leave out of S what its source has seen
        raise PactlError(f"{run.path} makes a source, for which there is no message")
    for name in wrong_guarantees(certificate):  # nothing below checks that the shares of delta add up
        raise PactlError(f"{run.path / CERTIFICATE} contradicts itself: {name} does not follow from counts and bits")
    trained_coordinates(run, problem.configuration.intrinsic_dim)  # its size limits the size of the decoded message
    problem = problem.abstaining(certificate.guarantee(ABSTAIN) is not None)
    inquiry = Inquiry.behind(certificate, problem, groups)
    message, encoded = _read_message(run, problem)
    _require_same_task(run, certificate, problem)
    network = agreed_network(run, certificate, problem.blueprint, problem.task)
    module = problem.build_module()
    restore(module, run)
    coordinates, trained = coordinates_of(message, module), None
    if not torch.equal(coordinates, module.w.detach().cpu()):
        trained = count_on_sample(problem, problem.classifier(module, module.w.detach()), display)
    classifier = problem.classifier(module, coordinates)
    other = _other_statistics(run, certificate, problem, classifier)
    counted = inquiry.count(classifier, problem.sample, problem, display)
    decoded, test = counted.counts, count_on_test_set(problem, classifier)
    measured = _agreed(run, certificate, trained or decoded, decoded, test, network)
    inquiry.require_counts(run, certificate, counted)
    if other is not None:  # `load` gives a classifier with these statistics, so it must hold for them too
        other.place_into(running_statistics(classifier.network))
        counted = inquiry.count(classifier, problem.sample, problem, display)
        _require_errors(run, certificate, counted.counts)
        inquiry.require_counts(run, certificate, counted)
    expected = assemble(problem, message, encoded, measured, _claim_of(certificate))
    for name, claimed, derived in _differences(*_compared(certificate, expected)):
        raise PactlError(f"{run.path / CERTIFICATE} says {name} is {claimed!r}, but it is {derived!r}")
    _check_posthoc(run, certificate, problem, module, display)


def _claim_of(certificate: Certificate) -> Claim:
    """Return the terms of a certificate."""
    return Claim(
        delta=certificate.delta,
        extra_bits=certificate.extra_bits,
        fine_tuned=certificate.published.fine_tuned,
        comparison=certificate.posthoc,
        other_deltas=tuple(each.delta for each in certificate.at_other_deltas),
        made_with=certificate.made_with,
        share_bits=certificate.share_bits,
        headline=certificate.headline,
    )


def _compared(claimed: Certificate, derived: Certificate) -> tuple[Document, Document]:
    """Return the two documents that must be equal: without the version, and without bounds that are not claimed."""
    said, known = (each.model_dump(mode="json", exclude={"program_version"}) for each in (claimed, derived))
    known["bounds"] = {name: value for name, value in known["bounds"].items() if name in claimed.bounds}
    return said, known


def _require_same_task(run: RunDirectory, certificate: Certificate, problem: Problem) -> None:
    """Raise PactlError if the certificate names other classes, inputs or another tokenizer than the data have."""
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
    """Return the statistics in a run, if they differ from this machine's in their last digits; None if they are equal.

    Raises:
        PactlError: if they differ by more: no bits pay for statistics that do not follow from the data.
    """
    given = Calibrated.load(run, problem.dataset.spec, certificate.classifier_sha256)
    derived = problem.calibrated(classifier)
    if name := given.difference(derived):
        raise PactlError(f"{run.path / CLASSIFIER} does not have the statistics of the data: {name} differs")
    return (
        None if all(torch.equal(given.buffers[name], derived.buffers[name].cpu()) for name in given.buffers) else given
    )


def _read_message(run: RunDirectory, problem: Problem) -> tuple[Message, Encoded]:
    """Return the decoded message, which must have the run's configuration, or the silent one: w = 0."""
    try:
        message, encoded = decode(run.read_bytes(MESSAGE), problem.task, problem.configuration.intrinsic_dim)
    except DecodeError as error:
        raise PactlError(f"{run.path / MESSAGE} cannot be decoded: {error}") from error
    if message.configuration not in (problem.configuration, silent(problem.configuration, problem.task)):
        raise PactlError(f"{run.path / MESSAGE} and config.yml name different configurations")
    return message, encoded


def _agreed(
    run: RunDirectory,
    certificate: Certificate,
    trained: Counts,
    decoded: Counts,
    test: Counts | None,
    network: NetworkFacts,
) -> Measured:
    """Return the certificate's measured numbers, after checking them against counts, up to the numerical margin.

    Args:
        trained: counts on S at the trained coordinates.
        decoded: counts on S at the decoded coordinates.
        test: counts on the test set at the decoded coordinates.
    """
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
    """Raise PactlError unless a certificate's errors agree with the counts here, up to the numerical margin."""
    if not decoded.plain <= certificate.errors <= decoded.doubtful:
        raise PactlError(
            f"{run.path / CERTIFICATE} says errors is {certificate.errors:,}, but the decoded classifier makes "
            f"{decoded.plain:,} errors, {decoded.cautious:,} with the numerical margin"
        )


def _is_log_loss(claimed: float | None, counted: float) -> bool:
    """Return whether a claimed log-loss agrees with the counted one; None claims that it is not finite."""
    if claimed is None:
        return not isfinite(counted)
    return isclose(claimed, counted, rel_tol=_NLL_TOLERANCE, abs_tol=_NLL_TOLERANCE)


def _plain_errors(name: str, claimed: float | None, counts: Counts) -> int:
    """Return the claimed number of plain errors; raise PactlError unless another machine could have counted it."""
    known = claimed is not None and 0 <= claimed <= 1
    errors = round((claimed or 0.0) * counts.examples) if known else 0
    if not known or not counts.lenient <= errors <= counts.cautious:
        raise PactlError(f"{name} is said to be {claimed}, but {counts.plain:,} of {counts.examples:,} are errors")
    return errors


def _differences(claimed: Any, derived: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the leaves in which two JSON values differ, as (name, claimed, derived)."""
    if isinstance(derived, dict) and isinstance(claimed, dict) and derived.keys() == claimed.keys():
        for key, value in derived.items():
            yield from _differences(claimed[key], value, f"{name}.{key}".strip("."))
    elif isinstance(derived, list) and isinstance(claimed, list) and len(derived) == len(claimed):
        for place, value in enumerate(derived):
            yield from _differences(claimed[place], value, f"{name}.{place}")
    elif isinstance(derived, float) and isinstance(claimed, int | float) and not isinstance(claimed, bool):
        if not isclose(claimed, derived, rel_tol=TOLERANCE):
            yield name, claimed, derived
    elif claimed != derived or isinstance(claimed, bool) != isinstance(derived, bool):
        yield name, claimed, derived


def _check_posthoc(
    run: RunDirectory, certificate: Certificate, problem: Problem, module: SubspaceModule, display: Display
) -> None:
    """Check the comparison by repeating it, with a tolerance: k-means and its counts may differ on another machine."""
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
    if not isclose(bound, claimed.bound, rel_tol=TOLERANCE):
        raise PactlError(f"{run.path / CERTIFICATE} says posthoc.bound is {claimed.bound}, but it is {bound}")
