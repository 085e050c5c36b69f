"""Train, bound and decode many times, on distributions for which the true error of a classifier is an exact sum.

There are 64 equally likely inputs, and the probability of every label is known, so the answers of a decoded classifier
to all inputs give its true error. A trial takes a fresh sample through the real stages with random options; a
certificate is false if the true error is above it. The twin of each check does not pay for the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.message import decode
from pactl_cli.certificate.risk_bounds import binomial_bound
from pactl_cli.errors import PactlError
from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Silence
from pactl_cli.problem.reloading import reload_problem
from pactl_cli.runs.directory import MESSAGE, RunDirectory
from pactl_cli.runs.settings import BoundSettings, TrainSettings
from pactl_cli.stages import certifying
from pactl_cli.stages.bound import best_of, bound
from pactl_cli.stages.train import Destination, train

DELTA = 0.05
INPUTS = 64


@dataclass(frozen=True)
class World:
    """A distribution: inputs, uint8 or float32, each with probability 1/64, and P[label | input], shape (64, C)."""

    inputs: NDArray[Any]
    labels: NDArray[np.float64]

    def write_sample(self, path: Path, examples: int, random: np.random.Generator) -> None:
        """Write independent draws as an `.npz` data set."""
        chosen = random.integers(INPUTS, size=examples)
        reached = random.random((examples, 1)) < self.labels[chosen].cumsum(axis=1)
        np.savez(path, x_train=self.inputs[chosen], y_train=reached.argmax(axis=1))

    def true_error(self, answers: NDArray[np.int64]) -> float:
        """Return the true error of a classifier from its answers to the 64 inputs."""
        return float(1 - self.labels[np.arange(INPUTS), answers].mean())


def coins(inputs: NDArray[Any]) -> World:
    """Return a world with two fair labels, independent of the input: every classifier errs on one half."""
    return World(inputs, np.full((INPUTS, 2), 0.5))


def signs() -> NDArray[np.float32]:
    """Return the 64 vectors of six signs."""
    return (2 * (np.arange(INPUTS)[:, None] >> np.arange(6) & 1) - 1).astype(np.float32)


def three_classes() -> World:
    """Return a world with a rule that can be learnt, and 30 % of noise."""
    rule = np.digitize(signs() @ np.array([3, -2, 2, 1, 1, -1], dtype=np.float32), [-2.5, 2.5])
    return World(signs(), np.where(rule[:, None] == np.arange(3), 0.7, 0.15))


def images() -> NDArray[np.uint8]:
    """Return 64 fixed random images of 4 x 4."""
    return np.random.default_rng(4).integers(256, size=(INPUTS, 4, 4), dtype=np.uint8)


@torch.no_grad()
def answers(classifier: nn.Module, inputs: Tensor) -> NDArray[np.int64]:
    """Return the labels that a classifier gives."""
    return classifier(inputs).argmax(1).numpy()


def decoded_answers(run: RunDirectory, world: World) -> NDArray[np.int64]:
    """Return the answers to all inputs of the classifier in `message.bin`, rebuilt as a receiver does it."""
    problem = reload_problem(run, Named(), "cpu", Silence())
    message, _ = decode(run.read_bytes(MESSAGE), problem.task)
    classifier = problem.classifier(problem.build_module(), torch.from_numpy(message.coordinates()))
    shape = (INPUTS, *problem.dataset.spec.tensors[0][1].shape)
    return answers(classifier, torch.from_numpy(world.inputs.reshape(shape)))


def certify(
    world: World, place: Path, random: np.random.Generator, *, examples: int, seeds: range, **options: Any
) -> tuple[Certificate, float]:
    """Return the best certificate of some seeds on one fresh sample, and the true error of its classifier."""
    data = place / "sample.npz"
    world.write_sample(data, examples, random)
    runs = [place / f"run-{seed}" for seed in seeds]
    for seed, run in zip(seeds, runs, strict=True):
        settings = TrainSettings.parse({"dataset": f"npz:{data}", "device": "cpu", "seed": seed, **options})
        train(settings, Destination(run, force=True), Silence())
    tuning = {
        "codebook": random.choice(["grid", "kmeans", "bins"]),
        "quant_epochs": int(random.integers(0, 3)),
        "rate_weight": random.choice([0.0, 1.0]),
    }
    levels = int(random.integers(2, 8))
    if tuning["codebook"] != "grid":  # which has as many as it needs
        tuning["levels"] = levels
    path, certificate = best_of(bound(runs, BoundSettings.parse({"device": "cpu", **tuning}), Silence()))
    return certificate, world.true_error(decoded_answers(RunDirectory.open(path), world))


def certify_if_stable(
    world: World, place: Path, random: np.random.Generator, **options: Any
) -> tuple[Certificate, float] | None:
    """Do the same, or return None if rounding alone changes logits too much for a certificate."""
    try:
        return certify(world, place, random, **options)
    except PactlError as error:
        if "rounding alone" in error.message:
            return None
        raise


def unpaid(certificate: Certificate) -> float:
    """Return the bound as if the classifier had been fixed before the sample."""
    counts = {"errors": certificate.errors, "examples": certificate.bound_examples}
    return binomial_bound(**counts, bits=0, delta=certificate.delta)


def simulate(world: World, place: Path, trials: int, rate: Any, **options: Any) -> None:
    """Check that certificates hold as promised, and fail far too often if the message is not paid for."""
    random = np.random.default_rng(trials)
    tried = [certify_if_stable(world, place, random, **options) for _ in range(trials)]
    outcomes = [outcome for outcome in tried if outcome]
    assert len(outcomes) > 0.9 * trials
    true_errors = [true_error for _, true_error in outcomes]
    print(f"true error {np.mean(true_errors):.3f}, {np.mean([c.error_bound for c, _ in outcomes]):.3f} certified")
    assert rate([true > certificate.error_bound for certificate, true in outcomes], "paid").high <= DELTA
    assert rate([true > unpaid(certificate) for certificate, true in outcomes], "unpaid").low > 2 * DELTA


@pytest.fixture
def _never_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the message that says w = 0. It is the best of such small samples, and costs hardly a bit."""
    tries = certifying._tries
    monkeypatch.setattr(certifying, "_tries", lambda *arguments: [*tries(*arguments)][:-1])


