"""Counts of events agree with a loop over examples, and cover what another machine may count."""

from __future__ import annotations

from math import exp, isfinite

import numpy as np
import pytest
import torch

from pactl_cli.certificate.format import NUMERICAL_MARGIN
from pactl_cli.certificate.guarantees import CONFIDENCES, COST_UNITS, THRESHOLDS
from pactl_cli.processes.world import ALONE
from pactl_cli.training.counting import _count_batch
from pactl_cli.training.tallies import CAUTIONS, Tallied, Tally

CLASSES, EXAMPLES = 4, 300
WHATS = ["top-2", "class", "groups", "abstain", "calibration", "cost"]
COSTS = torch.tensor([[0, 200_000, 1_000_000, 1], [7, 0, 5, 5], [10**6, 10**6, 0, 10**6], [3, 2, 1, 0]])
BINS = len(CONFIDENCES) + 1


def logits_and_labels(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(EXAMPLES, CLASSES, generator=random)
    labels = torch.randint(CLASSES, (EXAMPLES,), generator=random)
    return logits, labels, torch.randint(3, (EXAMPLES,), generator=random)


def tallied(logits: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor, size: int = 77) -> Tallied:
    tally = Tally(WHATS, CLASSES, groups, COSTS, int(groups.max()) + 1)
    for part in torch.arange(len(labels)).split(size):
        tally.add(logits[part], labels[part], part)
    return tally.total(ALONE)


def by_hand(logits: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor) -> np.ndarray:
    """Return the counts of one machine, from a loop over examples: shape (events, 2)."""
    counts: dict[tuple[object, ...], list[int]] = {}

    def note(event: tuple[object, ...], occurred: int, not_occurred: int) -> None:
        row = counts.setdefault(event, [0, 0])
        row[0] += occurred
        row[1] += not_occurred

    for row, label, group in zip(logits.double().tolist(), labels.tolist(), groups.tolist(), strict=True):
        order = sorted(range(CLASSES), key=lambda c: -row[c])
        right = order[0] == label
        note(("top",), label not in order[:2], label in order[:2])
        for each in range(CLASSES):
            note(("class", each), label == each and not right, label == each and right)
        for each in range(3):
            note(("group", each), group == each and not right, group == each and right)
        margin = row[order[0]] - row[order[1]]
        for kind in ("wrong", "refused"):
            for threshold in THRESHOLDS:
                accepted = margin >= threshold
                if kind == "wrong":
                    note((kind, threshold), accepted and not right, accepted and right)
                else:
                    note((kind, threshold), not accepted, accepted)
        confidence = exp(row[order[0]]) / sum(map(exp, row))
        for kind in ("wrong in", "right in"):
            for low, high in zip((0.0, *CONFIDENCES), (*CONFIDENCES, 2.0), strict=True):
                inside = low <= confidence < high
                occurs = right if kind == "right in" else not right
                note((kind, low), inside and occurs, inside and not occurs)
        cost = int(COSTS[label, order[0]])
        note(("cost",), cost, COST_UNITS - cost)
    return np.array(list(counts.values()))


def test_counts_are_those_of_a_loop() -> None:
    drawn = logits_and_labels()
    found = tallied(*drawn)
    assert (by_hand(*drawn) == found[0].T).all()


@pytest.mark.parametrize("size", [1, 13, EXAMPLES])
def test_batches_make_no_difference(size: int) -> None:
    drawn = logits_and_labels(1)
    assert (tallied(*drawn, size=size) == tallied(*drawn)).all()


def test_caution_counts_more_against_and_less_in_favour() -> None:
    logits, labels, groups = logits_and_labels(2)
    found = tallied((logits * 2).round() / 2, labels, groups)  # with ties
    against, favour = found[:, 0], found[:, 1]
    assert (np.diff(against, axis=0) >= 0).all()
    assert (np.diff(favour, axis=0) <= 0).all()
    assert (found[0] != found[1]).any(), "there were ties to be cautious of"


@pytest.mark.parametrize("seed", range(5))
def test_another_machine_counts_no_more_than_is_certified(seed: int) -> None:
    """The certified count covers the count for logits that differ by less than half the numerical margin."""
    random = torch.Generator().manual_seed(seed)
    logits, labels, groups = logits_and_labels(seed)
    logits = (logits * 4).round() / 4 + 2e-4 * torch.rand(logits.shape, generator=random)  # close to thresholds
    noise = (2 * torch.rand(logits.shape, generator=random) - 1) * 0.499 * NUMERICAL_MARGIN
    other = logits + noise * logits.abs().amax(1, keepdim=True)
    certified = tallied(logits, labels, groups)[CAUTIONS.index(1)]
    counted = tallied(other, labels, groups)[0]
    assert (counted[0] <= certified[0]).all()
    assert (counted[1] >= certified[1]).all()
    assert (counted != certified).any()


def test_logits_that_are_no_numbers_are_errors_and_are_not_accepted() -> None:
    logits = torch.tensor([[float("nan"), 1.0, 0.0, 0.0], [float("inf"), 0.0, 0.0, 0.0], [0.0, 9.0, 0.0, 0.0]])
    labels, groups = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])
    top, *rest = tallied(logits, labels, groups)[1].T.tolist()
    assert top == [2, 1]
    assert rest[:2] == [[2, 0], [0, 1]]
    wrong, refused = rest[7 : 7 + 64], rest[7 + 64 : 7 + 128]
    assert [row[1] for row in refused[:3]] == [1, 1, 1], "one of three is accepted"
    assert wrong[0] == [2, 1], "they count against what is said of the accepted all the same"
    assert rest[-1] == [2 * COST_UNITS, COST_UNITS]
    assert all(isfinite(number) for row in rest for number in row)


def test_nothing_is_refused_at_threshold_zero() -> None:
    logits, labels, groups = torch.zeros(5, CLASSES), torch.zeros(5, dtype=torch.int64), torch.tensor([0, 0, 1, 1, 2])
    found = tallied(logits, labels, groups)
    start = 1 + CLASSES + 3 + len(THRESHOLDS)
    assert (found[:, 0, start] == 0).all()
    assert (found[:, 1, start] == 5).all()


def test_errors_by_class_are_those_that_are_counted_also_at_the_margin_to_a_digit() -> None:
    """Errors by class must add up to the errors, or verification would fail."""
    random = torch.Generator().manual_seed(0)
    labels = torch.zeros(4000, dtype=torch.int64)
    logits = torch.randn(4000, 2, generator=random)
    logits[:, 1] = logits[:, 0] - NUMERICAL_MARGIN * logits[:, 0].abs()
    tally = Tally(["class"], 2)
    tally.add(logits, labels, torch.arange(4000))
    cautious = int(_count_batch(logits, labels)[1])
    assert 0 < cautious < 4000
    assert tally.total(ALONE)[1, 0].sum() == cautious
