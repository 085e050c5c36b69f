"""The network for texts: its mean over tokens does not depend on padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pactl_cli.errors import PactlError
from pactl_cli.models import build_network, sketch_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.networks import Bag
from pactl_cli.models.preparation import Prepared

TOKENS = torch.tensor([[3, 1, 2, 0, 0, 0], [256, 5, 5, 5, 1, 9], [0, 0, 0, 0, 0, 0]])
SPEC = InputSpec.of(TOKENS, vocabulary=257)

# Logits of all classes for the first two texts, seed 137; any change here changes every certificate.
GOLDEN = [(0.13175589, 0.0335317, -0.3262695), (0.31794453, -0.0042601, -0.16457438)]


def build(spec: InputSpec = SPEC, width: int = 64) -> Prepared:
    """Return the network with the preparation of its inputs."""
    network = build_network("bag", classes=3, inputs=spec, width=width, seed=137)
    return Prepared(network, ((0.5,), (0.5,)), code="").eval()


def bag_of(network: Prepared) -> Bag:
    assert isinstance(network.network, Bag)
    return network.network


def by_hand(network: Prepared, tokens: Tensor) -> Tensor:
    bag = bag_of(network)
    vectors = torch.stack([bag.vectors.weight[row[row > 0]].sum(0) / max(1, int((row > 0).sum())) for row in tokens])
    return bag.head(vectors)


def test_it_is_the_mean_of_the_vectors_of_tokens() -> None:
    network = build()
    torch.testing.assert_close(network(TOKENS), by_hand(network, TOKENS))
    assert sum(parameter.numel() for parameter in network.parameters()) == 257 * 64 + 64 * 3 + 3


def test_golden_output() -> None:
    for logits, expected in zip(build()(TOKENS)[:2].tolist(), GOLDEN, strict=True):
        assert logits == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_text_without_tokens_has_logits() -> None:
    network = build()
    assert torch.equal(network(TOKENS)[2], bag_of(network).head.bias)


def test_padding_and_other_texts_change_nothing() -> None:
    network = build()
    longer = torch.cat([TOKENS, torch.zeros(3, 4, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(network(longer), network(TOKENS))
    torch.testing.assert_close(torch.cat([network(text[None]) for text in TOKENS]), network(TOKENS))


def test_the_largest_vocabulary_is_told_apart_in_single_precision() -> None:
    spec = InputSpec.of(TOKENS, vocabulary=1 << 24)
    network = sketch_network("bag", classes=3, inputs=spec, width=1)
    assert network.get_parameter("vectors.weight").shape == (1 << 24, 1)
    last = torch.tensor([(1 << 24) - 1, (1 << 24) - 2])
    assert last.float().long().tolist() == last.tolist()


@pytest.mark.parametrize("spec", [InputSpec.image(1, 8, 8), InputSpec.of(torch.zeros(1, 8)), InputSpec.of(TOKENS)])
def test_inputs_without_a_vocabulary_are_refused(spec: InputSpec) -> None:
    with pytest.raises(PactlError, match=r"bag cannot take .* it takes tokens"):
        build(spec)
