"""Images made to fit a network that was trained on others: grey to colour and back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.by_batch import Rows, at_once_or_by_batch, made_of
from pactl_cli.data.dataset import Dataset, LabelledExamples
from pactl_cli.data.streaming import FileExamples
from pactl_cli.errors import PactlError
from pactl_cli.models.inputs import InputSpec

GREY_WEIGHTS = (19595, 38470, 7471)
"""ITU-R 601 weights of red, green and blue, in 65,536ths: those of Pillow's conversion to grey."""


def grey(images: Tensor) -> Tensor:
    """Colour images, shape (n, 3, H, W), as luma, shape (n, 1, H, W), of the same type.

    Bytes are rounded from integers throughout, so they are alike everywhere.

    >>> grey(torch.tensor([255, 0, 255], dtype=torch.uint8).view(1, 3, 1, 1)).item()
    105
    """
    if images.dtype != torch.uint8:
        weights = torch.tensor(GREY_WEIGHTS, dtype=images.dtype).view(-1, 1, 1) / 65536
        return (images * weights).sum(1, keepdim=True)
    out = torch.empty_like(images[:, :1])
    for start in range(0, len(images), 4096):  # a few at a time: in four bytes each they are large
        colours = images[start : start + 4096].int().unbind(1)
        luma = sum(weight * colour for weight, colour in zip(GREY_WEIGHTS, colours, strict=True))
        out[start : start + 4096, 0] = (luma + 2**15) >> 16
    return out


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Images with as many channels as asked: grey repeated, or colours summed.

    Raises:
        PactlError: if that is neither.
    """
    given = images.shape[1]
    if given == channels:
        return images
    if given == 1:
        return images.expand(-1, channels, -1, -1).contiguous()
    if given == 3 and channels == 1:
        return grey(images)
    raise PactlError(
        f"images with {given} channels cannot be shown to a network for {channels}",
        "transfer from a network for as many, or for one or three",
    )


def recoloured(dataset: Dataset, channels: int) -> Dataset:
    """Return a data set with as many channels in its images as asked: at once where they fit into memory, else by
    batch.

    Raises:
        PactlError: if that is neither grey repeated nor colours summed, or the images are files.
    """

    def changed(examples: LabelledExamples) -> LabelledExamples:
        if isinstance(examples, FileExamples):
            raise PactlError(
                f"--dataset {dataset.name}: photographs that do not fit into memory cannot be made grey",
                "give a smaller --image-size",
            )
        made = made_of(examples)
        return at_once_or_by_batch(replace(made, rows=RecolouredRows(made.rows, channels)))

    return dataset if dataset.spec.channels == channels else dataset.each(changed)


@dataclass(frozen=True)
class RecolouredRows:
    """Images that get other channels when they are read."""

    rows: Rows
    channels: int

    @property
    def spec(self) -> InputSpec:
        """Images of the same size."""
        _, height, width = self.rows.spec.image_shape
        return InputSpec.image(self.channels, height, width, self.rows.spec.tensors[0][1].dtype)

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the images of some rows, shape (m, channels, H, W)."""
        return with_channels(self.rows.read(rows), self.channels)
