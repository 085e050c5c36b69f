"""Conversion of images for a network that was trained on others: grey to colour and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.dataset import Dataset, LabelledExamples
from pactl_cli.data.lazy_examples import Rows, with_rows
from pactl_cli.data.streaming import FileExamples
from pactl_cli.errors import PactlError
from pactl_cli.models.inputs import InputSpec

GREY_WEIGHTS = (19595, 38470, 7471)
"""ITU-R 601 weights of red, green and blue, in units of 1 / 65,536, as in Pillow's conversion to grey."""


def grey(images: Tensor) -> Tensor:
    """Return the luma of colour images, shape (n, 3, H, W), as images of the same type, shape (n, 1, H, W).

    Bytes are computed in integers, so they are the same on every machine.

    >>> grey(torch.tensor([255, 0, 255], dtype=torch.uint8).view(1, 3, 1, 1)).item()
    105
    """
    if images.dtype != torch.uint8:
        weights = torch.tensor(GREY_WEIGHTS, dtype=images.dtype).view(-1, 1, 1) / 65536
        return (images * weights).sum(1, keepdim=True)
    out = torch.empty_like(images[:, :1])
    for start in range(0, len(images), 4096):  # in chunks, because four bytes for each value take much memory
        colours = images[start : start + 4096].int().unbind(1)
        luma = sum(weight * colour for weight, colour in zip(GREY_WEIGHTS, colours, strict=True))
        out[start : start + 4096, 0] = (luma + 2**15) >> 16
    return out


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Return images with `channels` channels: grey is repeated, and colour becomes luma.

    Raises:
        PactlError: if neither applies.
    """
    given = images.shape[1]
    if given == channels:
        return images
    if given == 1:
        return images.expand(-1, channels, -1, -1).contiguous()
    if given == 3 and channels == 1:
        return grey(images)
    raise PactlError(
        f"images with {given} channels do not fit a network for {channels}",
        f"transfer from a network for {given} channels",
    )


def recoloured(dataset: Dataset, channels: int) -> Dataset:
    """Return the data set with other channels in its images: at once if they fit into memory, else by batch.

    Raises:
        PactlError: as `with_channels` does, or if the images are files.
    """

    def changed(examples: LabelledExamples) -> LabelledExamples:
        if isinstance(examples, FileExamples):
            raise PactlError(
                f"--dataset {dataset.name}: photographs that do not fit into memory cannot be made grey",
                "give a smaller --image-size",
            )
        return with_rows(examples, partial(_RecolouredRows, channels=channels))

    return dataset if dataset.spec.channels == channels else dataset.each(changed)


@dataclass(frozen=True)
class _RecolouredRows:
    """Images whose channels are converted when they are read."""

    rows: Rows
    channels: int

    @property
    def spec(self) -> InputSpec:
        """The kind, shape and type of one image."""
        _, height, width = self.rows.spec.image_shape
        return InputSpec.image(self.channels, height, width, self.rows.spec.tensors[0][1].dtype)

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the images of some rows, shape (m, channels, H, W)."""
        return with_channels(self.rows.read(rows), self.channels)
