"""Random views that move the pixels of an image about: turned, slanted, scaled, shifted, and bent by waves."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from pactl_cli.data.views import Draws

TURN, SLANT, SCALE, SHIFT = 0.2, 0.2, 0.12, 0.09
"""At most: radians, a shear, a logarithm of each axis's scale, and half sides of the image: 1.3 pixels of 28."""
WAVES, LEAST_FREQUENCY, FREQUENCIES, AMPLITUDE = 3, 2.0, 5.0, 0.05
"""Radians a half side: the least and how many more; half sides, a standard deviation: 0.7 pixels of 28."""


def affine(draws: Draws, images: Tensor, indices: Tensor) -> Tensor:
    """Return views that are turned, slanted, scaled and shifted; what lies beyond the border is black."""
    return _sampled(images, *_turned(draws, images, indices))


def elastic(draws: Draws, images: Tensor, indices: Tensor) -> Tensor:
    """Return views as `affine` has them, bent by three sine waves, one after the other, of any direction."""
    x, y = _turned(draws, images, indices)
    waves, heights = draws.uniforms("waves", WAVES, 4)[indices], draws.gaussians("heights", WAVES)[indices]
    for wave in range(WAVES):
        height, frequency, *angles = (number.view(-1, 1, 1) for number in (heights[:, wave], *waves[:, wave].unbind(1)))
        heading, phase, direction = (2 * pi * angle for angle in angles)
        frequency = LEAST_FREQUENCY + FREQUENCIES * frequency
        bend = (x * (frequency * heading.cos()) + y * (frequency * heading.sin()) + phase).sin_()
        x = x + bend * (AMPLITUDE * height * direction.cos())
        y = y + bend * (AMPLITUDE * height * direction.sin())
    return _sampled(images, x, y)


def _turned(draws: Draws, images: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each pixel of an affine view is taken from, in half sides from the middle: x and y."""
    height, width = images.shape[-2:]
    half = min(height, width) / 2
    rows, columns = ((torch.arange(size, device=images.device) - (size - 1) / 2) / half for size in (height, width))
    y, x = rows.view(1, -1, 1), columns.view(1, 1, -1)
    drawn = 2 * draws.uniforms("affine", 6)[indices] - 1
    turn, slant, wide, high, right, down = (number.view(-1, 1, 1) for number in drawn.unbind(1))
    cosine, sine = (TURN * turn).cos(), (TURN * turn).sin()
    wide, high = (SCALE * wide).exp(), (SCALE * high).exp()
    seen_x = x * (cosine * wide) + y * (SLANT * slant - sine * wide) + SHIFT * right
    return seen_x, x * (sine * high) + y * (cosine * high) + SHIFT * down


def _sampled(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the images, seen at places in half sides from the middle; between pixels, in proportion."""
    height, width = images.shape[-2:]
    side = min(height, width)
    places = torch.stack([x * (side / width), y * (side / height)], -1)
    seen = grid_sample(images.float(), places, align_corners=False)
    return seen.round_().to(images.dtype)
