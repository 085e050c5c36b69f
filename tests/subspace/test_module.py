"""A network with weights theta0 + P w works like the network with these weights set."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pactl_cli.errors import PactlError
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


class Attending(nn.Module):
    """A network with attention, a dense layer with a norm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.encoder(inputs).mean(1))


DENSE = ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")


def attending(rank: int) -> SubspaceModule:
    torch.manual_seed(0)
    network = Attending()
    projector = build_projector("rdkronqr", parameter_layout(network, rank), 20, 5)
    return SubspaceModule(network, projector, rank=rank, seed=5)


def test_low_rank_changes_every_dense_matrix_and_the_head_and_nothing_else() -> None:
    subspace, plain = attending(2), Attending().state_dict()
    before = {name: p.clone() for name, p in subspace.network.named_parameters()}
    assert plain.keys() == before.keys()
    at_zero = subspace.weights(subspace.w)
    assert all(torch.equal(at_zero[name], before[name]) for name in at_zero)
    weights = subspace.weights(torch.linspace(-1, 1, 20))
    assert set(weights) == {f"encoder.{name}" for name in DENSE} | {"head.weight", "head.bias"}
    for name in DENSE:
        change = weights[f"encoder.{name}"] - before[f"encoder.{name}"]
        assert torch.linalg.matrix_rank(change, rtol=1e-4) == 2
    sizes = (24 + 8, 8 + 8, 16 + 8, 8 + 16)
    assert len(subspace.theta0) == 2 * sum(sizes) + 3 * 9


@torch.no_grad()
def test_low_rank_weights_act_the_same_once_they_are_set() -> None:
    """In evaluation mode torch takes the weights of these layers without calling them."""
    subspace = attending(2).eval()
    inputs = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0))
    at_zero, w = subspace(inputs), torch.linspace(-1, 1, 20)
    for coordinates in (w, 2 * w, w):
        set_weights(subspace.network, subspace.weights(coordinates))
        torch.testing.assert_close(subspace.network(inputs), subspace(inputs, coordinates))
    assert not torch.allclose(subspace.network(inputs), at_zero)
    set_weights(subspace.network, subspace.weights(0 * w))
    torch.testing.assert_close(subspace.network(inputs), at_zero)


def test_low_rank_factors_come_from_the_seed() -> None:
    first, same = attending(2), attending(2)
    assert torch.equal(first.theta0, same.theta0)
    network = Attending()
    projector = build_projector("rdkronqr", parameter_layout(network, 2), 20, 6)
    other = SubspaceModule(network, projector, rank=2, seed=6)
    assert not torch.equal(first.theta0[:16], other.theta0[:16])
    assert (first.theta0[16:64] == 0).all()


@pytest.mark.parametrize(("rank", "complaint"), [(9, "at most 8"), (17, "at most 8")])
def test_a_rank_that_is_too_large(rank: int, complaint: str) -> None:
    with pytest.raises(PactlError, match=f"--lora-rank {rank} is too large for encoder") as caught:
        attending(rank)
    assert complaint in caught.value.hint


def test_low_rank_needs_a_dense_layer() -> None:
    network = build_network("layer13s", classes=3, inputs=InputSpec.image(1, 12, 12), width=2, seed=5)
    with pytest.raises(PactlError, match="no dense layer"):
        parameter_layout(network, 2)
