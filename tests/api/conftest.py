"""Data that are learnt at once, and a network, as objects of Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

Arrays = tuple[Any, Any]


class Net(nn.Module):
    """Two layers: of one alone the features would be computed once."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16 * channels, 8), nn.ReLU(), nn.Linear(8, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.layers(images)
        return logits


def drawn(examples: int, seed: int = 0) -> Arrays:
    """Images of 4 x 4 bytes in two classes: dark and bright."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, examples)
    noise = draw.integers(0, 100, (examples, 4, 4))
    return (noise + 120 * labels[:, None, None]).astype(np.uint8), labels


@pytest.fixture(name="drawn")
def _drawn() -> Callable[..., Arrays]:
    """`drawn(examples, seed)`: other examples of the same kind."""
    return drawn


@pytest.fixture
def net() -> type[Net]:
    """A network."""
    return Net


@pytest.fixture
def quick() -> dict[str, Any]:
    """Settings with which they are learnt."""
    return {"model_name": "fc", "base_width": 8, "intrinsic_dim": 5, "epochs": 8, "lr": 0.3}


@pytest.fixture
def arrays() -> Arrays:
    """200 examples."""
    return drawn(200)


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go below a directory of the test's own."""
    monkeypatch.chdir(tmp_path)
