"""Numbers that a device has still to compute, kept until they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Step:
    """What one step gives: its numbers, on the device or on their way to the host, and how many examples it had."""

    numbers: Tensor
    examples: int
    arrived: torch.cuda.Event | None


@dataclass
class Pending:
    """Numbers of steps that were not read yet, as many of each."""

    _steps: list[_Step] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, numbers: Tensor, examples: int, *, soon: bool = False) -> None:
        """Keep a step's numbers, shape (m,).

        Args:
            soon: whether they are to leave the GPU at once, so that reading them waits for nothing that comes later.
        """
        arrived = None
        if soon and numbers.is_cuda:
            arrived = torch.cuda.Event()
            numbers = numbers.to("cpu", non_blocking=True)
            arrived.record()
        self._steps.append(_Step(numbers, examples, arrived))

    def read(self, leave: int = 0) -> Iterator[tuple[list[float], int]]:
        """Yield numbers and examples of each step but the last ones, all read at once."""
        ripe = self._steps[: len(self._steps) - leave]
        del self._steps[: len(ripe)]
        for step in ripe:
            if step.arrived:
                step.arrived.synchronize()
        rows = torch.stack([step.numbers for step in ripe]).tolist() if ripe else []
        yield from zip(rows, (step.examples for step in ripe), strict=True)
