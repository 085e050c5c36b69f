"""Counts of the events of a certificate's guarantees, batch by batch, with the same caution as for errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.certificate.format import NUMERICAL_MARGIN
from pactl_cli.certificate.guarantees import CONFIDENCES, COST_UNITS, THRESHOLDS
from pactl_cli.certificate.questions import ABSTAIN, CALIBRATION, CLASS, COST, GROUPS, rank_of
from pactl_cli.processes.world import World

CAUTIONS = (0, 1, 2)
"""The cautions in numerical margins: for the count of one machine, of a certificate, and of the worst machine."""

Tallied = NDArray[np.int64]
"""For each caution, the counts of examples with and without each event: shape (3, 2, events)."""


@dataclass(frozen=True)
class _Batch:
    """The logits, labels and groups of some examples, with a caution."""

    logits: Tensor
    labels: Tensor
    groups: Tensor
    caution: int

    @property
    def finite(self) -> Tensor:
        return self.logits.isfinite().all(1)

    @property
    def slack(self) -> Tensor:
        """The most by which a difference of two logits may change on another machine."""
        return self.caution * NUMERICAL_MARGIN * self.logits.abs().amax(1)

    def rivals(self, slack: Tensor) -> Tensor:
        """Return the number of classes whose logits come within `slack` of the true class, exactly as for errors."""
        own = self.logits.gather(1, self.labels[:, None])
        others = self.logits.scatter(1, self.labels[:, None], -torch.inf)
        return (~(own - others > slack[:, None])).sum(1)

    def is_among(self, rank: int) -> Tensor:
        """Return, for each example, whether its class surely has one of the `rank` largest logits."""
        return (self.rivals(self.slack) < rank) & self.finite

    @property
    def may_be_right(self) -> Tensor:
        """For each example, whether its class may have the largest logit."""
        own = self.logits.gather(1, self.labels[:, None]).squeeze(1)
        return ~(self.logits.amax(1) - own > self.slack) & self.finite


_Pair = tuple[Tensor, Tensor]
"""For each event, the number of examples with it, and the number without it."""


def _top(batch: _Batch, rank: int) -> _Pair:
    among = batch.is_among(rank)
    return (~among).sum()[None], among.sum()[None]


def _by(batch: _Batch, members: Tensor, size: int) -> _Pair:
    """Count errors by the member that each example belongs to."""
    right = batch.is_among(1)
    return members[~right].bincount(minlength=size), members[right].bincount(minlength=size)


def _abstention(batch: _Batch) -> _Pair:
    """Count errors among the accepted, and refusals, at every threshold."""
    first, second = batch.logits.topk(2, dim=1).values.T
    margins, thresholds = (first - second)[:, None], torch.tensor(THRESHOLDS, device=first.device)
    slack = torch.where(thresholds > 0, batch.slack[:, None], 0.0)  # at 0 every machine accepts all
    finite, right = batch.finite[:, None], batch.is_among(1)[:, None]
    surely = (margins >= thresholds + slack) & finite
    perhaps = (margins >= thresholds - slack) | (~finite & bool(batch.caution))
    wrong = (perhaps & ~right).sum(0), (surely & right).sum(0)
    refused = (~surely).sum(0), surely.sum(0)
    return torch.cat([wrong[0], refused[0]]), torch.cat([wrong[1], refused[1]])


def _calibration(batch: _Batch) -> _Pair:
    """Count errors, then correct answers, in every bin of the largest probability, which is compared as log-odds."""
    best, place = batch.logits.max(1)
    odds = (best - batch.logits.scatter(1, place[:, None], -torch.inf).logsumexp(1))[:, None]
    borders = torch.tensor([log(each / (1 - each)) for each in CONFIDENCES], device=best.device)
    low = torch.nn.functional.pad(borders, (1, 0), value=-torch.inf)
    high = torch.nn.functional.pad(borders, (0, 1), value=torch.inf)
    slack, finite = (batch.slack + batch.caution * NUMERICAL_MARGIN)[:, None], batch.finite[:, None]  # also of zeros
    surely = (odds >= low + slack) & (odds < high - slack) & finite
    perhaps = ((odds >= low - slack) & (odds < high + slack)) | (~finite & bool(batch.caution))
    right, may_be_right = batch.is_among(1)[:, None], batch.may_be_right[:, None]
    wrong = (perhaps & ~right).sum(0), (surely & right).sum(0)
    correct = (perhaps & may_be_right).sum(0), (surely & ~may_be_right).sum(0)
    return torch.cat([wrong[0], correct[0]]), torch.cat([wrong[1], correct[1]])


def _cost(batch: _Batch, costs: Tensor) -> _Pair:
    """Sum the costs of the answers in `COST_UNITS`, each that of the most expensive class that may be the answer."""
    candidates = batch.logits >= batch.logits.amax(1, keepdim=True) - batch.slack[:, None]
    found = torch.where(candidates, costs[batch.labels], 0).amax(1)
    found = torch.where(batch.finite, found, COST_UNITS)
    return found.sum()[None], (COST_UNITS - found).sum()[None]


class Tally:
    """The counts of the events of some guarantees.

    Args:
        whats: the names of the guarantees, as in `certificate.questions`.
        classes: the number of classes.
        groups: the place of each example's group, shape (n,), if there are groups.
        costs: the cost of each true and predicted class, in `COST_UNITS`, if there are costs.
        members: the number of groups, some of which may have no example here.
    """

    def __init__(
        self,
        whats: Sequence[str],
        classes: int,
        groups: Tensor | None = None,
        costs: Tensor | None = None,
        members: int = 0,
    ) -> None:
        self._classes = classes
        self._groups = torch.zeros(0, dtype=torch.int64) if groups is None else groups
        self._counters = [_counter(what, classes, members, costs) for what in whats]
        self._total: Tensor | None = None

    def add(self, logits: Tensor, labels: Tensor, places: Tensor) -> None:
        """Count a batch: the logits and labels of the examples at some places."""
        self._groups = self._groups.to(labels.device)
        groups = self._groups[places] if len(self._groups) else self._groups
        batches = [_Batch(logits, labels, groups, caution) for caution in CAUTIONS]
        counted = torch.stack([self._count(batch) for batch in batches])
        self._total = counted if self._total is None else self._total + counted

    def _count(self, batch: _Batch) -> Tensor:
        """Return the counts of examples of a batch with and without each event: shape (2, events)."""
        pairs = [counter(batch) for counter in self._counters]
        return torch.stack([torch.cat([pair[side] for pair in pairs]) for side in (0, 1)])

    def total(self, world: World) -> Tallied:
        """Return the counts of all processes together."""
        if self._total is None:  # there was no batch for this process
            nothing = torch.zeros(0, dtype=torch.int64)
            self.add(torch.zeros(0, self._classes), nothing, nothing)
        assert self._total is not None
        return world.total(self._total.double()).cpu().numpy().astype(np.int64)  # exact below 2^53


def _counter(what: str, classes: int, members: int, costs: Tensor | None) -> Callable[[_Batch], _Pair]:
    """Return the function that counts the events of a guarantee in a batch."""
    if rank := rank_of(what):
        return partial(_top, rank=rank)
    return {
        CLASS: lambda batch: _by(batch, batch.labels, classes),
        GROUPS: lambda batch: _by(batch, batch.groups, members),
        ABSTAIN: _abstention,
        CALIBRATION: _calibration,
        COST: lambda batch: _cost(batch, costs.to(batch.logits.device)),  # type: ignore[union-attr]
    }[what]