QUICK = {"base_width": 16, "batch_size": 50, "lr": 0.2}


@pytest.mark.slow
@pytest.mark.usefixtures("_no_fsync", "_never_silent")
def test_coin_labels(tmp_path: Path, rate: Any) -> None:
    options = {"examples": 200, "seeds": range(1), "intrinsic_dim": 60, "epochs": 5, **QUICK}
    simulate(coins(signs()), tmp_path, 150, rate, **options)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_fsync", "_never_silent")
def test_a_noisy_rule(tmp_path: Path, rate: Any) -> None:
    options = {"examples": 200, "seeds": range(1), "intrinsic_dim": 60, "epochs": 8, **QUICK}
    simulate(three_classes(), tmp_path, 150, rate, **options)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_fsync", "_never_silent")
def test_the_best_of_sixteen_seeds(tmp_path: Path, rate: Any) -> None:
    options = {"examples": 100, "seeds": range(16), "intrinsic_dim": 20, "epochs": 2, **QUICK}
    simulate(coins(signs()), tmp_path, 140, rate, **options)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_fsync", "_never_silent")
def test_batch_normalisation(tmp_path: Path, rate: Any) -> None:
    """Each seed takes other calibration examples, and so has another S."""
    options = {"examples": 200, "seeds": range(3), "model_name": "layer13s", "base_width": 2, "intrinsic_dim": 60}
    options |= {"epochs": 3, "batch_size": 50, "lr": 0.1}
    simulate(coins(images()), tmp_path, 160, rate, **options)


def test_the_true_error_is_exact() -> None:
    world = three_classes()
    rule = world.labels.argmax(axis=1)
    assert world.true_error(rule) == pytest.approx(0.3)
    assert world.true_error((rule + 1) % 3) == pytest.approx(0.85)
    random = np.random.default_rng(0)
    assert coins(signs()).true_error(random.integers(2, size=INPUTS)) == 0.5


def test_samples_have_the_probabilities_of_their_world(tmp_path: Path) -> None:
    world = three_classes()
    world.write_sample(tmp_path / "sample.npz", 200_000, np.random.default_rng(0))
    with np.load(tmp_path / "sample.npz") as sample:
        places = (sample["x_train"] > 0) @ (1 << np.arange(6))
        joint = np.zeros((INPUTS, 3))
        np.add.at(joint, (places, sample["y_train"]), 1)
    expected = world.labels / INPUTS
    assert np.abs(joint / joint.sum() - expected).max() < 5 * np.sqrt(expected.max() / 200_000)
