"""theta0 + P w: one linear map in, a working network out."""

from __future__ import annotations

import torch
from torch import nn

from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.layers import parameter_layout
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.module import SubspaceModule, set_weights


def module(name: str = "layer13s") -> SubspaceModule:
    network = build_network(name, classes=3, inputs=InputSpec.image(1, 12, 12), width=2, seed=5)
    return SubspaceModule(network, build_projector("rdkronqr", parameter_layout(network), 20, 5))


def test_at_the_origin_it_is_the_initial_network() -> None:
    images = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    subspace = module().eval()
    plain = build_network("layer13s", classes=3, inputs=InputSpec.image(1, 12, 12), width=2, seed=5).eval()
    torch.testing.assert_close(subspace(images), plain(images))


def test_only_w_is_trained() -> None:
    subspace = module()
    assert [name for name, parameter in subspace.named_parameters() if parameter.requires_grad] == ["w"]


def test_weights_are_theta0_plus_the_projection_in_the_order_of_named_parameters() -> None:
    subspace = module()
    w = torch.randn(20, generator=torch.Generator().manual_seed(1))
    expected = subspace.theta0 + subspace.projector.matvec(w)
    flat = nn.utils.parameters_to_vector(subspace.weights(w).values())
    torch.testing.assert_close(flat, expected)
    assert list(subspace.weights(w)) == [name for name, _ in subspace.network.named_parameters()]


def test_decoding_sets_the_network_and_leaves_theta0() -> None:
    subspace = module("fc")
    images = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    w = torch.randn(20, generator=torch.Generator().manual_seed(1))
    before = subspace.theta0.clone()
    for coordinates in (w, 2 * w, w):
        set_weights(subspace.network, subspace.weights(coordinates))
        torch.testing.assert_close(subspace.network(images), subspace(images, coordinates))
    assert torch.equal(subspace.theta0, before)


def test_nothing_but_w_is_in_its_state() -> None:
    assert not [key for key in module().state_dict() if key.startswith(("projector", "theta0"))]
