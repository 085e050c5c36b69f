"""TrivialAugment (Mueller and Hutter, 2021), as torchvision's TrivialAugmentWide has it, in batches: all images of one
operation at once, each at a strength of its own.
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
"""From nothing to the most of an operation, in equal steps."""
MOST_SLANT, MOST_SHIFT, MOST_TURN, MOST_BLEND = 0.99, 32, 135.0, 0.99
"""A shear, pixels, degrees, and what is added to or taken from a factor of 1."""

Operation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A function of images, the steps of their strengths, shape (m,), and their signs, shape (m, 1, 1, 1)."""


def trivial(draws: Draws, images: Tensor, indices: Tensor) -> Tensor:
    """Return views in each of which one of fourteen operations was applied, equally likely."""
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
    """Return strengths of shape (m, 1, 1, 1), from torchvision's table of them."""
    return torch.linspace(least, most, STRENGTHS, device=step.device)[step].view(-1, 1, 1, 1)


def _as_it_is(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    return images


# --- Pixels that move -------------------------------------------------------------------------------------------------


def _slanted_to_the_side(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    x, y = _places(images)
    return _nearest(images, x + _strength(step, MOST_SLANT) * sign * (y + images.shape[-2] / 2), y)


def _slanted_down(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    x, y = _places(images)
    return _nearest(images, x, y + _strength(step, MOST_SLANT) * sign * (x + images.shape[-1] / 2))


def _shifted_to_the_side(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    x, y = _places(images)
    return _nearest(images, x - _strength(step, MOST_SHIFT).floor() * sign, y)


def _shifted_down(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    x, y = _places(images)
    return _nearest(images, x, y - _strength(step, MOST_SHIFT).floor() * sign)


def _turned(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    x, y = _places(images)
    angle = _strength(step, MOST_TURN) * sign * pi / 180
    return _nearest(images, x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos())


def _places(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the columns and the rows of images, counted in pixels from the middle."""
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(size, device=images.device) - (size - 1) / 2 for size in (height, width))
    return columns.view(1, 1, 1, -1), rows.view(1, 1, -1, 1)


def _nearest(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the pixels nearest to places that are counted from the middle; beyond the border is black."""
    height, width = images.shape[-2:]
    x, y = (2 * places.expand(len(images), 1, height, width)[:, 0] for places in (x, y))
    places = torch.stack([x / width, y / height], -1)
    return grid_sample(images.float(), places, mode="nearest", align_corners=False).to(images.dtype)


# --- Values that change -----------------------------------------------------------------------------------------------


def _brighter(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    return _blended(images, torch.zeros_like(images), _strength(step, MOST_BLEND) * sign)


def _more_colourful(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else _blended(images, _grey(images), _strength(step, MOST_BLEND) * sign)


def _more_contrast(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    return _blended(images, _grey(images).float().mean((1, 2, 3), keepdim=True), _strength(step, MOST_BLEND) * sign)


def _sharper(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    blurred = functional.adjust_sharpness(_channels_apart(images), 0.0).view_as(images)
    return _blended(images, blurred, _strength(step, MOST_BLEND) * sign)


def _fewer_bits(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    dropped = _strength(step, 6).round().to(torch.uint8)
    return images >> dropped << dropped


def _inverted_above(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    return torch.where(
        images >= torch.linspace(255, 0, STRENGTHS, device=step.device)[step].view(-1, 1, 1, 1), 255 - images, images
    )


def _stretched(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    stretched: Tensor = functional.autocontrast(_channels_apart(images))
    return stretched.view_as(images)


def _equalised(images: Tensor, step: Tensor, sign: Tensor) -> Tensor:
    equalised: Tensor = functional.equalize(_channels_apart(images))
    return equalised.view_as(images)


def _blended(images: Tensor, others: Tensor, more: Tensor) -> Tensor:
    """Return 1 + more of the images, and the rest of the others, rounded down."""
    return ((1 + more) * images - more * others).clamp(0, 255).to(images.dtype)


def _grey(images: Tensor) -> Tensor:
    """Return one channel: of colours by how bright they are, of any other channels the mean."""
    grey: Tensor = images.float().mean(1, keepdim=True).to(images.dtype)
    if images.shape[1] in (1, 3):
        grey = functional.rgb_to_grayscale(images)
    return grey


def _channels_apart(images: Tensor) -> Tensor:
    return images.flatten(0, 1)[:, None]


OPERATIONS: tuple[Operation, ...] = (
    _as_it_is,
    _slanted_to_the_side,
    _slanted_down,
    _shifted_to_the_side,
    _shifted_down,
    _turned,
    _brighter,
    _more_colourful,
    _more_contrast,
    _sharper,
    _fewer_bits,
    _inverted_above,
    _stretched,
    _equalised,
)
"""In torchvision's order."""
