"""Labelled images as tensors, resident on one device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from pactl_cli.catalogue import DEFAULT_SEED, Statistics
from pactl_cli.certificate import streams

FIXED_STATISTICS: Statistics = ((0.5,), (0.5,))
"""The default normalisation: constants that come from no sample."""


@dataclass(frozen=True)
class Examples:
    """Images, shape (n, C, H, W), uint8 or float32, and labels, shape (n,), int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> Examples:
        return Examples(self.images[indices], self.labels[indices])

    def to(self, device: torch.device) -> Examples:
        """The same examples on `device`."""
        return Examples(self.images.to(device), self.labels.to(device))

    def sha256(self) -> str:
        """A fingerprint of every pixel and label, in order, with type and shape."""
        digest = sha256()
        for values in (self.images.cpu().numpy(), self.labels.cpu().numpy()):
            little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
            digest.update(f"{little.dtype.str}{little.shape}".encode())
            digest.update(little.data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """A training set, and a test set where there is one."""

    name: str
    classes: int
    train: Examples
    test: Examples | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device) -> Dataset:
        """The same data on `device`."""
        return replace(self, train=self.train.to(device), test=self.test and self.test.to(device))

    def with_images(self, change: Callable[[Tensor], Tensor]) -> Dataset:
        """The same labels with changed images."""

        def changed(examples: Examples) -> Examples:
            return Examples(change(examples.images), examples.labels)

        return replace(self, train=changed(self.train), test=self.test and changed(self.test))

    def with_label_noise(self, rate: float) -> Dataset:
        """Every label, of train and test alike, replaced by a uniform one with probability `rate`."""

        def noisy(part: str, examples: Examples) -> Examples:
            count = len(examples)
            chosen = streams.uniforms(DEFAULT_SEED, f"label-noise/{part}/chosen", count) < rate
            label = streams.integers(DEFAULT_SEED, f"label-noise/{part}/label", count, self.classes)
            labels = torch.where(torch.from_numpy(chosen), torch.from_numpy(label), examples.labels)
            return Examples(examples.images, labels)

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
