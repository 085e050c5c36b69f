"""All guarantees hold jointly, for classifiers and thresholds that are chosen after looking at the examples.

Every classifier answers at random, so the probability of each event is known: an error on 4 of 5 examples, also within
every class, within every group and among the accepted. A trial fails if the bound of any event is false, for any
classifier and any threshold: this covers every choice. Each charge has a twin without it, which fails too often.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pactl_cli.certificate.guarantees import THRESHOLD_BITS, THRESHOLDS
from pactl_cli.certificate.questions import ABSTAIN, ERROR, Question, Wanted
from pactl_cli.certificate.risk_bounds import binomial_bound
from pactl_cli.processes.world import ALONE
from pactl_cli.stages.guaranteeing import Counted, Inquiry
from pactl_cli.training.counting import Counts
from pactl_cli.training.tallies import Tally

CLASSES, GROUPS, EXAMPLES, DELTA, CLASSIFIER_BITS = 5, 12, 240, 0.2, 2
TOP = 2


@dataclass(frozen=True)
class Sample:
    """The draws of one trial: labels and groups, and the answers and margins of every classifier."""

    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    ranks: NDArray[np.int64]
    margins: NDArray[np.float64]

    @classmethod
    def drawn(cls, seed: int) -> Sample:
        """Draw 2^CLASSIFIER_BITS classifiers, whose margins are independent of their errors."""
        random, size = np.random.default_rng(seed), (2**CLASSIFIER_BITS, EXAMPLES)
        return cls(
            random.integers(CLASSES, size=EXAMPLES),
            random.integers(GROUPS, size=EXAMPLES),
            random.integers(CLASSES, size=size),  # the place of the true class among all, by logit
            2.0 ** random.uniform(-3, 6, size),
        )

    def tally(self, which: int, whats: list[str]) -> Any:
        """Return the program's counts for a classifier, from logits."""
        logits = torch.zeros(EXAMPLES, CLASSES, dtype=torch.float64)
        order = (torch.from_numpy(self.labels - self.ranks[which])[:, None] + torch.arange(CLASSES)) % CLASSES
        values = torch.from_numpy(self.margins[which])[:, None] - torch.arange(CLASSES) * 0.01
        values[:, 1:] = -torch.arange(CLASSES - 1) * 0.01
        logits.scatter_(1, order, values)
        tally = Tally(whats, CLASSES, torch.from_numpy(self.groups), members=GROUPS)
        tally.add(logits.float(), torch.from_numpy(self.labels), torch.arange(EXAMPLES))
        return tally.total(ALONE)


def truths(what: str) -> NDArray[np.float64]:
    """Return the probability of every event of a guarantee."""
    wrong = 1 - 1 / CLASSES
    if what == f"top-{TOP}":
        return np.array([1 - TOP / CLASSES])
    if what == ABSTAIN:
        refused = [float(np.clip((np.log2(t) + 3) / 9, 0, 1)) if t else 0.0 for t in THRESHOLDS]
        return np.array([wrong] * len(THRESHOLDS) + refused)
    return np.full(CLASSES if what == "class" else GROUPS, wrong)


@cache
def _bound(errors: int, examples: int, bits: float) -> float:
    return binomial_bound(errors=errors, examples=examples, bits=bits, delta=DELTA) if examples else 1.0


def fails(sample: Sample, question: Question, free: str = "") -> dict[str, bool]:
    """Return, for each guarantee, whether a bound is false in a trial.

    Args:
        free: the charge that is left out: "message", "share", "events" or "threshold".
    """
    found = dict.fromkeys([ERROR, *question.others], False)
    message = CLASSIFIER_BITS + (THRESHOLD_BITS if question.abstains and free != "threshold" else 0)
    for which in range(2**CLASSIFIER_BITS):
        wrong = int((sample.ranks[which] != 0).sum())
        bits = (0 if free == "message" else message) + (0 if free == "share" else question.price(ERROR, 1))
        found[ERROR] |= _bound(wrong, EXAMPLES, bits) < 1 - 1 / CLASSES
        for what in question.others:
            against, favour = sample.tally(which, [what])[1]
            events = 2 if what == ABSTAIN else len(against)
            price = question.price(what, 1 if free == "events" else events)
            paid = (0 if free == "message" else message) + (np.log2(events) if free == "share" else price)
            bounds = [_bound(int(k), int(k + m), float(paid)) for k, m in zip(against, favour, strict=True)]
            found[what] |= bool((np.array(bounds) < truths(what) - 1e-12).any())
    return found


def asked(*whats: str) -> Question:
    return Question.of(map(Wanted.parse, whats))


def failures(question: Question, trials: int, free: str = "") -> NDArray[np.bool_]:
    return np.array([any(fails(Sample.drawn(seed), question, free).values()) for seed in range(trials)])


ALL = ("class", "groups", f"top-{TOP}", ABSTAIN)


def test_the_program_charges_what_is_simulated_here() -> None:
    """The program derives the same bounds from a trial's counts as this file."""
    question, sample = asked(*ALL), Sample.drawn(0)
    inquiry = Inquiry(question, CLASSES, sample.groups, tuple(range(GROUPS)), "0")
    tallied = sample.tally(1, question.others)
    counted = Counted(Counts(EXAMPLES, 0, 0, 0, 0, 0.0), tallied)
    bits = CLASSIFIER_BITS + THRESHOLD_BITS
    start = 0
    for guarantee in inquiry.guarantees(counted, bits, DELTA):
        for place, event in enumerate(guarantee.events, start):
            against, favour = tallied[1, :, place]
            paid = bits + question.price(guarantee.what, guarantee.shared_events)
            assert event.bound == _bound(int(against), int(against + favour), paid)
        start += len(guarantee.events)
        assert guarantee.price_bits >= np.log2(5 * guarantee.shared_events) - 1e-9
    assert start == tallied.shape[2]


def check_all(trials: int, rate: Any) -> None:
    assert rate(failures(asked(*ALL), trials), "jointly").high <= DELTA


def test_all_hold_jointly_in_short(rate: Any) -> None:
    check_all(60, rate)


@pytest.mark.slow
def test_all_hold_jointly(rate: Any) -> None:
    check_all(1000, rate)


@pytest.mark.slow
@pytest.mark.parametrize("what", ALL)
def test_each_holds_with_the_error(what: str, rate: Any) -> None:
    assert rate(failures(asked(what), 3000), what).high <= DELTA


@pytest.mark.parametrize(
    ("whats", "free"),
    [
        ((f"top-{TOP}",), "message"),
        (("class",), "events"),
        (("groups",), "events"),
        ((ABSTAIN,), "threshold"),
        (ALL[:3], "share"),
    ],
)
def test_what_is_not_charged_is_missed(whats: tuple[str, ...], free: str, rate: Any) -> None:
    """Each twin leaves out one charge."""
    missed = failures(asked(*whats), 150, free)
    charged = failures(asked(*whats), 150)
    assert rate(missed, f"{free} is free").low > DELTA
    assert charged.sum() < missed.sum() / 2


def test_shares_of_ones_own(rate: Any) -> None:
    question = asked("class@0.9", "groups@0.05")
    assert question.shares[ERROR] == Fraction(1, 20)
    assert rate(failures(question, 150), "class has 90 % of delta").high <= DELTA
