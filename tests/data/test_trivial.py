"""TrivialAugment in batches gives torchvision's results, operation by operation, with the same frequencies."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor
from torchvision.transforms import autoaugment

from pactl_cli.data.trivial import OPERATIONS, STRENGTHS, trivial
from pactl_cli.data.views import Draws

CPU = torch.device("cpu")
UNLIKELY = 1e-4
CHOICES = [(step, sign) for step in range(STRENGTHS) for sign in range(2)]


def picture(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


class Chosen(Draws):
    """Chosen numbers in place of random ones."""

    def __init__(self, **chosen: Tensor) -> None:
        super().__init__(1, "any", len(chosen["sign"]), CPU)
        self._chosen = chosen

    def integers(self, name: str, below: int) -> Tensor:
        return self._chosen[name]


def ours(operation: int, image: Tensor) -> list[bytes]:
    """Return our views with all strengths and signs."""
    step, sign = torch.tensor(CHOICES).T
    draws = Chosen(operation=torch.full_like(step, operation), strength=step, sign=sign)
    views = trivial(draws, image.expand(len(step), -1, -1, -1), torch.arange(len(step)))
    return [view.numpy().tobytes() for view in views]


def theirs(operation: int, image: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return torchvision's views if its generator draws these strengths and signs."""
    views = []
    for step, sign in CHOICES:
        answers = {len(OPERATIONS): operation, STRENGTHS: step, 2: sign}
        monkeypatch.setattr(autoaugment.torch, "randint", lambda below, *_, a=answers, **__: torch.tensor([a[below]]))
        views.append(autoaugment.TrivialAugmentWide()(image).contiguous().numpy().tobytes())
    return views


@pytest.mark.parametrize("shape", [(3, 17, 23), (1, 28, 28), (3, 6, 6)])
@pytest.mark.parametrize("operation", range(len(OPERATIONS)))
def test_every_operation_at_every_strength_is_torchvisions(
    operation: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(*shape)
    assert ours(operation, image) == theirs(operation, image, monkeypatch)


def test_operations_differ() -> None:
    """No two operations give the same views, so the test above can fail."""
    found = [frozenset(ours(operation, picture(3, 17, 23))) for operation in range(len(OPERATIONS))]
    assert len(set(found)) == len(OPERATIONS)


def p_value(numbers: Tensor, below: int) -> float:
    observed = torch.bincount(numbers, minlength=below).double()
    expected = len(numbers) / below
    return float(chi2.sf(((observed - expected) ** 2 / expected).sum(), below - 1))


def test_operations_strengths_and_signs_are_equally_likely_and_independent() -> None:
    draws, kinds = Draws(3, "train/augment/0", 200_000, CPU), len(OPERATIONS)
    operation, step, sign = (
        draws.integers(name, below) for name, below in (("operation", kinds), ("strength", STRENGTHS), ("sign", 2))
    )
    joint = (operation * STRENGTHS + step) * 2 + sign
    assert p_value(joint, kinds * STRENGTHS * 2) > UNLIKELY
    assert p_value(joint[joint > 0], kinds * STRENGTHS * 2) < UNLIKELY, "one that is never drawn would be seen"


def test_both_are_one_distribution() -> None:
    """Random views of one image, ours and torchvision's, are equally frequent."""
    count, image = 3000, picture(3, 9, 9)
    views = trivial(Draws(3, "any", count, CPU), image.expand(count, -1, -1, -1), torch.arange(count))
    mine = Counter(view.numpy().tobytes() for view in views)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transform = autoaugment.TrivialAugmentWide()
        other = Counter(transform(image).contiguous().numpy().tobytes() for _ in range(count))
    often = [view for view in mine | other if mine[view] + other[view] >= 8]
    statistic = sum((mine[view] - other[view]) ** 2 / (mine[view] + other[view]) for view in often)
    assert sum(mine[view] for view in often) > count / 2
    assert chi2.sf(statistic, len(often)) > UNLIKELY


@pytest.mark.parametrize("channels", [2, 4])
def test_any_channels(channels: int) -> None:
    images = picture(200, channels, 7, 5)
    views = trivial(Draws(3, "any", 200, CPU), images, torch.arange(200))
    assert (views.shape, views.dtype) == (images.shape, torch.uint8)
    assert sum(torch.equal(view, image) for view, image in zip(views, images, strict=True)) < 60
