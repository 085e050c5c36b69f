"""Random views of training examples. Each is a function here and a row of `catalogue.VIEWS`.

A view depends on the seed, the stream and the example's index, never on its batch or process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pactl_cli import randomness
from pactl_cli.catalogue import VIEWS

PADDING = 4
"""Black pixels around an image before it is cropped to its own size again."""

Look = Callable[[Tensor, Tensor], Tensor]
"""A function of the images of a batch and their indices among all examples, which returns views."""
OneLook = Callable[[Any, tuple[int, int]], Any]
"""A function of one image and the height and width of its view, which draws from torch's global generator."""


class Draws:
    """The random numbers of one epoch: named streams, each drawn once with numbers for all n examples."""

    def __init__(self, seed: int, stream: str, examples: int, device: torch.device) -> None:
        self._seed, self._stream, self._examples, self._device = seed, stream, examples, device
        self._drawn: dict[tuple[object, ...], Tensor] = {}

    def integers(self, name: str, below: int) -> Tensor:
        """Return an integer in [0, below) for each example, shape (n,)."""
        return self._kept((name, below), lambda stream: randomness.integers(self._seed, stream, self._examples, below))

    def uniforms(self, name: str, *shape: int) -> Tensor:
        """Return float32 numbers in [0, 1] for each example, shape (n, *shape)."""
        return self._numbers(randomness.uniforms, name, shape)

    def gaussians(self, name: str, *shape: int) -> Tensor:
        """Return standard normal float32 numbers for each example, shape (n, *shape)."""
        return self._numbers(randomness.gaussians, name, shape)

    def _numbers(
        self, drawn: Callable[[int, str, int], NDArray[np.float64]], name: str, shape: tuple[int, ...]
    ) -> Tensor:
        def draw(stream: str) -> NDArray[np.float32]:
            numbers = drawn(self._seed, stream, self._examples * int(np.prod(shape)))
            return numbers.astype(np.float32).reshape(self._examples, *shape)

        return self._kept((name, shape), draw)

    def _kept(self, key: tuple[str, object], draw: Callable[[str], NDArray[Any]]) -> Tensor:
        if key not in self._drawn:
            self._drawn[key] = torch.from_numpy(draw(f"{self._stream}/{key[0]}")).to(self._device)
        return self._drawn[key]


@dataclass(frozen=True)
class Augmentation:
    """The random views of one epoch.

    Attributes:
        view: a name in `catalogue.VIEWS`.
        stream: the name of the epoch's random numbers.
    """

    view: str
    seed: int
    stream: str

    @property
    def is_one_by_one(self) -> bool:
        """Whether the view is drawn image by image."""
        return VIEWS[self.view].per_image

    def over(self, examples: int, device: torch.device) -> Look:
        """Return the function that draws views of batches from so many examples, with images on `device`."""
        if not self.is_one_by_one:
            return partial(VIEWS[self.view].maker(), Draws(self.seed, self.stream, examples, device))
        keys = self.keys(examples)

        def look(images: Tensor, indices: Tensor) -> Tensor:
            one, seen = self.look_at_one(images.shape[-2], images.shape[-1]), torch.empty_like(images)
            for place, key in enumerate(keys[indices.cpu().numpy()].tolist()):
                seen[place] = one(images[place], key)
            return seen

        return look

    def look_at_one(self, height: int, width: int) -> Callable[[Any, int], Any]:
        """Return the function that draws a view of one image from its seed. It can be pickled."""
        return partial(_seen, VIEWS[self.view].maker(), (height, width))

    def keys(self, examples: int) -> NDArray[np.int64]:
        """Return a seed for each example, shape (n,)."""
        return randomness.integers(self.seed, f"{self.stream}/key", examples, 1 << 52)


def _seen(look: OneLook, size: tuple[int, int], image: Any, key: int) -> Any:
    """Draw a view of one image with torch's generator, which is seeded for it and restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key)
        return look(image, size)


# --- The views --------------------------------------------------------------------------------------------------------


def as_it_is(draws: Draws, images: Tensor, indices: Tensor) -> Tensor:
    """Return the images unchanged."""
    return images


def crop(draws: Draws, images: Tensor, indices: Tensor) -> Tensor:
    """Return views as torchvision's RandomCrop(size, padding=4) draws them."""
    return _cropped(draws, images, indices, torch.arange(images.shape[-1], device=images.device))


def crop_mirror(draws: Draws, images: Tensor, indices: Tensor) -> Tensor:
    """Return views as torchvision's RandomCrop(size, padding=4) and RandomHorizontalFlip() draw them."""
    mirrored = draws.integers("mirrored", 2)[indices, None] == 1
    x = torch.arange(images.shape[-1], device=images.device)
    return _cropped(draws, images, indices, torch.where(mirrored, images.shape[-1] - 1 - x, x))


def _cropped(draws: Draws, images: Tensor, indices: Tensor, columns: Tensor) -> Tensor:
    """Return random crops of padded images.

    Args:
        columns: the columns of each crop, in order, counted from its first.
    """
    count, channels, height, width = images.shape
    first_row, first_column = (draws.integers(name, 2 * PADDING + 1)[indices, None] for name in ("row", "column"))
    rows = first_row + torch.arange(height, device=images.device)
    columns = first_column + columns
    places = rows[:, :, None] * (width + 2 * PADDING) + columns[:, None, :]
    padded = nn.functional.pad(images, (PADDING,) * 4).flatten(2)
    return padded.gather(2, places.view(count, 1, -1).expand(-1, channels, -1)).view(images.shape)


def resized_crop(image: Any, size: tuple[int, int]) -> Any:
    """Return a view as torchvision's RandomResizedCrop(size) and RandomHorizontalFlip() draw it."""
    from torchvision import transforms

    return transforms.Compose((transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()))(image)
