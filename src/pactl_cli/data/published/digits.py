"""The digits of scikit-learn."""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from pactl_cli import catalogue, randomness
from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.checked_files import read_packed
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.progress import Progress

_FILE = ("datasets", "data", "digits.csv.gz")
_SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"


def load_digits(name: str, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Load scikit-learn's digits, with sixteen grey levels spread over a byte, split by a fixed permutation.

    The file is read from scikit-learn's directory, because an import of scikit-learn takes longer than all the rest.

    Raises:
        PactlError: if the file is missing or altered.
    """
    package = find_spec("sklearn")
    places = package.submodule_search_locations if package else None
    path = Path(*(places or [""])[:1], *_FILE)
    table = np.loadtxt(BytesIO(read_packed(path, "", _SHA256, "install scikit-learn again").content), delimiter=",")
    images = torch.from_numpy(np.rint(table[:, :-1].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8))
    labels = torch.from_numpy(table[:, -1].astype(np.int64))
    order = torch.from_numpy(randomness.permutation(DEFAULT_SEED, "digits", len(labels)))
    train = catalogue.DATASETS["digits"].train_examples
    examples = Examples(images, labels)
    return Dataset(name, 10, examples[order[:train]], examples[order[train:]])
