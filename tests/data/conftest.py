"""Small folders of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Samples = list[tuple[str, int]]


@pytest.fixture(scope="session")
def pictures() -> Callable[..., Samples]:
    """`pictures(place, count)`: paths and labels of images of noise, written there; `size` None: of many sizes."""

    def write(
        place: Path, count: int, *, kind: str = "png", size: tuple[int, int] | None = (9, 7), channels: int = 3
    ) -> Samples:
        random = np.random.default_rng(count)
        place.mkdir(parents=True)
        samples = []
        for number in range(count):
            width, height = size or random.integers(30, 90, 2)
            coarse = random.integers(0, 256, (-(-height // 4), -(-width // 4), channels), dtype=np.uint8)
            fine = np.kron(coarse, np.ones((4, 4, 1), np.uint8))[:height, :width]
            Image.fromarray(fine.squeeze()).save(place / f"{number}.{kind}")
            samples.append((str(place / f"{number}.{kind}"), number % 3))
        return samples

    return write
