"""Images made to fit a network that was trained on others: grey to colour and back, and a black frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pactl_cli.errors import PactlError

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


def framed(images: Tensor, height: int, width: int) -> Tensor:
    """Images in the middle of a black frame of the given size, which is at least theirs."""
    down, right = height - images.shape[2], width - images.shape[3]
    return nn.functional.pad(images, (right // 2, right - right // 2, down // 2, down - down // 2))
