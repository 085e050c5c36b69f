"""Certificates hold for the best of thousands of seeds or coordinates that are tried after looking.

Nothing is trained. Labels are fair coins, so every classifier errs on exactly one half, and a certificate below that is
false. A trial fails if *any* message tried has a false certificate: the promise is for all at once. The bits are those
of the real encoder; each test has a twin that does not charge them.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pactl_cli.certificate.codebook import Grid
from pactl_cli.certificate.configuration import Configuration, complete
from pactl_cli.certificate.message import Encoded, Message, decode, encode
from pactl_cli.certificate.risk_bounds import binomial_bound
from pactl_cli.certificate.task import Task
from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.layers import parameter_layout
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.module import SubspaceModule, set_weights

DELTA, TRUE_ERROR, EXAMPLES = 0.05, 0.5, 100
INPUTS = (5 * np.random.default_rng(64).standard_normal((64, 64))).astype(np.float32)
"""The 64 equally likely inputs, so far apart that networks differ on them."""
TASK = Task("npz:coins.npz", EXAMPLES, 1)


def initial_network(configuration: Configuration) -> nn.Module:
    """Return the network with the weights theta0."""
    inputs = InputSpec.of(torch.from_numpy(INPUTS))
    width, seed = configuration.base_width, configuration.seed
    return build_network(configuration.model_name, classes=2, inputs=inputs, width=width, seed=seed)


@lru_cache(maxsize=1)
def subspace(configuration: Configuration) -> SubspaceModule:
    """Return the network with the weights theta0 + P w."""
    network = initial_network(configuration)
    layout, dim, seed = parameter_layout(network), configuration.intrinsic_dim, configuration.seed
    return SubspaceModule(network, build_projector(configuration.intrinsic_mode, layout, dim, seed))


@torch.no_grad()
def answers(message: Message) -> NDArray[np.bool_]:
    """Return the answers of a message's classifier to all inputs."""
    coordinates = message.coordinates()
    if coordinates.any():
        module = subspace(message.configuration)
        network = module.network
        set_weights(network, module.weights(torch.from_numpy(coordinates)))
    else:
        network = initial_network(message.configuration)
    return (network(torch.from_numpy(INPUTS)).argmax(1) == 1).numpy()


@dataclass(frozen=True)
class Searched:
    """The messages tried, with their bits and the answers of their classifiers: shape (messages, 64)."""

    messages: list[Message]
    encoded: list[Encoded]
    answers: NDArray[np.bool_]

    @classmethod
    def of(cls, messages: list[Message]) -> Searched:
        """Encode and evaluate each message."""
        encoded = [encode(message, TASK) for message in messages]
        return cls(messages, encoded, np.stack([answers(message) for message in messages]))

    def bits(self, *parts: str) -> NDArray[np.int64]:
        """Return the bits of some parts of each message."""
        return np.sum([[getattr(encoded, f"{part}_bits") for encoded in self.encoded] for part in parts], axis=0)


def most_errors_below(bits: float, true_error: float, examples: int) -> int:
    """Return the largest count with a false certificate; -1 if there is none."""
    counts = range(examples + 1)
    return (
        bisect_left(
            counts, true_error, key=lambda k: binomial_bound(errors=k, examples=examples, bits=bits, delta=DELTA)
        )
        - 1
    )


def samples(trials: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw samples of coin labels as counts: ones minus zeros of each input (trials, 64), and all ones (trials,)."""
    random = np.random.default_rng(trials)
    inputs = random.integers(len(INPUTS), size=(trials, EXAMPLES))
    labels = random.integers(2, size=(trials, EXAMPLES))
    surplus = np.zeros((trials, len(INPUTS)), dtype=np.float32)
    np.add.at(surplus, (np.arange(trials)[:, None], inputs), (2 * labels - 1).astype(np.float32))
    return surplus, labels.sum(1).astype(np.float32)


def any_false(searched: Searched, bits: NDArray[np.int64], trials: int) -> NDArray[np.bool_]:
    """Return, for each trial, whether the certificate of any message tried is false."""
    surplus, ones = samples(trials)
    false = np.zeros(trials, dtype=bool)
    for cost in np.unique(bits):
        says_one = np.unique(searched.answers[bits == cost], axis=0).astype(np.float32)
        errors = ones - (says_one @ surplus.T).max(axis=0)
        false |= errors <= most_errors_below(float(cost), TRUE_ERROR, EXAMPLES)
    return false


def seeds_tried(count: int) -> Searched:
    """Try the initial networks of many seeds: all coordinates are zero."""

    def message(seed: int) -> Message:
        configuration = complete({"seed": seed}, TASK)
        return Message(configuration, Grid(1.0, 0), np.zeros(configuration.intrinsic_dim, dtype=np.int64))

    return Searched.of([message(seed) for seed in range(count)])


def coordinates_tried(count: int) -> Searched:
    """Try the default configuration, which costs one bit, with random symbols on random grids."""
    random = np.random.default_rng(5)
    configuration = complete({}, TASK)

    def message() -> Message:
        codebook = Grid(float(np.float16(random.uniform(4, 32))), int(random.integers(1, 3)))
        return Message(configuration, codebook, random.integers(codebook.size, size=configuration.intrinsic_dim))

    return Searched.of([message() for _ in range(count)])


def check(searched: Searched, free: tuple[str, ...], trials: int, rate: Any) -> NDArray[np.int64]:
    """Check that certificates hold, and that they fail too often if some parts are free; return the other bits."""
    paid = searched.bits("configuration", "codebook", "symbols")
    assert rate(any_false(searched, paid, trials), "paid").high <= DELTA
    rest = paid - searched.bits(*free)
    assert rate(any_false(searched, rest, trials), f"{' and '.join(free)} free").low > 4 * DELTA
    return rest


def test_seeds_in_short(rate: Any) -> None:
    check(seeds_tried(128), ("configuration",), 300, rate)


def test_every_message_tried_can_be_decoded() -> None:
    for searched in (seeds_tried(4), coordinates_tried(4)):
        for message, encoded, said in zip(searched.messages, searched.encoded, searched.answers, strict=True):
            decoded, again = decode(encoded.data, TASK)
            assert decoded.configuration == message.configuration
            assert again == encoded
            assert np.array_equal(answers(decoded), said)


@pytest.mark.slow
def test_seeds(rate: Any) -> None:
    searched = seeds_tried(16_384)
    rest = check(searched, ("configuration",), 2000, rate)
    assert rate(any_false(searched, rest + 1, 2000), "one bit for the choice").low > 4 * DELTA
    naming = len("0") + len("010") + len("1")  # that there is a difference, that it is in the second field, and the end
    assert rate(any_false(searched, rest + naming, 2000), "only the seed's own code free").low > DELTA


@pytest.mark.slow
def test_coordinates(rate: Any) -> None:
    check(coordinates_tried(6000), ("codebook", "symbols"), 2000, rate)
