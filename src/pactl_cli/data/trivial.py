"""TrivialAugment (Mueller and Hutter, 2021) with the operations of torchvision's TrivialAugmentWide, in batches.

All images of one operation are changed at once, each with its own strength.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms import functional

from pactl_cli.data.views import Draws

STRENGTHS = 31
"""The number of strengths, in equal steps from nothing to the greatest."""
MOST_SHEAR, MOST_SHIFT, MOST_DEGREES, MOST_BLEND = 0.99, 32, 135.0, 0.99
"""The greatest shear, shift in pixels, rotation in degrees, and change of a factor of 1."""

Operation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A function of images, the steps of their strengths, shape (m,), and their signs, shape (m, 1, 1, 1)."""


def trivial(draws: Draws, images: Tensor, indices: Tensor) -> Tensor:
    """Return views of images, each changed by one of fourteen equally likely operations."""
    operation = draws.integers("operation", len(OPERATIONS))[indices]
    step = draws.integers("strength", STRENGTHS)[indices]
    sign = (1 - 2 * draws.integers("sign", 2)[indices].float()).view(-1, 1, 1, 1)
    seen = torch.empty_like(images)
    for number, apply in enumerate(OPERATIONS):
        places = (operation == number).nonzero().squeeze(1)
        if len(places):
            seen[places] = apply(images[places], step[places], sign[places])
    return seen


def _strength(step: Tensor, most: float, least: float = 0) -> Tensor:
    """Return strengths, shape (m, 1, 1, 1), from torchvision's table."""
    return torch.linspace(least, most, STRENGTHS, device=step.device)[step].view(-1, 1, 1, 1)


def _identity(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    return images


# --- Operations that move pixels --------------------------------------------------------------------------------------


def _shear_x(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    x, y = _places(images)
    return _nearest(images, x + _strength(step, MOST_SHEAR) * sign * (y + images.shape[-2] / 2), y)


def _shear_y(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    x, y = _places(images)
    return _nearest(images, x, y + _strength(step, MOST_SHEAR) * sign * (x + images.shape[-1] / 2))


def _translate_x(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    x, y = _places(images)
    return _nearest(images, x - _strength(step, MOST_SHIFT).floor() * sign, y)


def _translate_y(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    x, y = _places(images)
    return _nearest(images, x, y - _strength(step, MOST_SHIFT).floor() * sign)


def _rotate(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    x, y = _places(images)
    angle = _strength(step, MOST_DEGREES) * sign * pi / 180
    return _nearest(images, x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos())


def _places(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the column and the row of each pixel, counted from the middle."""
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(size, device=images.device) - (size - 1) / 2 for size in (height, width))
    return columns.view(1, 1, 1, -1), rows.view(1, 1, -1, 1)


def _nearest(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the pixels nearest to places that are counted from the middle. Beyond the border is black."""
    height, width = images.shape[-2:]
    x, y = (2 * places.expand(len(images), 1, height, width)[:, 0] for places in (x, y))
    places = torch.stack([x / width, y / height], -1)
    return grid_sample(images.float(), places, mode="nearest", align_corners=False).to(images.dtype)


# --- Operations that change values ------------------------------------------------------------------------------------


def _brightness(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    return _blended(images, torch.zeros_like(images), _strength(step, MOST_BLEND) * sign)


def _colour(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else _blended(images, _grey(images), _strength(step, MOST_BLEND) * sign)


def _contrast(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    return _blended(images, _grey(images).float().mean((1, 2, 3), keepdim=True), _strength(step, MOST_BLEND) * sign)


def _sharpness(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    blurred = functional.adjust_sharpness(_channels_apart(images), 0.0).view_as(images)
    return _blended(images, blurred, _strength(step, MOST_BLEND) * sign)


def _posterize(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    dropped = _strength(step, 6).round().to(torch.uint8)
    return images >> dropped << dropped


def _solarize(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    return torch.where(images >= _strength(step, 0, 255), 255 - images, images)


def _autocontrast(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    stretched: Tensor = functional.autocontrast(_channels_apart(images))
    return stretched.view_as(images)


def _equalize(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    equalised: Tensor = functional.equalize(_channels_apart(images))
    return equalised.view_as(images)


def _blended(images: Tensor, others: Tensor, more: Tensor) -> Tensor:
    """Return (1 + more) * images - more * others, rounded down."""
    return ((1 + more) * images - more * others).clamp(0, 255).to(images.dtype)


def _grey(images: Tensor) -> Tensor:
    """Return images of one channel: the luma of colours, and the mean of other channels."""
    grey: Tensor = images.float().mean(1, keepdim=True).to(images.dtype)
    if images.shape[1] in (1, 3):
        grey = functional.rgb_to_grayscale(images)
    return grey


def _channels_apart(images: Tensor) -> Tensor:
    return images.flatten(0, 1)[:, None]


OPERATIONS: tuple[Operation, ...] = (
    *(_identity, _shear_x, _shear_y, _translate_x, _translate_y, _rotate),
    *(_brightness, _colour, _contrast, _sharpness, _posterize, _solarize, _autocontrast, _equalize),
)
"""In torchvision's order."""
