"""Street View House Numbers, cropped digits, without the `extra` part."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from pactl_cli.data.adaptation import grey
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.checked_files import CheckedFile
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.downloads import Published
from pactl_cli.data.files.progress import Progress

_PARTS = ("train", "test")


def load_svhn(name: str, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Load SVHN: 73,257 + 26,032 colour images of 32 x 32. The label of a digit is the digit."""
    from torchvision.datasets import SVHN
    from torchvision.datasets.utils import download_url

    sources = [SVHN.split_list[part] for part in _PARTS]

    def fetch(place: Path) -> None:
        for url, file, md5 in sources:
            download_url(url, place / "svhn", file, md5)

    published = Published(name, "svhn", {file: md5 for _, file, md5 in sources}, fetch, origin=sources[0][0])
    if published.lie_in(data_dir.path) and not published.lie_in(data_dir.path / "svhn"):
        published = replace(published, folder="")
    files = published.read(data_dir, progress)
    train, test = (_examples(files.pop(file)) for _, file, _ in sources)
    return Dataset(name, 10, train, test)


def _examples(file: CheckedFile) -> Examples:
    """Return the images and labels of a MATLAB file, in which the last axis counts the images and 10 is the digit 0.

    Raises:
        PactlError: if it holds something else.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(BytesIO(file.content), variable_names=("X", "y"))  # type: ignore[arg-type]  # takes files too
        images, labels = content["X"].transpose(3, 2, 0, 1), content["y"].ravel().astype(np.int64)
    except Exception as error:  # a hostile file makes scipy raise almost anything
        raise file.refused("it is not a MATLAB file of images and labels") from error
    labels[labels == 10] = 0
    if images.dtype != np.uint8 or images.shape != (len(labels), 3, 32, 32) or not np.isin(labels, range(10)).all():
        raise file.refused("its images or labels are not those of house numbers")
    return Examples(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels))


def load_svhn28(name: str, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Load SVHN in the shape of MNIST, for transfers to it: grey, the central 28 x 28 of the 32 x 32 pixels."""
    colour = load_svhn(name, data_dir, progress)
    return colour.with_images(lambda images: grey(images[:, :, 2:30, 2:30]))
