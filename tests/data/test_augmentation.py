"""Random views: each is one that torchvision could give, and they are as frequent as torchvision's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from pactl_cli import randomness
from pactl_cli.catalogue import VIEWS as VIEW_NAMES
from pactl_cli.data.dataset import Examples
from pactl_cli.data.views import PADDING, Augmentation, Draws, crop_mirror

SIDE = 6
OFFSETS = 2 * PADDING + 1
VIEWS = 2 * OFFSETS**2
CPU = torch.device("cpu")
UNLIKELY = 1e-4
"""The probability that a test of a correct program fails, if seeds were not fixed."""

IMAGE = torch.arange(1, 1 + 3 * SIDE**2, dtype=torch.uint8).view(3, SIDE, SIDE)
"""An image without equal or black pixels."""


def torchvision_view(row: int, column: int, mirrored: int) -> Tensor:
    cropped = functional.crop(functional.pad(IMAGE, [PADDING]), row, column, SIDE, SIDE)
    return functional.horizontal_flip(cropped) if mirrored else cropped


POSSIBLE = {
    torchvision_view(row, column, mirrored).numpy().tobytes(): (row, column, mirrored)
    for row in range(OFFSETS)
    for column in range(OFFSETS)
    for mirrored in range(2)
}


def our_views(count: int) -> Tensor:
    return crop_mirror(Draws(3, "train/augment/0", count, CPU), IMAGE.expand(count, -1, -1, -1), torch.arange(count))


def torchvision_views(count: int) -> Tensor:
    transform = v2.Compose([v2.RandomCrop(SIDE, padding=PADDING), v2.RandomHorizontalFlip()])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.stack([transform(IMAGE) for _ in range(count)])


def frequencies(views: Tensor) -> np.ndarray:
    """Return the count of each possible view, shape (VIEWS,). An impossible view raises KeyError."""
    found = Counter(POSSIBLE[view.tobytes()] for view in views.contiguous().numpy())
    return np.array([found[place] for place in POSSIBLE.values()])


def p_value(observed: np.ndarray) -> float:
    """Return the p-value of Pearson's test that all are equally likely."""
    expected = observed.sum() / len(observed)
    return float(chi2.sf(((observed - expected) ** 2 / expected).sum(), len(observed) - 1))


def test_there_are_as_many_views_as_torchvision_has() -> None:
    assert len(POSSIBLE) == VIEWS


@pytest.mark.parametrize(("views", "each"), [(our_views, 200), (torchvision_views, 20)])
def test_every_view_is_as_likely_as_any_other(views: Callable[[int], Tensor], each: int) -> None:
    observed = frequencies(views(each * VIEWS))
    assert observed.min() > 0
    assert p_value(observed) > UNLIKELY


def test_both_are_one_distribution() -> None:
    ours, theirs = frequencies(our_views(20 * VIEWS)), frequencies(torchvision_views(20 * VIEWS))
    statistic = ((ours - theirs) ** 2 / (ours + theirs)).sum()
    assert chi2.sf(statistic, VIEWS) > UNLIKELY


class Fewer(Draws):
    """Draws that never give the last place."""

    def integers(self, name: str, below: int) -> Tensor:
        return super().integers(name, below).clamp(max=OFFSETS - 2)


class Same(Draws):
    """Draws that make row and column equal."""

    def integers(self, name: str, below: int) -> Tensor:
        return super().integers("row" if name == "column" else name, below)


class Dependent(Draws):
    """Draws that mirror only if the row is not the first."""

    def integers(self, name: str, below: int) -> Tensor:
        drawn = super().integers(name, below)
        return drawn if name != "mirrored" else drawn * (super().integers("row", OFFSETS) > 0)


@pytest.mark.parametrize("wrong", [Fewer, Same, Dependent])
def test_another_distribution_would_be_seen(wrong: type[Draws]) -> None:
    count = 20 * VIEWS
    draws = wrong(3, "train/augment/0", count, CPU)
    assert p_value(frequencies(crop_mirror(draws, IMAGE.expand(count, -1, -1, -1), torch.arange(count)))) < UNLIKELY


def test_a_crop_is_the_same_without_mirrors() -> None:
    images = IMAGE.expand(100, -1, -1, -1)
    cropped, both = (
        Augmentation(view, 1, "any").over(100, CPU)(images, torch.arange(100)) for view in ("crop", "crop-mirror")
    )
    mirrored = randomness.integers(1, "any/mirrored", 100, 2) == 1
    for view, other, is_mirrored in zip(cropped, both, mirrored, strict=True):
        place = POSSIBLE[other.numpy().tobytes()]
        assert place[2] == is_mirrored
        assert POSSIBLE[view.numpy().tobytes()][::2] == (place[0], 0)
        assert is_mirrored or torch.equal(view, other)


