"""Copies of a photograph are recognised in any file that it is saved in.

Labels are fair coins, so every classifier errs on half of new examples.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.data.dataset import resident_parts
from pactl_cli.data.files.decoding import Frame
from pactl_cli.data.recognition import exact_fingerprints
from pactl_cli.data.splits import Partition
from pactl_cli.data.streaming import streamed
from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Silence
from pactl_cli.runs.settings import BoundSettings, PriorSettings
from pactl_cli.stages.bound import bound
from pactl_cli.stages.prior import prior
from pactl_cli.stages.train import Destination
from pactl_cli.stages.verify import verify


def save_photographs(folder: Path, pictures: int) -> None:
    """Save pictures of noise with random labels and several sizes, each in three files of other compression."""
    random = np.random.default_rng(0)
    names = iter(random.permutation(3 * pictures))
    for place in range(pictures):
        pixels = random.integers(256, size=(8 + place % 2, 8 + place // 2 % 2), dtype=np.uint8)
        directory = folder / "ab"[random.integers(2)]
        directory.mkdir(parents=True, exist_ok=True)
        for level in (0, 6, 9):
            Image.fromarray(pixels).save(directory / f"{next(names)}.png", compress_level=level)


def certified_prior(place: Path) -> Certificate:
    settings = {"dataset": f"folder:{place / 'photographs'}", "image_size": 8, "model_name": "fc", "intrinsic_dim": 2}
    settings |= {"prior_epochs": 40, "epochs": 1, "device": "cpu"}
    prior(PriorSettings.parse(settings), Destination(place / "run", force=True), Silence())
    return bound([place / "run"], BoundSettings(quant_epochs=0, device="cpu"), Silence())[0][1]


@pytest.mark.usefixtures("_no_fsync")
def test_copies_of_the_priors_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_photographs(tmp_path / "photographs", 150)
    certificate = certified_prior(tmp_path)
    assert certificate.side_information["copies_left_out"] > 120
    assert certificate.error_bound >= 0.5
    assert verify(tmp_path / "run", Named(), "cpu", Silence()).certificate == certificate
    monkeypatch.setattr(Partition, "without_copies", lambda parts, identities: parts)
    assert certified_prior(tmp_path).error_bound < 0.5, "a false certificate"


def test_copies_are_the_same_in_memory_and_by_batch(tmp_path: Path) -> None:
    """The examples that are counted do not depend on the memory of a machine."""
    pixels = np.random.default_rng(0).integers(256, size=(6, 8, 8), dtype=np.uint8)[[0, 1, 2, 0, 3, 1]]
    samples = [(str(tmp_path / f"{place}.png"), 0) for place in range(6)]
    for (path, _), image, level in zip(samples, pixels, (0, 0, 0, 9, 9, 9), strict=True):
        Image.fromarray(image).save(path, compress_level=level)
    in_memory = resident_parts(torch.from_numpy(pixels)[:, None], [0] * 6)[0]
    by_batch = streamed(samples, Frame((1, 8, 8))).with_workers(0)
    assert np.array_equal(exact_fingerprints(by_batch), exact_fingerprints(in_memory))
