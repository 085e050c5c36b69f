"""Data and networks of every kind, small, for those who use a certified classifier."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Call = Callable[..., Any]

NETWORKS = """
from torch import nn

def normed(classes, channels):
    layers = nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(32, classes))

class Masked(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.embedding, self.head = nn.Embedding(256, 16), nn.Linear(16, classes)

    def forward(self, inputs):
        return self.head((self.embedding(inputs["input_ids"]) * inputs["attention_mask"][..., None]).mean(1))

def masked(classes, channels):
    return Masked(classes)
"""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Photographs of many sizes in two classes, dark and bright."""
    random = np.random.default_rng(0)
    for label, level in (("night", 80), ("day", 160)):
        for number in range(60):
            shape = (int(random.integers(9, 20)), int(random.integers(9, 20)), 3)
            path = tmp_path / "photographs" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(level - 60, level + 60, shape, dtype=np.uint8)).save(path)
    return tmp_path / "photographs"


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Short texts in two classes."""
    random = np.random.default_rng(0)
    for place in range(120):
        kind = ("bad", "good")[place % 2]
        path = tmp_path / "reviews" / kind / f"{place}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(f"{kind if random.random() < 0.85 else 'so'}{random.integers(4)}" for _ in range(5)))
    return tmp_path / "reviews"


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A table of two numbers, of which some are missing, and a town, that says the class."""
    random = np.random.default_rng(0)
    with (tmp_path / "people.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["a", "b", "town", "y"])
        for place in range(300):
            label = place % 2
            a = "" if place % 7 == 3 else f"{1e4 * (label + random.normal() / 2):.3f}"
            town = ["Bonn", "Ulm", "Trier"][random.integers(3)]
            rows.writerow([a, f"{random.normal() + label:.3f}", town, ("no", "yes")[label]])
    return tmp_path / "people.csv"


@pytest.fixture
def networks(tmp_path: Path) -> str:
    """The name of a module of the user's own with networks."""
    name = f"networks_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(NETWORKS)
    return name
