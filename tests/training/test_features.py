"""Features replace inputs when the head alone is trained: logits are the same to the bit, or there are no features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pactl_cli.certificate.format import FIXED_STATISTICS
from pactl_cli.data.dataset import Examples
from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.layers import freeze_all_but_head, parameter_layout
from pactl_cli.models.preparation import Prepared
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.training.counting import count
from pactl_cli.training.features import TrainingInputs, features_of, head_alone
from pactl_cli.training.objectives import NetworkObjective

IMAGES = torch.randint(0, 256, (700, 1, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
EXAMPLES = Examples(IMAGES, torch.arange(700) % 3)


def module(network: nn.Module) -> SubspaceModule:
    freeze_all_but_head(network)
    projector = build_projector("head", parameter_layout(network), 5, 137)
    return SubspaceModule(Prepared(network, FIXED_STATISTICS, code=""), projector)


def own(name: str) -> nn.Module:
    return build_network(name, classes=3, inputs=InputSpec.image(1, 12, 12), width=4, seed=5)


def training_inputs(subspace: SubspaceModule, most_bytes: int = 1 << 30) -> TrainingInputs:
    head = head_alone(subspace)
    assert head is not None
    assert isinstance(subspace.network, Prepared)
    return features_of(subspace.network, head, EXAMPLES, lambda done, total: None, most_bytes)


@pytest.mark.parametrize("name", ["fc", "layer13s", "resnet20", "mlp"])
def test_the_head_on_features_is_the_network(name: str) -> None:
    subspace = module(own(name))
    found = training_inputs(subspace)
    assert (found.head is None, found.is_still) == (False, True)
    with torch.no_grad():
        subspace.w.copy_(torch.linspace(-1, 1, 5))
    plain = subspace.eval()(IMAGES[:500])
    objective = NetworkObjective(subspace)
    with found.under(objective) as examples:
        assert not objective.train().module.training
        assert isinstance(examples, Examples)
        assert torch.equal(objective(examples.inputs[:500]), plain)  # type: ignore[index]
        counted = count(subspace, examples)
    assert counted == count(subspace, EXAMPLES)
    torch.testing.assert_close(subspace(IMAGES[:500]), plain)


def test_without_room_there_are_no_features() -> None:
    subspace = module(own("layer13s"))
    most = 700 * 16 * 4
    assert training_inputs(subspace, most).head is not None
    less = training_inputs(subspace, most - 1)
    assert (less.head, less.is_still, less.examples) == (None, True, EXAMPLES)


class Head(nn.Module):
    """A network that uses its head in an unusual way."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.head = nn.Linear(144, 3)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        if self.kind == "twice":
            return self.head(flat + self.head(flat).mean(1, keepdim=True))
        if self.kind == "by name":
            return self.head(input=flat)
        if self.kind == "unused":
            return nn.functional.linear(flat, self.head.weight, self.head.bias)
        out = self.head(flat)
        return {"in place": out.relu_, "after": out.relu}[self.kind]()


@pytest.mark.parametrize("kind", ["twice", "by name", "unused", "in place", "after"])
def test_a_head_whose_results_are_not_the_logits_has_no_features(kind: str) -> None:
    found = training_inputs(module(Head(kind)))
    assert (found.head, found.is_still, found.examples) == (None, False, EXAMPLES)


def test_a_head_that_shares_its_weights_is_not_alone() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 144), nn.ReLU(), nn.Linear(144, 144))
    network[3].weight = network[1].weight
    assert head_alone(module(network)) is None


def test_other_weights_are_trained_too() -> None:
    network = own("fc")
    subspace = SubspaceModule(
        Prepared(network, FIXED_STATISTICS, code=""), build_projector("rdkronqr", parameter_layout(network), 5, 137)
    )
    assert head_alone(subspace) is None
