"""Fixtures of the simulations: one thread, no waiting for the disk, and rates with confidence limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Use one thread: on tiny networks more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip fsync: a simulated run need not survive a power failure."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@dataclass(frozen=True)
class Rate:
    """The count of an event in independent trials, with limits for its probability.

    `low` and `high` are Clopper and Pearson's limits, each of which fails once in a thousand times.
    """

    events: int
    trials: int

    @property
    def low(self) -> float:
        """The lower limit of the probability."""
        return float(binomtest(self.events, self.trials, alternative="greater").proportion_ci(0.999, "exact").low)

    @property
    def high(self) -> float:
        """The upper limit of the probability."""
        return float(binomtest(self.events, self.trials, alternative="less").proportion_ci(0.999, "exact").high)

    def __str__(self) -> str:
        return (
            f"{self.events} of {self.trials:,}: {self.events / self.trials:.2%}, in {self.low:.2%} .. {self.high:.2%}"
        )


@pytest.fixture
def rate(request: pytest.FixtureRequest) -> Any:
    """Return a function from one truth value for each trial to a `Rate`, which it prints (for `-rP` or `-s`)."""

    def of(events: Any, what: str = "") -> Rate:
        found = Rate(int(np.count_nonzero(events)), len(events))
        print(f"{request.node.name}: {what}: {found}")
        return found

    return of
