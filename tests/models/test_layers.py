"""Normalisation layers and the head are found by type; a head can be replaced."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pactl_cli import catalogue
from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.layers import convolution_like, find_head, head_names, parameter_layout, trained_parameters

IMAGES = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))


class HeadFirst(nn.Module):
    """A network whose head is a convolution after a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(1, 4)
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Conv2d(4, 3, 1, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        gate = self.gate(images.mean((-2, -1)))[..., None, None]
        return self.head(self.norm(gate * images)).mean((-2, -1))


@pytest.mark.parametrize("name", [entry.name for entry in catalogue.OWN_MODELS])
def test_the_head_is_all_that_depends_on_the_classes(name: str) -> None:
    tokens = InputSpec.of(torch.zeros(1, 8, dtype=torch.int64), vocabulary=9)
    inputs = tokens if name == "bag" else InputSpec.image(1, 16, 16)
    one, other = (build_network(name, classes=c, inputs=inputs, width=4, seed=5).state_dict() for c in (3, 7))
    head = head_names(build_network(name, classes=3, inputs=inputs, width=4, seed=5))
    assert [len(other[key]) for key in head] == [7] * len(head)
    assert {key for key, value in one.items() if value.shape != other[key].shape} == set(head)


def test_a_head_is_the_last_layer_whatever_its_type() -> None:
    network = HeadFirst()
    assert find_head(network)[0][0] == "head"
    layout = parameter_layout(network)
    assert layout.normalisation.tolist() == list(range(8, 16))
    assert layout.head.tolist() == list(range(16, 28))
    assert head_names(network) == ("head.weight",)


def test_a_network_may_be_nothing_but_its_head() -> None:
    assert head_names(nn.Linear(4, 3)) == ("weight", "bias")


def test_a_network_without_a_head() -> None:
    assert head_names(nn.Sequential(nn.Flatten(), nn.LayerNorm(4))) == ()


def test_a_new_convolution_is_like_the_old_one() -> None:
    old = nn.Conv2d(6, 4, (3, 5), (2, 1), (1, 2), (1, 2), groups=2, bias=False, padding_mode="reflect")
    assert str(convolution_like(old, inputs=8)) == str(old).replace("6, 4", "8, 4")
    assert str(convolution_like(old, outputs=10)) == str(old).replace("6, 4", "6, 10")

    class Mine(nn.Conv2d):
        def __init__(self) -> None:
            super().__init__(3, 4, 1)

    assert type(convolution_like(Mine(), outputs=2)) is nn.Conv2d


def test_parameters_that_ask_for_no_gradient_are_not_trained() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    network[3].weight = nn.Parameter(network[2].get_parameter("weight")[:2].detach(), requires_grad=False)
    layout = parameter_layout(network)
    assert list(trained_parameters(network)) == ["1.weight", "1.bias", "2.weight", "2.bias", "3.bias"]
    assert layout.normalisation.tolist() == list(range(8))
    assert (layout.size, layout.head.tolist()) == (30, [28, 29])


def test_a_shared_parameter_counts_once() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    network[1].weight = network[0].weight
    assert list(trained_parameters(network)) == ["0.weight", "0.bias"]
    assert parameter_layout(network).size == 20
