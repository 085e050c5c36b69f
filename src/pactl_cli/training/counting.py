"""Exact counts: every example once, in evaluation mode, in full single precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn

from pactl_cli.certificate.format import NUMERICAL_MARGIN
from pactl_cli.data.dataset import LabelledExamples
from pactl_cli.errors import FAILED, PactlError
from pactl_cli.models.inputs import InputSpec
from pactl_cli.processes.world import ALONE, World
from pactl_cli.training.precision import full_precision

BATCH = 500
_VALUES_ON_A_PROCESSOR, _VALUES_ELSEWHERE = 1 << 20, 1 << 24
"""Large examples are counted in smaller batches; on a processor in small ones, between whose layers less memory moves:
photographs of 96 pixels take a quarter of the time in batches of 37 that they take in batches of 500."""


@dataclass(frozen=True)
class Counts:
    """Errors of one classifier on some examples, counted three ways, and its log-loss.

    Attributes:
        examples: how many.
        cautious: errors, an example that does not lead by the numerical margin being one: what a certificate says.
        plain: errors of the largest logit, ties broken by the order of the classes.
        lenient: examples whose class trails by more than the margin: fewer than any machine would count.
        doubtful: errors at twice the margin: more than any machine would count as cautious.
        nll_nats: total negative log-likelihood.
    """

    examples: int
    cautious: int
    plain: int
    lenient: int
    doubtful: int
    nll_nats: float

    @property
    def plain_error(self) -> float:
        """As a fraction."""
        return self.plain / self.examples

    @property
    def nll_bits(self) -> float:
        """The total negative log-likelihood in bits."""
        return self.nll_nats / log(2)

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))


def batch_size(inputs: InputSpec, device: torch.device) -> int:
    """How many examples are counted at a time on a device."""
    values = _VALUES_ON_A_PROCESSOR if device.type == "cpu" else _VALUES_ELSEWHERE
    return min(BATCH, -(-values // inputs.values))


@torch.no_grad()
def count(
    network: nn.Module,
    examples: LabelledExamples,
    advance: Callable[[int, int], None] = lambda done, total: None,
    world: World = ALONE,
    observe: Callable[[Tensor, Tensor, Tensor], None] = lambda logits, labels, places: None,
) -> Counts:
    """Counts the errors of a network on clean examples, in the same batches and order whatever the number of processes.

    Args:
        network: raw inputs to logits; put into evaluation mode here.
        examples: their batches on the network's device.
        advance: told of (examples counted, examples in all).
        world: the processes that share the batches; all have the same network, and get the same counts.
        observe: told of every batch (logits, labels, which of the examples they are).

    Raises:
        PactlError: with exit code 1 if not every example was counted once.
    """
    network.eval()
    device = examples.labels.device
    size = batch_size(examples.spec, device)
    parts = torch.arange(len(examples), device=device).split(size)
    own = range(world.rank, len(parts), world.size)
    rows: list[Tensor] = []  # on the device: it is not waited for in between
    with full_precision(), closing(examples.batches([parts[place] for place in own])) as batches:
        for place, batch in zip(own, batches, strict=True):
            logits = network(batch.inputs).float()
            rows.append(_count_batch(logits, batch.labels))
            observe(logits, batch.labels, parts[place])
            advance(min(len(examples), (place + 1) * size), len(examples))
    table = torch.zeros(len(parts), len(Counts.__dataclass_fields__), dtype=torch.float64)
    table[list(own)] = torch.stack(rows).cpu() if rows else table[:0]
    total = Counts(0, 0, 0, 0, 0, 0.0)
    for row in world.total(table).tolist():  # every entry is one process's alone: the sum is exact
        integers = dict(zip(Counts.__dataclass_fields__, map(int, row[:-1]), strict=False))
        total += Counts(**integers, nll_nats=row[-1])
    if total.examples != len(examples):
        raise PactlError(f"{total.examples:,} of {len(examples):,} examples were counted", "run it again", FAILED)
    return total


def _count_batch(logits: Tensor, labels: Tensor) -> Tensor:
    """The fields of `Counts`, in their order."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    lead = own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    slack = NUMERICAL_MARGIN * logits.abs().amax(1)
    finite = logits.isfinite().all(1)
    correct = (lead > slack, logits.argmax(1) == labels, lead >= -slack, lead > 2 * slack)
    errors = [(~(each & finite)).sum().double() for each in correct]
    nll = nn.functional.cross_entropy(logits.double(), labels, reduction="sum")
    return torch.stack([torch.full_like(nll, len(labels)), *errors, nll])
