"""Shares of a batch, and counts that do not depend on the number of processes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pactl_cli.data.dataset import Examples
from pactl_cli.errors import FAILED, PactlError
from pactl_cli.processes.world import ALONE, World
from pactl_cli.training.counting import BATCH, Counts, count


@given(st.integers(1, 200), st.integers(1, 9))
def test_shares_cover_a_batch_once_and_their_weights_are_one(examples: int, processes: int) -> None:
    batch = torch.arange(examples)
    shares = [World(rank, processes).share(batch) for rank in range(processes)]
    assert torch.equal(torch.cat([share.part for share in shares if share.weight]), batch)
    assert sum(share.weight for share in shares) == pytest.approx(1)
    assert all(len(share.part) >= min(2, examples) for share in shares)
    assert {share.whole for share in shares} == {examples}


def test_one_process_has_all_and_talks_to_nobody() -> None:
    share = ALONE.share(torch.arange(7))
    assert (len(share.part), share.weight) == (7, 1.0)
    values = torch.ones(3)
    assert ALONE.total(values) is values
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert ALONE.from_first(lambda: "made") == "made"
    ALONE.require_same("nothing", b"")


class Together:
    """Processes simulated by threads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.slots: list[Any] = [None] * size
        self.barrier = Barrier(size, timeout=20)

    def all(self, rank: int, value: Any) -> list[Any]:
        self.slots[rank] = value
        self.barrier.wait()
        found = list(self.slots)
        self.barrier.wait()
        return found

    def run(self, work: Callable[[World], Any]) -> list[Any]:
        with ThreadPoolExecutor(self.size) as threads:
            return list(threads.map(work, [ThreadWorld(rank, self) for rank in range(self.size)]))


class ThreadWorld(World):
    def __init__(self, rank: int, together: Together) -> None:
        super().__init__(rank, together.size, rank, together.size, True)
        object.__setattr__(self, "together", together)

    def total(self, values: Tensor) -> Tensor:
        return torch.stack(self.together.all(self.rank, values)).sum(0)  # type: ignore[attr-defined]

    def from_first(self, make: Callable[[], Any]) -> Any:
        return self.together.all(self.rank, make() if self.leads else None)[0]  # type: ignore[attr-defined]


class Echo(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def some(examples: int) -> Examples:
    generator = torch.Generator().manual_seed(examples)
    logits = torch.randn(examples, 3, 1, 1, generator=generator)
    return Examples(logits, torch.randint(3, (examples,), generator=generator))


@pytest.mark.parametrize("examples", [1, 101, BATCH, 2 * BATCH + 1, 5 * BATCH + 3])
@pytest.mark.parametrize("processes", [2, 3, 7])
def test_counts_are_the_same_to_the_last_bit_whatever_the_number(examples: int, processes: int) -> None:
    alone = count(Echo(), some(examples))
    assert alone.examples == examples
    found = Together(processes).run(lambda world: count(Echo(), some(examples), world=world))
    assert found == [alone] * processes


def test_an_example_that_was_lost_is_noticed() -> None:
    class Deaf(ThreadWorld):
        def total(self, values: Tensor) -> Tensor:
            return values

    with pytest.raises(PactlError, match="500 of 1,000 examples were counted") as caught:
        count(Echo(), some(1000), world=Deaf(1, Together(2)))
    assert caught.value.exit_code == FAILED
    assert isinstance(count(Echo(), some(10)), Counts)


def test_processes_that_disagree_say_so_all() -> None:
    def check(world: World) -> str:
        world.require_same("the weather", b"fine")
        with pytest.raises(PactlError, match="the processes disagree on the weather"):
            world.require_same("the weather", b"rain" if world.rank == 2 else b"sun")
        return "said"

    assert Together(3).run(check) == ["said"] * 3
