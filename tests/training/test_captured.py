"""A captured step is the step: same coordinates, buffers and records to the last bit. It needs an NVIDIA GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pactl_cli.data.dataset import Examples
from pactl_cli.errors import PactlError
from pactl_cli.models.layers import parameter_layout
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.subspace.quantise import grid
from pactl_cli.training.loop import Moment, State, Trainer
from pactl_cli.training.objectives import NetworkObjective, RateObjective
from pactl_cli.training.recipes import Plan

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: nothing is captured")


class Watcher:
    """Keeps the records; a price changes after every epoch."""

    def __init__(self, objective: NetworkObjective) -> None:
        self.objective, self.records = objective, list[dict[str, Any]]()

    def advance(self, now: Moment) -> None: ...

    def epoch(self, record: dict[str, Any]) -> None:
        self.records.append({name: value for name, value in record.items() if name != "seconds"})
        if isinstance(self.objective, RateObjective):
            self.objective.rate_weight *= 2

    def save(self, state: State) -> None: ...


class Asking(nn.Module):
    """A layer that reads a number of the device, which no graph can."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs if inputs.sum().item() else inputs * 2


def examples(count: int) -> Examples:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 2, 8, 8, generator=generator)
    return Examples(images, torch.randint(3, (count,), generator=generator)).to(torch.device("cuda"))


def network(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    body = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(144, 3)
    return nn.Sequential(*layers, *body)


def trained(kind: str, compile: bool, autocast: torch.dtype | None) -> tuple[dict[str, torch.Tensor], Any]:
    inner = network()
    if kind == "plain":
        objective = NetworkObjective(inner)
    else:
        module = SubspaceModule(inner, build_projector("rdkronqr", parameter_layout(inner), 30, 137))
        if kind == "subspace":
            objective = NetworkObjective(module)
        else:
            objective = RateObjective(module, grid(), rate_weight=0.5, examples=53, start=0.5)
    objective.to("cuda")
    watcher, plan = Watcher(objective), Plan("adam_cos", 4, 10, 0.05, ema=0.9)
    Trainer(objective, examples(53), plan, seed=1, stage="x", autocast=autocast, compile=compile).run(watcher)
    return {name: tensor.detach().cpu() for name, tensor in objective.state_dict().items()}, watcher.records


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("kind", ["plain", "subspace", "quantised"])
def test_a_captured_training_is_the_same(kind: str, autocast: torch.dtype | None) -> None:
    torch.backends.cudnn.deterministic, before = True, torch.backends.cudnn.deterministic
    try:
        (one, records), (other, captured) = (trained(kind, compile, autocast) for compile in (False, True))
    finally:
        torch.backends.cudnn.deterministic = before
    assert captured == records
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_what_cannot_be_captured_is_said_and_the_gpu_works_on() -> None:
    objective = NetworkObjective(network(Asking())).to("cuda")
    trainer = Trainer(objective, examples(40), Plan("adam_cos", 1, 10, 0.05), seed=1, stage="x", compile=True)
    with pytest.raises(PactlError, match="a step of this network cannot be captured"):
        trainer.run(Watcher(objective))
    trained("plain", compile=True, autocast=None)
