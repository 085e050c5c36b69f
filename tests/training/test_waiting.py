"""Training and counting do not read from the device at every step or batch, which would stall a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pactl_cli import catalogue
from pactl_cli.catalogue import NO_VIEW
from pactl_cli.data.dataset import Examples
from pactl_cli.models.layers import parameter_layout
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.subspace.quantise import Quantiser, bins, grid
from pactl_cli.training import loop
from pactl_cli.training.counting import count
from pactl_cli.training.loop import Moment, Objective, State, Trainer
from pactl_cli.training.objectives import NetworkObjective, RateObjective
from pactl_cli.training.recipes import Plan

_READS = {"item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__", "equal"}
_SIZED_BY_NUMBERS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::bincount", "aten::masked_select"}
"""Operations that wait for numbers on a GPU."""


class _Dispatched(TorchDispatchMode):
    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in _SIZED_BY_NUMBERS:
            self._seen.append(func._schema.name)
        return func(*args, **(kwargs or {}))


class _Called(TorchFunctionMode):
    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in _READS:
            self._seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


@contextmanager
def host_reads() -> Iterator[list[str]]:
    """Yield the growing list of all calls and operations that read numbers from a tensor."""
    seen: list[str] = []
    with _Called(seen), _Dispatched(seen):
        yield seen


class Quiet:
    def advance(self, now: Moment) -> None: ...

    def epoch(self, record: dict[str, object]) -> None: ...

    def save(self, state: State) -> None: ...


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(4 * 36, 3)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.dropout(self.norm(self.convolution(images.float())).relu().flatten(1)))
        return out


class Impatient(NetworkObjective):
    """An objective that reads the loss at every step."""

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        loss = super().loss(logits, labels, smoothing)
        assert loss.item() > 0
        return loss


def examples(size: int) -> Examples:
    images = torch.randint(256, (size, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return Examples(images, torch.arange(size) % 3)


def quantised(quantiser: Quantiser) -> RateObjective:
    network = Network()
    module = SubspaceModule(network, build_projector("rdkronqr", parameter_layout(network), 20, 1))
    return RateObjective(module, quantiser, rate_weight=1.0, examples=100)


def reads(objective: Objective, steps: int, recipe: str = "adam_cos", augment: str = NO_VIEW) -> list[str]:
    """Return the reads of one epoch with a number of steps."""
    trainer = Trainer(
        objective, examples(8 * steps), Plan(recipe, 1, 8, 0.01, ema=0.9), seed=1, stage="train", augment=augment
    )
    with host_reads() as seen:
        trainer.run(Quiet())
    assert trainer.steps == steps
    return seen


@pytest.fixture(autouse=True)
def _read_only_when_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_READ_EVERY_SECONDS", 1e9)


@pytest.mark.parametrize("augment", [NO_VIEW, "crop-mirror"])
@pytest.mark.parametrize("recipe", catalogue.RECIPES)
def test_an_epoch_reads_as_often_whatever_its_number_of_steps(recipe: str, augment: str) -> None:
    few, many = (reads(NetworkObjective(Network()), steps, recipe, augment) for steps in (3, 12))
    assert few == many
    assert few.count("tolist") == 2, "after the first step and after the last"


@pytest.mark.parametrize("make", [grid, lambda: bins(5)])
def test_neither_does_one_that_pays_for_its_bits(make: Any) -> None:
    few, many = (reads(quantised(make()), steps) for steps in (3, 12))
    assert few == many


def test_a_read_at_every_step_is_seen() -> None:
    few, many = (reads(Impatient(Network()), steps) for steps in (3, 12))
    assert [many.count(name) - few.count(name) for name in ("item", "aten::_local_scalar_dense")] == [9, 9]


def test_counting_reads_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for size in (500, 2500):
        with host_reads() as seen:
            count(Network(), examples(size))
        found.append(seen)
    assert found[0] == found[1]
    assert "cpu" in found[0]
