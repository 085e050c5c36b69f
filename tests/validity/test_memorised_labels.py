"""The certificate of a network that has memorised random labels must not claim that it has learned something.

Labels of ten balanced classes are independent of the images, so every classifier's true error is nine tenths.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.risk_bounds import binomial_bound
from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Silence
from pactl_cli.runs.settings import BoundSettings, TrainSettings
from pactl_cli.stages.bound import bound
from pactl_cli.stages.train import Destination, train
from pactl_cli.stages.verify import verify

EXAMPLES, CLASSES, TRUE_ERROR, NEVER_BELOW = 300, 10, 0.9, 0.85


def memorise(place: Path, *, dim: int, epochs: int, quantisation: dict[str, Any], seed: int = 0) -> Certificate:
    """Train on random images with random balanced labels, and certify."""
    random = np.random.default_rng(seed)
    images = random.integers(256, size=(EXAMPLES, 8, 8), dtype=np.uint8)
    labels = random.permutation(np.arange(EXAMPLES) % CLASSES)
    np.savez(place / "random.npz", x_train=images, y_train=labels)
    options = {"base_width": 32, "intrinsic_dim": dim, "epochs": epochs, "batch_size": 50, "lr": 0.03}
    dataset = f"npz:{place / 'random.npz'}"
    train(TrainSettings.parse({"dataset": dataset, "device": "cpu", **options}), Destination(place / "run"), Silence())
    [(_, certificate)] = bound([place / "run"], BoundSettings.parse({"device": "cpu", **quantisation}), Silence())
    return certificate


def with_bits(certificate: Certificate, share: float) -> float:
    """Return the bound for a payment of only a share of the message."""
    counts = {"errors": certificate.errors, "examples": certificate.bound_examples}
    return binomial_bound(**counts, bits=share * certificate.message_bits, delta=certificate.delta)


def check(certificate: Certificate) -> None:
    """Check that every bound is above 85 %; print the bound that does not pay for the message."""
    assert certificate.error_bound >= NEVER_BELOW
    assert min(certificate.bounds.values()) >= NEVER_BELOW
    assert certificate.published.bound >= NEVER_BELOW
    assert with_bits(certificate, 1) == certificate.error_bound
    print(f"{certificate.errors} errors, {certificate.message_bits} bits: {with_bits(certificate, 0):.3f} unpaid")


@pytest.mark.slow
@pytest.mark.usefixtures("_no_fsync")
@pytest.mark.parametrize(
    "quantisation",
    [
        {"rate_weight": 0, "quant_epochs": 20, "lr": 0.1},
        {"rate_weight": 0, "quant_epochs": 0, "codebook": "kmeans", "levels": 12},
    ],
    ids=["grid", "kmeans"],
)
def test_what_is_memorised_is_paid_for(quantisation: dict[str, Any], tmp_path: Path) -> None:
    certificate = memorise(tmp_path, dim=3000, epochs=40, quantisation=quantisation)
    assert certificate.train_error < 0.05
    check(certificate)
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    [tried] = [line for line in lines if "errors" in line and line["attempt"]["codebook"] != "none"]
    assert tried["errors"] < 0.2 * EXAMPLES
    assert tried["error_bound"] >= NEVER_BELOW
    found = certificate.model_copy(update={"errors": tried["errors"], "message_bits": tried["bits"]})
    assert with_bits(found, 0) < 0.4, "the guard must fail where bits are free"
    assert with_bits(found, 0.05) < NEVER_BELOW, "and where nineteen of twenty are"
    assert verify(tmp_path / "run", Named(), "cpu", Silence()).certificate == certificate


@pytest.mark.slow
@pytest.mark.usefixtures("_no_fsync")
@pytest.mark.parametrize(("dim", "price"), [(5, "auto"), (500, "auto"), (20, 0.1), (200, 0.3), (1500, 1.0)])
def test_no_trade_of_bits_for_errors_certifies(dim: int, price: str | float, tmp_path: Path) -> None:
    """This holds for few and many dimensions, and for low and high prices of bits."""
    certificate = memorise(tmp_path, dim=dim, epochs=20, quantisation={"rate_weight": price})
    check(certificate)


def test_every_way_to_memorise_costs_more_than_it_gains() -> None:
    """To memorise m of n labels costs log2 10 bits each: no m brings the bound below the true error."""
    for memorised in range(0, EXAMPLES + 1, 10):
        errors = round((EXAMPLES - memorised) * TRUE_ERROR)
        bits = memorised * np.log2(CLASSES)
        bounds = [binomial_bound(errors=errors, examples=EXAMPLES, bits=b, delta=0.05) for b in (bits, 0)]
        assert bounds[0] >= TRUE_ERROR
        assert bounds[1] < NEVER_BELOW or memorised < 50
