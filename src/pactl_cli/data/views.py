"""Random views of training images: a crop of the padded image, mirrored or not, a batch at a time on its own device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pactl_cli import randomness

PADDING = 4
"""Black pixels around an image before it is cropped to its own size again."""


@dataclass(frozen=True)
class Crops:
    """For each of n images, where in its padded self its crop begins, and whether it is mirrored: shape (n,) each."""

    rows: Tensor
    columns: Tensor
    mirrored: Tensor

    def __getitem__(self, indices: Tensor) -> Crops:
        return Crops(self.rows[indices], self.columns[indices], self.mirrored[indices])

    def cut(self, images: Tensor) -> Tensor:
        """The views of n images, shape (n, C, H, W) as they are."""
        count, channels, height, width = images.shape
        x = torch.arange(width, device=images.device)
        rows = self.rows[:, None] + torch.arange(height, device=images.device)
        columns = self.columns[:, None] + torch.where(self.mirrored[:, None], width - 1 - x, x)
        places = rows[:, :, None] * (width + 2 * PADDING) + columns[:, None, :]
        padded = nn.functional.pad(images, (PADDING,) * 4).flatten(2)
        return padded.gather(2, places.view(count, 1, -1).expand(-1, channels, -1)).view(images.shape)


@dataclass(frozen=True)
class Augmentation:
    """The randomness of one epoch: an example's view depends on seed, stream and its index, not on batch or process.

    Attributes:
        stream: the name of the epoch's random numbers.
    """

    seed: int
    stream: str

    def crops(self, examples: int, device: torch.device) -> Crops:
        """As torchvision's RandomCrop(size, padding=4) and RandomHorizontalFlip() draw them, for all examples."""

        def draw(name: str, below: int) -> Tensor:
            drawn = randomness.integers(self.seed, f"{self.stream}/{name}", examples, below)
            return torch.from_numpy(drawn).to(device)

        return Crops(draw("row", 2 * PADDING + 1), draw("column", 2 * PADDING + 1), draw("mirrored", 2) == 1)

    def keys(self, examples: int) -> NDArray[np.int64]:
        """For each example a seed of its own, for whoever draws its view elsewhere."""
        return randomness.integers(self.seed, f"{self.stream}/key", examples, 1 << 52)
