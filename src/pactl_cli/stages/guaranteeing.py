"""The guarantees beside the error: the question with the user's files, its counts, and what they certify."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.guarantees import MEMBERS, Event, Guarantee, cost_units, event_names
from pactl_cli.certificate.percent import percent
from pactl_cli.certificate.questions import ABSTAIN, CLASS, COST, GROUPS, MOST_EVENTS, Question, Wanted, price, rank_of
from pactl_cli.data.dataset import LabelledExamples
from pactl_cli.data.guarantee_files import read_costs, read_groups
from pactl_cli.data.splits import Indices
from pactl_cli.errors import MissingError, PactlError
from pactl_cli.models.preparation import Prepared
from pactl_cli.problem.display import Display
from pactl_cli.problem.problem import Problem
from pactl_cli.runs.directory import CERTIFICATE, RunDirectory
from pactl_cli.runs.settings import BoundSettings
from pactl_cli.training.counting import Counts, count
from pactl_cli.training.tallies import CAUTIONS, Tallied, Tally

_CERTIFIED = CAUTIONS.index(1)


@dataclass(frozen=True)
class Counted:
    """Counts of one classifier: its errors, and the events of the guarantees."""

    counts: Counts
    tallied: Tallied


@dataclass(frozen=True)
class Inquiry:
    """A question about one run, with its files read.

    Attributes:
        question: the question that the user asked.
        classes: the number of classes.
        groups: for each counted example, the place of its group in `members`; None without groups.
        members: the numbers of all groups in the file, ascending.
        groups_sha256: a fingerprint of the groups of the counted examples.
        costs: the cost for each true and predicted class; None without costs.
    """

    question: Question
    classes: int
    groups: Indices | None = None
    members: tuple[int, ...] = ()
    groups_sha256: str | None = None
    costs: tuple[tuple[float, ...], ...] | None = None

    @classmethod
    def of(cls, settings: BoundSettings, problem: Problem) -> Inquiry:
        """Return the question that settings ask about a run.

        Raises:
            PactlError: if it does not fit the number of classes, or a file cannot be read.
        """
        found = cls(settings.question, problem.dataset.classes)
        found._require_sense()
        costs = read_costs(settings.cost_file, found.classes) if settings.cost_file else None
        return replace(
            found._with_groups(settings.groups_file, problem),
            costs=None if costs is None else tuple(tuple(row) for row in costs.tolist()),
        )

    @classmethod
    def behind(cls, certificate: Certificate, problem: Problem, groups: Path | None) -> Inquiry:
        """Return the question that a certificate, perhaps a stranger's, answers.

        Args:
            groups: the file of groups that the user names.

        Raises:
            PactlError: if the file is missing, or has other groups.
        """
        whats, cost = (each.what for each in certificate.guarantees), certificate.guarantee(COST)
        question = Question.of(Wanted(what) for what in whats)  # nothing here depends on its shares
        found = cls(question, problem.dataset.classes, costs=cost.costs if cost else None)
        found._require_sense()
        claimed = certificate.guarantee(GROUPS)
        if claimed and groups is None:
            raise MissingError("the certificate is about groups of examples", "name their file: --groups FILE")
        found = found._with_groups(groups if claimed else None, problem)
        if claimed and claimed.groups_sha256 != found.groups_sha256:
            raise PactlError(f"--groups {groups} has other groups than those that {CERTIFICATE} is about")
        return found

    def _with_groups(self, path: Path | None, problem: Problem) -> Inquiry:
        """Return the same question with the groups in a file, if there is one."""
        if path is None:
            return self
        every = read_groups(path, len(problem.dataset.train))
        members, places = np.unique(every, return_inverse=True)  # also groups without a counted example
        groups, places = every[problem.partition.bound], places[problem.partition.bound]
        found = sha256(groups.astype("<i8").tobytes()).hexdigest()
        return replace(self, groups=places, members=tuple(members.tolist()), groups_sha256=found)

    def _require_sense(self) -> None:
        """Raise PactlError unless the question fits the number of classes."""
        for what in self.question.others:
            if (rank_of(what) or 0) > self.classes:
                raise PactlError(f"--certify {what}: there are only {self.classes} classes")
        if CLASS in self.question.shares and self.classes > MOST_EVENTS:
            raise PactlError(f"--certify class: {self.classes:,} classes are more than {MOST_EVENTS:,}")

    def count(self, network: Prepared, examples: LabelledExamples, problem: Problem, display: Display) -> Counted:
        """Count the errors and the events of a network on S.

        Args:
            examples: S, or the features of S that the network takes.
        """
        whats = self.question.others
        groups = None if self.groups is None else torch.from_numpy(self.groups)
        costs = None if self.costs is None else torch.tensor([list(map(cost_units, row)) for row in self.costs])
        tally = Tally(whats, self.classes, groups, costs, len(self.members))
        observe = {"observe": tally.add} if whats else {}
        with display.progress("counting errors") as advance:
            counts = count(network, examples, advance, problem.world, **observe)
        return Counted(counts, tally.total(problem.world) if whats else np.zeros((len(CAUTIONS), 2, 0), dtype=np.int64))

    def guarantees(self, counted: Counted, bits: float, delta: float) -> tuple[Guarantee, ...]:
        """Return the guarantees that counts give; abstention gets the best threshold.

        Args:
            bits: the length of the message, and the bits paid for choices that it does not carry.
        """
        found = []
        for what, place in self._places():
            names = self._names(what)
            pairs = zip(names, counted.tallied[_CERTIFIED, :, place].T.tolist(), strict=True)
            events = (
                Event(name=name, errors=errors, examples=errors + rest, bound=1.0) for name, (errors, rest) in pairs
            )
            guarantee = Guarantee(what=what, price_bits=0.0, events=tuple(events), bound=None, claim="")
            more = {
                "price_bits": price(self.question.shares[what], guarantee.shared_events),
                "abstain_error": self.question.abstain_error if what == ABSTAIN else None,
                "groups_sha256": self.groups_sha256 if what == GROUPS else None,
                "costs": self.costs if what == COST else None,
            }
            guarantee = guarantee.model_copy(update=more)
            found.append(guarantee.with_threshold(bits, delta) if what == ABSTAIN else guarantee.derived(bits, delta))
        return tuple(found)

    def require_counts(self, run: RunDirectory, certificate: Certificate, counted: Counted) -> None:
        """Raise PactlError unless a certificate's events agree with the counts here, up to the numerical margin."""
        for what, place in self._places():
            claimed = certificate.guarantee(what)
            assert claimed is not None
            if [event.name for event in claimed.events] != self._names(what):
                raise PactlError(f"{run.path / CERTIFICATE} lists other events of {what} than the data have")
            for event, least, most in zip(
                claimed.events, *(counted.tallied[row, :, place].T.tolist() for row in (0, -1)), strict=True
            ):
                others = event.examples - event.errors
                if not (least[0] <= event.errors <= most[0] and most[1] <= others <= least[1]):
                    raise PactlError(
                        f"{run.path / CERTIFICATE} says of {event.name}: {event.errors:,} of {event.examples:,}, but "
                        f"here it is {least[0]:,} of {sum(least):,}"
                    )

    def _places(self) -> Iterator[tuple[str, slice]]:
        """Yield the name of each guarantee beside the error, and the place of its events in the tally."""
        start = 0
        for what in self.question.others:
            end = start + len(self._names(what))
            yield what, slice(start, end)
            start = end

    def _names(self, what: str) -> list[str]:
        """Return the names of a guarantee's events."""
        return event_names(what, self.members if what == GROUPS else range(self.classes))


def notes_on(certificate: Certificate) -> Iterator[str]:
    """Yield warnings about guarantees that turned out empty or weak."""
    for each in certificate.guarantees:
        empty = [event.name for event in each.events if not event.examples]
        if each.what in MEMBERS and empty:
            names = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
            yield f"no counted example belongs to {names}: nothing is guaranteed there"
        if each.what == ABSTAIN and (each.bound or 0) > (each.abstain_error or 0):
            yield (
                f"no threshold has a certified error of at most {each.abstain_error:g} among accepted examples: this "
                f"one has the least, {percent(each.bound)} (ask for a larger --abstain-error)"
            )
