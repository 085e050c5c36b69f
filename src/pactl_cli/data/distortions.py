"""Random views that move the pixels of images: affine maps, and elastic ones that add waves."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from pactl_cli.data.views import Draws

ROTATION, SHEAR, SCALE, SHIFT = 0.2, 0.2, 0.12, 0.09
"""The greatest rotation in radians, shear, log scale of each axis, and shift in half sides: 1.3 pixels of 28."""
WAVES, LEAST_FREQUENCY, FREQUENCIES, AMPLITUDE = 3, 2.0, 5.0, 0.05
"""The number of waves; their least frequency and its range, in radians for each half side; the standard deviation of
their heights, in half sides: 0.7 pixels of 28."""


def affine(draws: Draws, images: Tensor, indices: Tensor) -> Tensor:
    """Return views that are rotated, sheared, scaled and shifted. Beyond the border is black."""
    return _sampled(images, *_affine_places(draws, images, indices))


def elastic(draws: Draws, images: Tensor, indices: Tensor) -> Tensor:
    """Return affine views that three sine waves in random directions bend, one after the other."""
    x, y = _affine_places(draws, images, indices)
    waves, heights = draws.uniforms("waves", WAVES, 4)[indices], draws.gaussians("heights", WAVES)[indices]
    for wave in range(WAVES):
        height, frequency, *angles = (number.view(-1, 1, 1) for number in (heights[:, wave], *waves[:, wave].unbind(1)))
        heading, phase, direction = (2 * pi * angle for angle in angles)
        frequency = LEAST_FREQUENCY + FREQUENCIES * frequency
        bend = (x * (frequency * heading.cos()) + y * (frequency * heading.sin()) + phase).sin_()
        x = x + bend * (AMPLITUDE * height * direction.cos())
        y = y + bend * (AMPLITUDE * height * direction.sin())
    return _sampled(images, x, y)


def _affine_places(draws: Draws, images: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the place, x and y, from which each pixel of an affine view is taken, in half sides from the middle."""
    height, width = images.shape[-2:]
    half = min(height, width) / 2
    rows, columns = ((torch.arange(size, device=images.device) - (size - 1) / 2) / half for size in (height, width))
    y, x = rows.view(1, -1, 1), columns.view(1, 1, -1)
    drawn = 2 * draws.uniforms("affine", 6)[indices] - 1
    turn, shear, wide, high, right, down = (number.view(-1, 1, 1) for number in drawn.unbind(1))
    cosine, sine = (ROTATION * turn).cos(), (ROTATION * turn).sin()
    wide, high = (SCALE * wide).exp(), (SCALE * high).exp()
    seen_x = x * (cosine * wide) + y * (SHEAR * shear - sine * wide) + SHIFT * right
    return seen_x, x * (sine * high) + y * (cosine * high) + SHIFT * down


def _sampled(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return images sampled bilinearly at places in half sides from the middle."""
    height, width = images.shape[-2:]
    side = min(height, width)
    places = torch.stack([x * (side / width), y * (side / height)], -1)
    seen = grid_sample(images.float(), places, align_corners=False)
    return seen.round_().to(images.dtype)
