"""scikit-learn's digits."""

from __future__ import annotations

import numpy as np
import torch

from pactl_cli import catalogue, randomness
from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.progress import Progress


def load_digits(name: str, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """scikit-learn's digits, sixteen grey levels spread over a byte, split by one fixed permutation."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    order = torch.from_numpy(randomness.permutation(DEFAULT_SEED, "digits", len(labels)))
    train = catalogue.DATASETS["digits"].train_examples
    examples = Examples(images, labels)
    return Dataset(name, 10, examples[order[:train]], examples[order[train:]])
