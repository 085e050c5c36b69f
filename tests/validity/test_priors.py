"""Data-dependent priors do not make certificates false, although they memorise their own examples.

Labels are fair coins, so every classifier errs on half of new examples. The twin also counts the prior's examples.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pactl_cli.data.splits import Partition, partition
from pactl_cli.problem import loading as loading_module
from pactl_cli.problem.display import Silence
from pactl_cli.runs.settings import BoundSettings, PriorSettings
from pactl_cli.stages.bound import bound
from pactl_cli.stages.prior import prior
from pactl_cli.stages.train import Destination

DELTA, EXAMPLES = 0.05, 240


def leaky_partition(*arguments: Any, **options: Any) -> Partition:
    """Return what a twin of `partition` gives that leaves the prior's examples in S."""
    parts = partition(*arguments, **options)
    return replace(parts, bound=np.sort(np.concatenate([parts.prior, parts.bound])))


def as_images(place: Path, random: np.random.Generator) -> dict[str, Any]:
    images = random.integers(256, size=(EXAMPLES, 4, 4), dtype=np.uint8)
    np.savez(place / "coins.npz", x_train=images, y_train=random.integers(2, size=EXAMPLES))
    return {"dataset": f"npz:{place / 'coins.npz'}"}


def as_table(place: Path, random: np.random.Generator) -> dict[str, Any]:
    """Write a table of numbers, some missing, and of towns: scale and categories come from calibration examples."""
    numbers = np.where(random.random((EXAMPLES, 8)) < 0.1, "", random.normal(size=(EXAMPLES, 8)).round(3).astype(str))
    rows = [*numbers.T, random.integers(30, size=EXAMPLES).astype(str), random.choice(["no", "yes"], EXAMPLES)]
    lines = [
        ",".join([*"abcdefgh", "town", "y"]),
        *(",".join(row[:8]) + f",t{row[8]},{row[9]}" for row in zip(*rows, strict=True)),
    ]
    (place / "coins.csv").write_text("\n".join(lines))
    return {"dataset": f"csv:{place / 'coins.csv'}", "label": "y", "missing": "constant"}


def is_false(place: Path, random: np.random.Generator) -> bool:
    """Return whether the certificate of a prior on a fresh sample is below one half."""
    options = {
        **(as_images, as_table)[random.integers(2)](place, random),
        "base_width": 64,
        "intrinsic_dim": int(random.choice([0, 3, 10])),
        "train_subset": float(random.choice([0.5, -0.5, 0.7])),
        "seed": int(random.choice([137, 137, 5])),
        "prior_epochs": 20,
        "batch_size": 10,
        "prior_lr": 0.01,
        "epochs": 3,
        "device": "cpu",
    }
    prior(PriorSettings.parse(options), Destination(place / "run", force=True), Silence())
    settings = BoundSettings(delta=DELTA, quant_epochs=int(random.choice([0, 2])), device="cpu")
    [(_, certificate)] = bound([place / "run"], settings, Silence())
    return certificate.error_bound < 0.5


def false_certificates(place: Path, trials: int) -> list[bool]:
    """Return, for each trial, whether its certificate is false."""
    random = np.random.default_rng(11)
    return [is_false(place, random) for _ in range(trials)]


@pytest.mark.usefixtures("_no_fsync")
def test_priors_in_short(tmp_path: Path, rate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading_module, "partition", leaky_partition)
    monkeypatch.setattr(Partition, "without_copies", lambda parts, identities: parts)
    assert rate(false_certificates(tmp_path, 8), "the prior's examples in S").low > DELTA


@pytest.mark.slow
@pytest.mark.usefixtures("_no_fsync")
def test_priors(tmp_path: Path, rate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rate(false_certificates(tmp_path, 120), "as it is").high <= 1.5 * DELTA
    monkeypatch.setattr(loading_module, "partition", leaky_partition)
    monkeypatch.setattr(Partition, "without_copies", lambda parts, identities: parts)
    assert rate(false_certificates(tmp_path, 30), "the prior's examples in S").low > 4 * DELTA
