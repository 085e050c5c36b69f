"""The choice between a run's earlier certificate and a new one: the better one, if both answer the same question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import log2

from pactl_cli.certificate.certificate import Certificate, at_deltas
from pactl_cli.certificate.format import MOST_DELTAS
from pactl_cli.certificate.percent import percent
from pactl_cli.certificate.questions import ABSTAIN, COST, ERROR, GROUPS
from pactl_cli.errors import PactlError
from pactl_cli.problem.display import Display
from pactl_cli.problem.problem import Problem
from pactl_cli.processes.world import ALONE
from pactl_cli.runs.directory import CERTIFICATE, CLASSIFIER, MESSAGE, RunDirectory
from pactl_cli.runs.settings import BoundSettings
from pactl_cli.stages.certifying import Candidate
from pactl_cli.stages.claims import read_certificate
from pactl_cli.stages.guaranteeing import Inquiry
from pactl_cli.stages.verify import require_true
from pactl_cli.stages.workbench import STAGE

Earlier = Certificate | str | None
"""The certificate that a run has, or the reason why it cannot be kept, or None if there is none."""


def earlier_certificate(run: RunDirectory, settings: BoundSettings) -> Earlier:
    """Return the certificate that a run has, or the reason why it cannot be kept.

    Raises:
        PactlError: if it answers another question than `settings` ask, because then neither is better.
    """
    if run.manifest.stages.get(STAGE) != "complete":
        return None
    try:
        if altered := [path for path in run.altered() if path.name in (MESSAGE, CLASSIFIER, CERTIFICATE)]:
            raise PactlError(f"{altered[0]} is truncated, altered or missing")
        earlier = read_certificate(run)
    except PactlError as error:
        return error.message
    asked = _asked(settings)
    answered = _answered(earlier)
    if differs := [option for option, value in asked.items() if value != answered[option]]:
        was, now = (" ".join(f"{option} {facts[option]}" for option in differs) for facts in (answered, asked))
        raise _another(run, was, now)
    return earlier


def require_same_files(run: RunDirectory, earlier: Earlier, inquiry: Inquiry) -> None:
    """Raise PactlError if a run's earlier certificate is about other groups or costs than the inquiry."""
    for what, asked in ((GROUPS, inquiry.groups_sha256), (COST, inquiry.costs)):
        answered = earlier.guarantee(what) if isinstance(earlier, Certificate) else None
        if answered and asked != (answered.groups_sha256 if what == GROUPS else answered.costs):
            raise _another(run, f"other {what}", f"this --{what} file")


def _another(run: RunDirectory, was: str, now: str) -> PactlError:
    """Return the error for a question that a run's certificate does not answer."""
    return PactlError(
        f"{run.path} has a certificate for {was}, and {now} asks another question: neither is better",
        "--out DIR puts this one elsewhere, --force replaces the one that is there",
    )


def _asked(settings: BoundSettings) -> dict[str, str]:
    """Return the question that settings ask, by option."""
    question = settings.question
    return {
        "--delta": f"{settings.deltas[0]:g}",
        "--misc-extra-bits": f"{settings.misc_extra_bits:g}",
        "--certify": _shared({what: question.price(what, 1) for what in question.shares}),
        "--headline": question.headline,
        "--abstain-error": f"{question.abstain_error:g}" if question.abstains else "none",
    }


def _answered(certificate: Certificate) -> dict[str, str]:
    """Return the question that a certificate answers, by option."""
    abstention = certificate.guarantee(ABSTAIN)
    bits = {each.what: each.price_bits - log2(each.shared_events) for each in certificate.guarantees}
    return {
        "--delta": f"{certificate.delta:g}",
        "--misc-extra-bits": f"{certificate.extra_bits:g}",
        "--certify": _shared(bits | {ERROR: certificate.share_bits}),
        "--headline": certificate.headline,
        "--abstain-error": f"{abstention.abstain_error:g}" if abstention else "none",
    }


def _shared(bits: Mapping[str, float]) -> str:
    """Return the names of guarantees, and the bits that each pays for its share of delta."""
    paid = ", ".join(f"{round(bits[what], 4):g}" for what in sorted(bits))
    return ",".join(sorted(bits)) + (f" (whose shares of delta cost {paid} bits)" if len(bits) > 1 else "")


def successor(
    earlier: Earlier, found: Candidate, problem: Problem, settings: BoundSettings, display: Display
) -> Candidate:
    """Return the new certificate, or the earlier one if that is better and still true.

    An earlier one that is kept is also certified at the deltas that the user asks for now.
    """
    new = found.certificate
    if isinstance(earlier, str):
        display.warn(f"the certificate in {found.run.path} is not kept: {earlier}")
        return found
    if earlier is None or earlier.loss >= new.loss:
        return found
    run, world = found.run, problem.world
    if reason := world.from_first(lambda: _why_false(run, earlier, replace(problem, world=ALONE), settings, display)):
        display.warn(f"the certificate in {run.path} is not kept, {percent(earlier.error_bound)}: {reason}")
        return found
    display.warn(
        f"{run.path} keeps its certificate, {percent(earlier.error_bound)}: with these settings it is "
        f"{percent(new.error_bound)}, no better (--force replaces it, --out DIR puts it elsewhere)"
    )
    counts = {"errors": earlier.errors, "examples": earlier.bound_examples}
    deltas = dict.fromkeys(each.delta for each in (*earlier.at_other_deltas, *new.at_other_deltas))
    others = at_deltas(**counts, bits=earlier.paid_bits, deltas=list(deltas)[-MOST_DELTAS:])
    kept = earlier.model_copy(update={"at_other_deltas": others})
    message, classifier = world.from_first(lambda: (run.read_bytes(MESSAGE), run.read_bytes(CLASSIFIER)))
    return Candidate(run, kept, message, classifier, None)


def _why_false(
    run: RunDirectory, earlier: Certificate, problem: Problem, settings: BoundSettings, display: Display
) -> str:
    """Return the reason why a certificate is false for these data; "" if it is true."""
    try:
        require_true(run, earlier, problem, display, settings.groups_file)
    except PactlError as error:
        return error.message
    return ""
