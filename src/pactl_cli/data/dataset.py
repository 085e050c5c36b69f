"""Labelled images: resident on one device as tensors, or, by the same interface, streamed from files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli import randomness
from pactl_cli.catalogue import Statistics
from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.certificate.format import FIXED_STATISTICS as FIXED_STATISTICS  # the word of the data, too
from pactl_cli.data.files.progress import Progress, unheard
from pactl_cli.data.views import Augmentation
from pactl_cli.errors import PactlError


class LabelledImages(Protocol):
    """n images and their labels, wherever the images are. What trains and counts knows no more than this."""

    @property
    def labels(self) -> Tensor:
        """Shape (n,), int64, on the device where batches are wanted."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""

    @property
    def dtype(self) -> torch.dtype:
        """Of a pixel: uint8 or float32."""

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the fingerprint leaves open, in sentences."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor) -> Self: ...

    def to(self, device: torch.device) -> Self:
        """The same examples, their batches on `device`."""

    def with_labels(self, labels: Tensor) -> Self:
        """The same images with other labels."""

    def with_workers(self, count: int | None) -> Self:
        """The same examples, decoded by `count` processes where they must be decoded; None: as many as are useful."""

    def batches(
        self, parts: Sequence[Tensor], augmentation: Augmentation | None = None
    ) -> Generator[Examples, None, None]:
        """The examples of each index tensor, one after the other, seen as the augmentation says.

        Close the generator if you leave before its end: processes may be at work for it.
        """

    def resident(self) -> Examples:
        """All of them on their device."""

    def sha256(self, progress: Progress = unheard) -> str:
        """A fingerprint of every image and label, in order."""


@dataclass(frozen=True)
class Examples:
    """Resident examples: images, shape (n, C, H, W), uint8 or float32, and labels, shape (n,), int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> Examples:
        return Examples(self.images[indices], self.labels[indices])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def dtype(self) -> torch.dtype:
        """Of a pixel."""
        return self.images.dtype

    @property
    def assumptions(self) -> tuple[str, ...]:
        """None: every pixel is in the fingerprint."""
        return ()

    def to(self, device: torch.device) -> Examples:
        """The same examples on `device`."""
        return Examples(self.images.to(device), self.labels.to(device))

    def with_labels(self, labels: Tensor) -> Examples:
        """The same images with other labels."""
        return Examples(self.images, labels)

    def with_workers(self, count: int | None) -> Examples:
        """Nothing is to be decoded."""
        return self

    def batches(
        self, parts: Sequence[Tensor], augmentation: Augmentation | None = None
    ) -> Generator[Examples, None, None]:
        """The examples of each index tensor, cropped and mirrored if there is an augmentation."""
        crops = augmentation and augmentation.crops(len(self), self.labels.device)
        for part in parts:
            batch = self[part]
            yield Examples(crops[part].cut(batch.images), batch.labels) if crops else batch

    def resident(self) -> Examples:
        """These."""
        return self

    def sha256(self, progress: Progress = unheard) -> str:
        """A fingerprint of every pixel and label, in order, with type and shape."""
        return fingerprint(self.images.shape, [self.images.cpu().numpy()], self.labels)


def fingerprint(shape: Sequence[int], images: Iterable[NDArray[Any]], labels: Tensor) -> str:
    """The sha256 of images, shape (n, C, H, W) in all, which come in pieces of one type, and of their labels."""
    digest = sha256()

    def update(shape: Sequence[int], pieces: Iterable[NDArray[Any]]) -> None:
        for place, values in enumerate(pieces):
            little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
            if not place:
                digest.update(f"{little.dtype.str}{tuple(shape)}".encode())
            digest.update(little.data)

    update(shape, images)
    update(labels.shape, [labels.cpu().numpy()])
    return digest.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """A training set, and a test set where there is one."""

    name: str
    classes: int
    train: LabelledImages
    test: LabelledImages | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.train.image_shape

    def _with(self, change: Callable[[LabelledImages], LabelledImages]) -> Dataset:
        """The same data set, training and test examples both changed."""
        return replace(self, train=change(self.train), test=None if self.test is None else change(self.test))

    def to(self, device: torch.device) -> Dataset:
        """The same data on `device`."""
        return self._with(lambda examples: examples.to(device))

    def with_workers(self, count: int | None) -> Dataset:
        """The same data, decoded by `count` processes where it must be decoded; None: as many as are useful."""
        return self._with(lambda examples: examples.with_workers(count))

    def with_images(self, change: Callable[[Tensor], Tensor]) -> Dataset:
        """The same labels with changed images."""

        def changed(examples: LabelledImages) -> Examples:
            if not isinstance(examples, Examples):
                raise PactlError(f"--dataset {self.name}: images that do not fit into memory cannot be adapted")
            return Examples(change(examples.images), examples.labels)

        return self._with(changed)

    def with_label_noise(self, rate: float) -> Dataset:
        """Every label, of train and test alike, replaced by a uniform one with probability `rate`."""

        def noisy(part: str, examples: LabelledImages) -> LabelledImages:
            count = len(examples)
            chosen = randomness.uniforms(DEFAULT_SEED, f"label-noise/{part}/chosen", count) < rate
            label = randomness.integers(DEFAULT_SEED, f"label-noise/{part}/label", count, self.classes)
            return examples.with_labels(torch.where(torch.from_numpy(chosen), torch.from_numpy(label), examples.labels))

        if not rate:
            return self
        return replace(self, train=noisy("train", self.train), test=self.test and noisy("test", self.test))


def normalise(images: Tensor, statistics: Statistics) -> Tensor:
    """What a network sees: bytes over 255, then (x - mean) / std per channel; floating-point images as they are.

    The result lies in memory with its channels last, in which order convolutions run up to twice as fast.

    Args:
        images: shape (m, C, H, W).
        statistics: mean and standard deviation, one number for all channels or one each.
    """
    if images.dtype != torch.uint8:
        return images
    mean, std = (torch.tensor(row, device=images.device).view(-1, 1, 1) for row in statistics)
    inputs = torch.empty(images.shape, device=images.device, memory_format=torch.channels_last)
    return inputs.copy_(images).div_(255).sub_(mean).div_(std)
