"""Exact counts of errors: every example once, in evaluation mode and in full single precision."""

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
"""The most input values of a batch, so that batches of large examples are smaller. On a CPU they are small to keep
activations in the cache: photographs of 96 pixels take a quarter of the time in batches of 37, compared with 500."""


@dataclass(frozen=True)
class Counts:
    """The errors of one classifier on some examples, counted four ways, and its log-loss.

    Attributes:
        examples: the number of examples.
        cautious: the errors of a certificate: examples whose class does not lead by the numerical margin.
        plain: errors by the largest logit, with ties broken by the order of the classes.
        lenient: examples whose class trails by more than the margin: at most what any machine counts as plain errors.
        doubtful: errors at twice the margin: at least what any machine counts as cautious errors.
        nll_nats: the total negative log-likelihood.
    """

    examples: int
    cautious: int
    plain: int
    lenient: int
    doubtful: int
    nll_nats: float

    @property
    def plain_error(self) -> float:
        """The plain errors as a fraction of the examples."""
        return self.plain / self.examples

    @property
    def nll_bits(self) -> float:
        """The total negative log-likelihood in bits."""
        return self.nll_nats / log(2)

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))


def batch_size(inputs: InputSpec, device: torch.device) -> int:
    """Return the number of examples in a batch for counting on a device."""
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
    """Count the errors of a network on clean examples, in the same batches for any number of processes.

    Args:
        network: a map from raw inputs to logits; it is put into evaluation mode.
        examples: examples whose batches are on the network's device.
        advance: a function that is called with (examples counted, examples in total).
        world: the processes that share the batches; all have the same network, and get the same counts.
        observe: a function that is called with (logits, labels, places of the examples) of every batch.

    Raises:
        PactlError: with exit code 1 if not every example was counted once.
    """
    network.eval()
    device = examples.labels.device
    size = batch_size(examples.spec, device)
    parts = torch.arange(len(examples), device=device).split(size)
    own = range(world.rank, len(parts), world.size)
    rows: list[Tensor] = []  # on the device, so that no batch waits for it
    with full_precision(), closing(examples.batches([parts[place] for place in own])) as batches:
        for place, batch in zip(own, batches, strict=True):
            logits = network(batch.inputs).float()
            rows.append(_count_batch(logits, batch.labels))
            observe(logits, batch.labels, parts[place])
            advance(min(len(examples), (place + 1) * size), len(examples))
    table = torch.zeros(len(parts), len(Counts.__dataclass_fields__), dtype=torch.float64)
    table[list(own)] = torch.stack(rows).cpu() if rows else table[:0]
    total = Counts(0, 0, 0, 0, 0, 0.0)
    for row in world.total(table).tolist():  # each entry comes from one process, so the sum is exact
        integers = dict(zip(Counts.__dataclass_fields__, map(int, row[:-1]), strict=False))
        total += Counts(**integers, nll_nats=row[-1])
    if total.examples != len(examples):
        raise PactlError(f"{total.examples:,} of {len(examples):,} examples were counted", "run it again", FAILED)
    return total


def _count_batch(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the fields of `Counts` for a batch, in order."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    lead = own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    slack = NUMERICAL_MARGIN * logits.abs().amax(1)
    finite = logits.isfinite().all(1)
    correct = (lead > slack, logits.argmax(1) == labels, lead >= -slack, lead > 2 * slack)
    errors = [(~(each & finite)).sum().double() for each in correct]
    nll = nn.functional.cross_entropy(logits.double(), labels, reduction="sum")
    return torch.stack([torch.full_like(nll, len(labels)), *errors, nll])
