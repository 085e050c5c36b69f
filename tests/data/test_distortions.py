"""Views that move pixels: where they move a spot, and how far."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from pactl_cli.data import distortions
from pactl_cli.data.distortions import affine, elastic
from pactl_cli.data.views import Draws

CPU = torch.device("cpu")
View = Callable[[Draws, Tensor, Tensor], Tensor]


class Chosen(Draws):
    """Chosen numbers, the same for every example, in place of random ones."""

    def __init__(self, **numbers: list[float] | list[list[float]]) -> None:
        super().__init__(1, "any", 1, CPU)
        self._numbers_by_name = {name: torch.tensor(chosen)[None] for name, chosen in numbers.items()}

    def uniforms(self, name: str, *shape: int) -> Tensor:
        return self._numbers_by_name[name].view(1, *shape)

    gaussians = uniforms


def seen(view: View, image: Tensor, **numbers: list[float] | list[list[float]]) -> Tensor:
    return view(Chosen(**numbers), image[None], torch.zeros(1, dtype=torch.int64))[0]


def picture(*shape: int) -> Tensor:
    return torch.randint(1, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


NOTHING = [0.5] * 6
"""Rotation, shear, width, height, right, down: the middle of each range."""


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 14), (2, 6, 5)])
def test_the_middle_of_every_range_is_the_image(shape: tuple[int, ...]) -> None:
    assert torch.equal(seen(affine, picture(*shape), affine=NOTHING), picture(*shape))
    still = seen(elastic, picture(*shape), affine=NOTHING, waves=[[0.3] * 4] * 3, heights=[0.0] * 3)
    assert torch.equal(still, picture(*shape))


@pytest.mark.parametrize(("place", "axis"), [(4, 2), (5, 1)])
@pytest.mark.parametrize("shape", [(1, 20, 20), (3, 20, 30)])
def test_a_shift_is_of_the_shorter_side_and_black_comes_in(shape: tuple[int, ...], place: int, axis: int) -> None:
    """Two pixels of twenty are 0.2 half sides, which would be (1 + 0.2 / 0.09) / 2 on the way through the range."""
    numbers = list(NOTHING)
    numbers[place] = (1 + 0.2 / distortions.SHIFT) / 2
    view, image = seen(affine, picture(*shape), affine=numbers), picture(*shape)
    size = shape[axis]
    assert torch.equal(view.narrow(axis, 0, size - 2), image.narrow(axis, 2, size - 2))
    assert not view.narrow(axis, size - 2, 2).any()


def brightest(view: Tensor) -> tuple[float, float]:
    """Return a picture's centre of brightness, x and y, in pixels from its middle."""
    rows, columns = (torch.arange(size) - (size - 1) / 2 for size in view.shape[-2:])
    light = view[0].double() / view[0].double().sum()
    return float((light.sum(0) * columns).sum()), float((light.sum(1) * rows).sum())


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (0, (10 * np.cos(0.2), -10 * np.sin(0.2))),
        (2, (10 / np.exp(0.12), 0.0)),
        (3, (10.0, 0.0)),
    ],
)
def test_a_spot_moves_as_geometry_says(place: int, expected: tuple[float, float]) -> None:
    """A spot ten pixels to the right of the middle, at the end of each range."""
    image = torch.zeros(1, 41, 41, dtype=torch.uint8)
    image[0, 19:22, 29:32] = 255
    numbers = list(NOTHING)
    numbers[place] = 1.0
    assert brightest(seen(affine, image, affine=numbers)) == pytest.approx(expected, abs=0.1)


def test_a_slant_moves_rows_in_proportion() -> None:
    image = torch.zeros(1, 41, 41, dtype=torch.uint8)
    image[0, 29:32, 19:22] = 255
    slanted = seen(affine, image, affine=[0.5, 1.0, 0.5, 0.5, 0.5, 0.5])
    assert brightest(slanted) == pytest.approx((-2.0, 10.0), abs=0.1)


def test_a_wave_bends_a_line_by_its_height() -> None:
    """One wave across the image, of the least frequency, that moves pixels down: x 0 is at the phase."""
    image = torch.zeros(1, 41, 41, dtype=torch.uint8)
    image[0, 20] = 255
    waves = [[0.0, 0.0, 0.0, 0.25], [0.0] * 4, [0.0] * 4]
    view = seen(elastic, image, affine=NOTHING, waves=waves, heights=[2.0, 0.0, 0.0])[0].double()
    found = (view * torch.arange(41.0)[:, None]).sum(0) / view.sum(0)
    x = (torch.arange(41.0) - 20) / 20.5
    expected = 20 - 20.5 * distortions.AMPLITUDE * 2 * torch.sin(distortions.LEAST_FREQUENCY * x)
    assert (found - expected).abs().max() < 0.05


def test_every_number_is_spread_over_its_range() -> None:
    """A spot in the middle shows only the shift. The draws themselves must be uniform and normal."""
    count = 2000
    image = torch.zeros(1, 41, 41, dtype=torch.uint8)
    image[0, 19:22, 19:22] = 255
    draws, indices = Draws(3, "train/augment/0", count, CPU), torch.arange(count)
    views = affine(draws, image.expand(count, -1, -1, -1), indices)
    moved = np.array([brightest(view) for view in views]) / 20.5
    turned = draws.uniforms("affine", 6)
    for number, reach in ((turned[:, place], 1.0) for place in range(6)):
        assert kstest(number.numpy(), "uniform", (0, reach)).pvalue > 1e-4
    assert np.abs(moved).max() < distortions.SHIFT * 1.45
    assert moved.std(0) == pytest.approx([distortions.SHIFT / 3**0.5] * 2, rel=0.05)
    assert kstest(draws.gaussians("heights", 3).flatten().numpy(), "norm").pvalue > 1e-4


@pytest.mark.parametrize("view", [affine, elastic])
def test_views_have_the_size_and_type_of_images_and_differ(view: View) -> None:
    images = picture(30, 2, 11, 8)
    views = view(Draws(3, "any", 30, CPU), images, torch.arange(30))
    assert (views.shape, views.dtype) == (images.shape, torch.uint8)
    alike = view(Draws(3, "any", 30, CPU), images[:1].expand(30, -1, -1, -1), torch.arange(30))
    assert len({each.numpy().tobytes() for each in alike}) == 30


def test_the_ranges_are_those_of_the_documentation() -> None:
    assert (distortions.ROTATION, distortions.SHEAR, distortions.SCALE) == (0.2, 0.2, 0.12)
    assert pytest.approx(1.3, abs=0.05) == 14 * distortions.SHIFT
    assert pytest.approx(0.7) == 14 * distortions.AMPLITUDE
    assert log(1.12) < distortions.SCALE < -log(0.88)
