"""Where data sets come from: each name or kind of the catalogue as a function to a `Dataset`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pactl_cli import catalogue, randomness
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.progress import Progress, unheard
from pactl_cli.data.folders import load_folder
from pactl_cli.data.given_arrays import load_npz
from pactl_cli.data.published.cifar import load_cifar10, load_cifar100
from pactl_cli.data.published.idx_files import load_fmnist, load_mnist
from pactl_cli.data.published.imagenet import load_imagenet
from pactl_cli.data.published.svhn import load_svhn, load_svhn28
from pactl_cli.data.published.tiny_imagenet import load_tiny_imagenet
from pactl_cli.errors import PactlError


def load_dataset(name: str, data_dir: Path, progress: Progress = unheard, *, may_write: bool = True) -> Dataset:
    """The data set `name`, on the CPU.

    Args:
        name: of the catalogue, or `npz:PATH`, or `folder:PATH`.
        data_dir: where named data sets lie, in torchvision's layout; what is absent is fetched into it.
        progress: told of images read one by one and of bytes fetched.
        may_write: whether anything may be written below `data_dir`; if not, what is absent is missing.

    Raises:
        MissingError: if it is absent and cannot or may not be fetched.
        PactlError: if it is truncated or altered, or not what a data set must be.
    """
    entry = catalogue.dataset_entry(name)
    dataset = LOADERS[entry.name](name, DataDirectory(data_dir, may_write), progress)
    if isinstance(dataset.train, Examples) and entry.train_examples not in (None, len(dataset.train)):
        raise PactlError(
            f"{name} in {data_dir} has {len(dataset.train):,} training examples, not {entry.train_examples:,}",
            "restore its files, or delete them to have them fetched again",
        )
    return dataset


def _digits(name: str, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """scikit-learn's digits, sixteen grey levels spread over a byte, split by one fixed permutation."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    order = torch.from_numpy(randomness.permutation(catalogue.DEFAULT_SEED, "digits", len(labels)))
    train = catalogue.DATASETS["digits"].train_examples
    examples = Examples(images, labels)
    return Dataset(name, 10, examples[order[:train]], examples[order[train:]])


LOADERS: dict[str, Callable[[str, DataDirectory, Progress], Dataset]] = {
    "digits": _digits,
    "mnist": load_mnist,
    "fmnist": load_fmnist,
    "svhn": load_svhn,
    "svhn28": load_svhn28,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "tiny-imagenet": load_tiny_imagenet,
    "imagenet": load_imagenet,
    "npz:": load_npz,
    "folder:": load_folder,
}
"""Each takes the data set's name as the user wrote it, the data directory, and a listener."""
