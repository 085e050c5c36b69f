"""Calibration examples are never in S: the receiver has them for free, so they must not be counted.

The classifier of a message is a function of its calibration examples, so they may not be among the examples that judge
it. The seed chooses them, and so chooses which examples are left, and the message pays for the seed. Both are
simulated, with twins that leave out the exclusion or the payment.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pactl_cli.certificate.codebook import Grid
from pactl_cli.certificate.configuration import complete
from pactl_cli.certificate.message import Message, encode
from pactl_cli.certificate.risk_bounds import binomial_bound
from pactl_cli.certificate.task import Task
from pactl_cli.data.dataset import Examples
from pactl_cli.data.splits import Partition, partition, permuted_indices
from pactl_cli.errors import PactlError
from pactl_cli.models.normalisation import calibrate
from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Silence
from pactl_cli.problem.reloading import reload_problem
from pactl_cli.runs.directory import INDICES, RunDirectory
from pactl_cli.runs.settings import BoundSettings, TrainSettings
from pactl_cli.stages.bound import bound
from pactl_cli.stages.train import Destination, train
from pactl_cli.stages.verify import verify
from pactl_cli.training.counting import count

DELTA = 0.05


honest = Partition.with_calibration


def leaky(parts: Partition, count: int, seed: int) -> Partition:
    """Return what a twin of `with_calibration` gives that leaves calibration examples in S."""
    parts = honest(parts, count, seed)
    return replace(parts, bound=np.sort(np.concatenate([parts.bound, parts.calibration])))


def overlap(parts: Partition) -> NDArray[np.int64]:
    """Return the indices that are in more than one part, or twice in one."""
    indices, times = np.unique(np.concatenate(list(parts.arrays().values())), return_counts=True)
    return indices[times > 1]


# --- The indices ------------------------------------------------------------------------------------------------------


def test_calibration_examples_are_never_in_the_sample() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        examples = int(random.integers(40, 400))
        share = float(random.choice([1.0, 0.5, -0.3, random.uniform(0.3, 1)]))
        order = random.permutation(examples) if random.random() < 0.5 else None
        calibration, seed = int(random.integers(0, 3)), int(random.integers(1000))
        undivided = partition(order, examples, share=share)
        parts = honest(undivided, calibration, seed)
        assert not len(overlap(parts))
        assert len(parts.calibration) == calibration
        assert len(parts.bound) + len(parts.calibration) == abs(round(abs(share) * examples) - examples * (share < 0))
        leak = leaky(undivided, calibration, seed)
        assert np.array_equal(overlap(leak), np.sort(parts.calibration)), "the check must see a leak"


def test_the_seed_alone_says_which_they_are() -> None:
    whole = partition(None, 200, share=1.0)
    first, again, other = (whole.with_calibration(20, seed) for seed in (3, 3, 4))
    assert first.sha256() == again.sha256() != other.sha256()
    moved = permuted_indices(200)
    assert np.array_equal(
        partition(moved, 200, share=1.0).with_calibration(20, 3).calibration, moved[first.calibration]
    )


# --- A network that recognises its calibration examples ---------------------------------------------------------------

POOL, FEATURES, EXAMPLES, CALIBRATION = 2048, 300, 200, 20
RADIUS = 1.05


class Recognises(nn.Module):
    """A network that answers 1 close to the batch statistics, and so on calibration examples, which shape the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(FEATURES, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        distance = self.norm(images.flatten(1)).square().mean(1)
        return torch.stack([torch.zeros_like(distance), RADIUS - distance], dim=1)


def certify_recognition(pool: Examples, split: Any, random: np.random.Generator) -> tuple[float, float]:
    """Return the bound on a fresh sample from the pool, without bits, and the true error, which is that on the pool."""
    sample = pool[torch.from_numpy(random.integers(POOL, size=EXAMPLES))]
    parts = split(partition(None, EXAMPLES, share=1.0), CALIBRATION, int(random.integers(10**6)))
    network = Recognises()
    calibrate(network, sample[torch.from_numpy(parts.calibration)].images)
    counts = count(network, sample[torch.from_numpy(parts.bound)])
    true_error = count(network, pool).plain_error
    return binomial_bound(errors=counts.cautious, examples=counts.examples, bits=0, delta=DELTA), true_error


def recognition(split: Any, trials: int) -> list[bool]:
    """Return, for each trial, whether its certificate is false."""
    random = np.random.default_rng(7)
    images = torch.from_numpy(random.standard_normal((POOL, 1, 1, FEATURES)).astype(np.float32))
    pool = Examples(images, torch.ones(POOL, dtype=torch.int64))
    outcomes = [certify_recognition(pool, split, random) for _ in range(trials)]
    return [true_error > bound for bound, true_error in outcomes]


def test_recognition_in_short(rate: Any) -> None:
    assert rate(recognition(leaky, 20), "calibration examples in S").low > DELTA


@pytest.mark.slow
def test_recognition(rate: Any) -> None:
    assert rate(recognition(honest, 2000), "as it is").high <= 1.2 * DELTA
    assert rate(recognition(leaky, 100), "calibration examples in S").low > 0.5


# --- A seed that takes the errors out of S ----------------------------------------------------------------------------


def seeds_that_hide_errors(seeds: int, examples: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return, for each seed, its calibration examples, a tenth, as a 0-1 row, and the bits of its message."""
    task = Task("npz:coins.npz", examples, 1)
    taken = np.zeros((seeds, examples), dtype=np.float32)
    bits = np.zeros(seeds, dtype=np.int64)
    for seed in range(seeds):
        configuration = complete({"seed": seed, "calibration_examples": examples // 10}, task)
        parts = partition(None, examples, share=1.0).with_calibration(configuration.calibration_examples, seed)
        taken[seed, parts.calibration] = 1
        symbols = np.zeros(configuration.intrinsic_dim, dtype=np.int64)
        bits[seed] = encode(Message(configuration, Grid(1.0, 0), symbols), task).bits
    return taken, bits


def most_errors_below_half(bits: int, examples: int) -> int:
    """Return the largest count whose bound is below one half; -1 if there is none."""

    def at(errors: int) -> float:
        return binomial_bound(errors=errors, examples=examples, bits=bits, delta=DELTA)

    return bisect_left(range(examples + 1), 0.5, key=at) - 1


def check_hiding(seeds: int, trials: int, rate: Any) -> None:
    """Check a classifier with true error one half, judged on the examples that each seed leaves."""
    examples = 1000
    taken, bits = seeds_that_hide_errors(seeds, examples)
    wrong = (np.random.default_rng(11).random((trials, examples)) < 0.5).astype(np.float32)
    errors = (wrong.sum(axis=1) - taken @ wrong.T).astype(np.int64)
    rest = examples - examples // 10

    def false(charge: NDArray[np.int64]) -> NDArray[np.bool_]:
        costs = sorted(set(charge.tolist()))
        best = [errors[charge == cost].min(axis=0) for cost in costs]
        most = [most_errors_below_half(cost, rest) for cost in costs]
        return np.any([least <= limit for least, limit in zip(best, most, strict=True)], axis=0)

    assert rate(false(bits), "paid").high <= DELTA
    assert rate(false(0 * bits), "free").low > DELTA


def test_hiding_errors_in_short(rate: Any) -> None:
    check_hiding(256, 200, rate)


@pytest.mark.slow
def test_hiding_errors(rate: Any) -> None:
    check_hiding(4096, 2000, rate)


# --- The whole program ------------------------------------------------------------------------------------------------


def certify_a_run(place: Path) -> RunDirectory:
    """Train and certify a small run with BatchNorm."""
    random = np.random.default_rng(0)
    images = random.integers(256, size=(60, 4, 4), dtype=np.uint8)
    np.savez(place / "images.npz", x_train=images, y_train=np.arange(60) % 2)
    options = {"model_name": "layer13s", "base_width": 1, "intrinsic_dim": 5, "epochs": 1, "device": "cpu"}
    train(
        TrainSettings.parse({"dataset": f"npz:{place / 'images.npz'}", **options}),
        Destination(place / "run"),
        Silence(),
    )
    [(path, _)] = bound([place / "run"], BoundSettings(quant_epochs=0, device="cpu"), Silence())
    return RunDirectory.open(path)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_fsync")
def test_a_run_keeps_them_apart(tmp_path: Path) -> None:
    run = certify_a_run(tmp_path)
    parts = Partition(**run.read_arrays(INDICES))
    assert len(parts.calibration) == 6
    assert not len(overlap(parts))
    problem = reload_problem(run, Named(), "cpu", Silence())
    assert np.array_equal(problem.partition.bound, parts.bound)
    assert len(problem.sample) == verify(run.path, Named(), "cpu", Silence()).certificate.bound_examples == 54


@pytest.mark.slow
@pytest.mark.usefixtures("_no_fsync")
def test_a_certificate_of_a_program_that_leaks_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Partition, "with_calibration", leaky)
        patched.setattr(Partition, "without_copies", lambda parts, identities: parts)
        run = certify_a_run(tmp_path)
    with pytest.raises(PactlError, match="verification failed") as rejected:
        verify(run.path, Named(), "cpu", Silence())
    assert "data set" in rejected.value.message or "indices" in rejected.value.message
