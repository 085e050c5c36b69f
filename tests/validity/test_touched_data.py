"""Calibration examples shape the classifier although they are not counted, so a change of them is refused.

Labels are fair coins, so every classifier errs on half. The images that give BatchNorm its statistics are optimised, by
gradient descent, until the untrained network gets the labels of S right, for which the message pays no bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.errors import PactlError
from pactl_cli.problem import reloading
from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Silence
from pactl_cli.problem.reloading import reload_problem
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.runs.settings import BoundSettings, TrainSettings
from pactl_cli.stages.bound import bound
from pactl_cli.stages.train import Destination, train
from pactl_cli.stages.verify import verify

EXAMPLES, STEPS = 260, 400


def write(path: Path, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    np.savez(path, x_train=images, y_train=labels)


def train_a_run(place: Path, random: np.random.Generator) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Train a run that learns nothing, on noise with random labels, and return its images and labels."""
    images = random.normal(size=(EXAMPLES, 8, 8)).astype(np.float32)
    labels = random.integers(2, size=EXAMPLES)
    write(place / "coins.npz", images, labels)
    options = {"dataset": f"npz:{place / 'coins.npz'}", "model_name": "layer13s", "epochs": 1, "lr": 1e-50}
    train(TrainSettings.parse(options | {"device": "cpu"}), Destination(place / "run", force=True), Silence())
    return images, labels


def certify(place: Path) -> Certificate:
    return bound([place / "run"], BoundSettings(quant_epochs=0, device="cpu"), Silence())[0][1]


def normalised(layers: nn.Module, calibration: Tensor, sample: Tensor) -> Tensor:
    """Return the logits of a sample, with BatchNorm's statistics from the calibration images."""
    for layer in layers.children():
        if isinstance(layer, nn.BatchNorm2d):
            mean, variance = calibration.mean((0, 2, 3)), calibration.var((0, 2, 3), unbiased=True)
            biased = calibration.var((0, 2, 3), unbiased=False)
            scale, shift = layer.weight[:, None, None], layer.bias[:, None, None]
            mean, variance, biased = (x[:, None, None] for x in (mean, variance, biased))
            sample = (sample - mean) / (variance + layer.eps).sqrt() * scale + shift
            calibration = (calibration - mean) / (biased + layer.eps).sqrt() * scale + shift
        else:
            calibration, sample = layer(calibration), layer(sample)
    return sample


def edited(place: Path, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the images, with calibration images that make the network right about the labels of S."""
    problem = reload_problem(RunDirectory.open(place / "run"), Named(), "cpu", Silence())
    network = problem.blueprint.network().requires_grad_(False)
    sample = problem.sample.resident()
    free = torch.from_numpy(images[problem.partition.calibration])[:, None].clone().requires_grad_(True)
    optimiser = torch.optim.Adam([free], lr=3e-2)
    best, fewest = free.detach().clone(), len(sample)
    for _ in range(STEPS):
        logits = normalised(network, free, sample.images)
        errors = int((logits.argmax(1) != sample.labels).sum())
        if errors < fewest:
            best, fewest = free.detach().clone(), errors
        optimiser.zero_grad()
        nn.functional.cross_entropy(5 * logits, sample.labels).backward()
        optimiser.step()
    changed = images.copy()
    changed[problem.partition.calibration] = best[:, 0].numpy()
    return changed


@pytest.mark.slow
@pytest.mark.usefixtures("_no_fsync")
def test_calibration_images_that_were_optimised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = train_a_run(tmp_path, np.random.default_rng(11))
    assert certify(tmp_path).error_bound > 0.5
    write(tmp_path / "coins.npz", edited(tmp_path, images), labels)
    with pytest.raises(PactlError, match="its training set differs"):
        certify(tmp_path)
    with pytest.raises(PactlError, match="its training set differs"):
        verify(tmp_path / "run", Named(), "cpu", Silence())
    with monkeypatch.context() as as_in_the_first_version:
        as_in_the_first_version.setattr(reloading, "require_same_data", only_the_sample)
        assert certify(tmp_path).error_bound < 0.5, "a false certificate"
    with pytest.raises(PactlError, match="verification failed"):
        verify(tmp_path / "run", Named(), "cpu", Silence())


def only_the_sample(run: RunDirectory, problem: Any, _: str) -> None:
    """Check only what version 0.1.0 compared."""
    assert run.manifest.data_sha256 == problem.fingerprints.sample


@pytest.mark.usefixtures("_no_fsync")
def test_a_single_calibration_pixel(tmp_path: Path) -> None:
    images, labels = train_a_run(tmp_path, np.random.default_rng(1))
    honest = certify(tmp_path)
    assert any("changed, added or removed after looking" in line for line in honest.assumptions)
    with np.load(tmp_path / "run" / "indices.npz") as indices:
        place = indices["calibration"][3]
    touched = images.copy()
    touched[place, 0, 0] += 1e-3
    write(tmp_path / "coins.npz", touched, labels)
    for check in (certify, lambda place: verify(place / "run", Named(), "cpu", Silence())):
        with pytest.raises(PactlError, match="its training set differs"):
            check(tmp_path)
    write(tmp_path / "coins.npz", images, labels)
    assert verify(tmp_path / "run", Named(), "cpu", Silence()).certificate == honest