STREAMS = (("row", OFFSETS), ("column", OFFSETS), ("mirrored", 2))
"""The streams of earlier versions, which must not change."""


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 8, 4), (2, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_each_image_gets_its_own_crop(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    images = torch.randint(256, (40, *shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    places = torch.randperm(40)
    seen = Augmentation("crop-mirror", 1, "any").over(40, CPU)(images, places)
    assert (seen.shape, seen.dtype) == (images.shape, dtype)
    drawn = [randomness.integers(1, f"any/{name}", 40, below)[places] for name, below in STREAMS]
    for image, view, row, column, mirrored in zip(images, seen, *(values.tolist() for values in drawn), strict=True):
        expected = functional.crop(functional.pad(image, [PADDING]), row, column, *shape[1:])
        assert torch.equal(view, functional.horizontal_flip(expected) if mirrored else expected)


@pytest.mark.parametrize("view", [name for name in VIEW_NAMES if name != "none"])
def test_a_view_depends_on_seed_epoch_and_example_and_not_on_the_batch(view: str) -> None:
    images = torch.randint(256, (60, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    examples = Examples(images, torch.arange(60))

    def epoch(parts: list[Tensor], seed: int = 1, stream: str = "train/augment/0") -> Tensor:
        batches = list(examples.batches(parts, Augmentation(view, seed, stream)))
        return torch.cat([batch.images for batch in batches])[torch.cat([batch.labels for batch in batches]).argsort()]

    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    whole = epoch([order])
    assert whole.shape == images.shape
    assert torch.equal(epoch(list(torch.arange(60).split(7))), whole)
    assert not torch.equal(epoch([order], seed=2), whole)
    assert not torch.equal(epoch([order], stream="train/augment/1"), whole)


def test_a_resized_crop_of_a_tensor_is_torchvisions_under_the_examples_own_seed() -> None:
    images = torch.randint(256, (9, 1, 12, 10), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    augmentation, places = Augmentation("resized-crop", 4, "train/augment/2"), torch.arange(9).flip(0)
    state = torch.get_rng_state()
    seen = augmentation.over(9, CPU)(images, places)
    assert torch.equal(torch.get_rng_state(), state)
    transform = transforms.Compose([transforms.RandomResizedCrop((12, 10)), transforms.RandomHorizontalFlip()])
    with torch.random.fork_rng():
        for image, view, place in zip(images, seen, places.tolist(), strict=True):
            torch.manual_seed(int(augmentation.keys(9)[place]))
            assert torch.equal(transform(image), view)


def test_no_view_is_each_example_as_it_is() -> None:
    images = torch.rand(3, 1, 2, 2)
    assert Augmentation("none", 1, "any").over(9, CPU)(images, torch.tensor([7, 1, 8])) is images


def test_without_augmentation_a_batch_is_what_is_there() -> None:
    examples = Examples(torch.randint(256, (9, 1, 2, 2)).to(torch.uint8), torch.arange(9))
    parts = [torch.tensor([3, 1]), torch.tensor([8])]
    for part, batch in zip(parts, examples.batches(parts), strict=True):
        assert torch.equal(batch.images, examples.images[part])
        assert torch.equal(batch.labels, part)


def test_keys_are_drawn_afresh_for_every_epoch() -> None:
    first, second = (Augmentation("none", 1, f"train/augment/{epoch}").keys(10_000) for epoch in range(2))
    assert len({*first.tolist(), *second.tolist()}) == 20_000
    assert first.tolist() == randomness.integers(1, "train/augment/0/key", 10_000, 1 << 52).tolist()


def test_draws_are_one_for_each_example_and_the_same_at_every_look() -> None:
    draws = Draws(2, "any", 50, CPU)
    for shape in ((), (3,), (2, 4)):
        drawn = draws.uniforms("field", *shape)
        assert (drawn.shape, drawn.dtype) == ((50, *shape), torch.float32)
        assert drawn.flatten().unique().numel() == drawn.numel()
        assert draws.uniforms("field", *shape) is drawn, "drawn once"
    assert draws.uniforms("other").tolist() != draws.uniforms("field").tolist()
    assert draws.integers("row", 3) is not draws.integers("row", 4)
