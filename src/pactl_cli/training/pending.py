"""Numbers of training steps that stay on the device until they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Step:
    """The numbers of one step, on the device or on their way to the host, and its number of examples."""

    numbers: Tensor
    examples: int
    arrived: torch.cuda.Event | None


@dataclass
class Pending:
    """The numbers of steps that were not read yet; each step has equally many."""

    _steps: list[_Step] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, numbers: Tensor, examples: int, *, soon: bool = False) -> None:
        """Keep a step's numbers, shape (m,).

        Args:
            soon: whether to copy them from the GPU at once, so that reading them does not wait for later steps.
        """
        arrived = None
        if soon and numbers.is_cuda:
            arrived = torch.cuda.Event()
            numbers = numbers.to("cpu", non_blocking=True)
            arrived.record()
        self._steps.append(_Step(numbers, examples, arrived))

    def read(self, leave: int = 0) -> Iterator[tuple[list[float], int]]:
        """Yield the numbers and examples of each step except the last `leave`; all are read at once."""
        ripe = self._steps[: len(self._steps) - leave]
        del self._steps[: len(ripe)]
        for step in ripe:
            if step.arrived:
                step.arrived.synchronize()
        rows = torch.stack([step.numbers for step in ripe]).tolist() if ripe else []
        yield from zip(rows, (step.examples for step in ripe), strict=True)
