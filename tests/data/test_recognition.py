"""Inputs are recognised in another form, and others are not confused with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pactl_cli.data.adaptation import grey
from pactl_cli.data.dataset import Examples
from pactl_cli.data.recognition import exact_fingerprints, image_fingerprints


def examples(images: Tensor) -> Examples:
    return Examples(images, torch.zeros(len(images), dtype=torch.int64))


def recognised(images: Tensor, among: Tensor) -> float:
    """Return the share of images that have a form in common with one of the others."""
    seen = image_fingerprints(examples(among))
    return float(np.isin(image_fingerprints(examples(images)), seen).any(axis=1).mean())


def noise(channels: int, side: int, seed: int = 0, count: int = 30) -> Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(256, size=(count, channels, side, side), dtype=np.uint8))


def per_channel(images: Tensor) -> Tensor:
    mean, std = torch.tensor([0.49, 0.48, 0.44]), torch.tensor([0.247, 0.243, 0.261])
    return (images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def framed(images: Tensor, side: int) -> Tensor:
    """Return images in the middle of a black square."""
    left, top = ((side - own) // 2 for own in (images.shape[3], images.shape[2]))
    return nn.functional.pad(images, (left, side - images.shape[3] - left, top, side - images.shape[2] - top))


COLOUR: dict[str, Callable[[Tensor], Tensor]] = {
    "the same": lambda x: x,
    "floating point": lambda x: x.float(),
    "0 .. 1": lambda x: x / 255,
    "-1 .. 1": lambda x: (x / 255 - 0.5) / 0.5,
    "standardised": per_channel,
    "inverted": lambda x: 255 - x,
    "0 .. 1 in half precision": lambda x: (x / 255).half().float(),
    "grey, of half precision": lambda x: grey((x / 255).half().float().mul(255).round().to(torch.uint8)),
    "of less contrast": lambda x: 40 + x.float() / 2,
    "grey": grey,
    "grey, in colour": lambda x: grey(x).expand(-1, 3, -1, -1),
    "grey, in floating point": lambda x: grey(x) / 255,
    "svhn28 of svhn": lambda x: grey(x[:, :, 2:30, 2:30]),
    "svhn28 of svhn in 0 .. 1": lambda x: grey(x[:, :, 2:30, 2:30]) / 255,
    "normalised, then framed with zeros": lambda x: nn.functional.pad(per_channel(x), (3, 3, 3, 3)),
    "in a black frame": lambda x: framed(x, 40),
    "in a white frame, grey": lambda x: nn.functional.pad(grey(x), (3, 3, 3, 3), value=255),
    "flattened grey": lambda x: grey(x).flatten(1),
    "of larger integers": lambda x: x.long(),
    "flattened grey, of larger integers": lambda x: grey(x).flatten(1).long(),
    "flattened grey in 0 .. 1": lambda x: grey(x).flatten(1) / 255,
}

GREY: dict[str, Callable[[Tensor], Tensor]] = {
    "in colour": lambda x: x.expand(-1, 3, -1, -1),
    "standardised, framed with zeros, in colour": lambda x: nn.functional.pad(
        (x / 255 - 0.13) / 0.31, (2, 2, 2, 2)
    ).expand(-1, 3, -1, -1),
    "flattened": lambda x: x.flatten(1).float(),
    "flattened bytes": lambda x: x.flatten(1),
    "flattened, in one row": lambda x: x.flatten(1)[:, None, None].float(),
    "of larger integers": lambda x: x.long(),
    "flattened, of larger integers": lambda x: x.flatten(1).int(),
    "in half precision": lambda x: (x / 255).half().float(),
    "-1 .. 1 in half precision": lambda x: (x / 127.5 - 1).half().float(),
    "inverted and framed": lambda x: framed(255 - x, 32),
}


@pytest.mark.parametrize("form", COLOUR)
def test_colour_images_in_another_form(form: str) -> None:
    images = noise(3, 32)
    assert recognised(COLOUR[form](images), images) == 1.0
    assert recognised(images, COLOUR[form](images)) == 1.0
    assert recognised(COLOUR[form](noise(3, 32, seed=1)), images) == 0.0


@pytest.mark.parametrize("form", GREY)
def test_grey_images_in_another_form(form: str) -> None:
    """Strokes on black, whose own border is a frame."""
    images = torch.zeros((30, 1, 28, 28), dtype=torch.uint8)
    images[:, :, 5:22, 7:20] = noise(1, 17)[..., :13] * (noise(1, 17, seed=2)[..., :13] > 128)
    assert recognised(GREY[form](images), images) == 1.0
    assert recognised(images, GREY[form](images)) == 1.0
    assert recognised(GREY[form](images), images.roll(1, dims=-1)) == 0.0


def test_images_that_are_told_apart() -> None:
    """They differ in the brightness of a uniform image, in the place of a spot, or in a few pixels."""
    plain = torch.arange(200, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    assert recognised(plain[::2], plain[1::2]) == 0.0
    assert recognised(plain, plain) == 1.0
    spots = torch.zeros((36, 1, 8, 8), dtype=torch.uint8)
    for place in range(36):
        spots[place, 0, 1 + place // 6, 1 + place % 6] = 255
    forms = image_fingerprints(examples(spots))[:, 0]
    assert len(np.unique(forms)) == 36
    colours = torch.from_numpy(np.random.default_rng(0).integers(256, size=(50, 3, 1, 1), dtype=np.uint8))
    assert len(np.unique(image_fingerprints(examples(colours.expand(-1, 3, 8, 8).contiguous()))[:, 0])) == 50
    assert recognised(colours[:25].expand(-1, 3, 8, 8), colours[25:].expand(-1, 3, 8, 8)) == 0.0
    squares = torch.zeros((6, 1, 16, 16), dtype=torch.uint8)
    for half in range(1, 7):
        squares[half - 1, 0, 8 - half : 8 + half, 8 - half : 8 + half] = 200
    assert recognised(squares[::2], squares[1::2]) == 0.0
    assert recognised(255 - squares, squares) == 0.0, "dark on bright is not bright on dark where there is nothing else"
    tiny = torch.arange(81).view(-1, 1, 1, 1) // torch.tensor([27, 9, 3, 1]).view(2, 2) % 3
    assert recognised(tiny[::2].to(torch.uint8), tiny[1::2].to(torch.uint8)) == 0.0


def test_what_one_large_number_hides_is_not_taken_for_the_same() -> None:
    """A value for gaps, or a clock, sets the scale; icons and boards have few values; masks have a small range."""
    random = np.random.default_rng(2)
    gaps = torch.from_numpy(random.normal(size=(60, 1, 8, 8))).float()
    gaps[:, :, :, :4] = -9999
    clock = torch.from_numpy(random.normal(size=(60, 1, 1, 256))).float()
    clock[..., ::2] = 1e6 + torch.arange(128) * 1e4
    boards = torch.from_numpy(random.integers(2, size=(60, 3, 6, 7), dtype=np.uint8))
    masks = torch.from_numpy(random.random((60, 3, 8, 8))).float() * 0.15
    shape = torch.from_numpy(random.random((8, 8)) < 0.5)
    greys = torch.from_numpy(random.permutation(np.arange(1, 121)).reshape(60, 2, 1, 1, 1).astype(np.uint8))
    icons = torch.where(shape, greys[:, 0], greys[:, 1])
    waves = torch.from_numpy(random.random((60, 1, 1, 1)) + 0.1).float() * torch.arange(100).mul(0.1).sin()
    for inputs in (gaps, clock, boards, masks, icons, waves):
        assert recognised(inputs[:30], inputs[30:]) == 0.0
        assert recognised(inputs[:30], inputs) == 1.0


def test_rows_of_a_table_are_told_apart_by_their_values() -> None:
    table = torch.from_numpy(np.random.default_rng(0).integers(4, size=(500, 6))).float()[:, None, None]
    different = torch.unique(table, dim=0)
    assert recognised(different[::2], different[1::2]) == 0.0
    assert recognised(2 * table + 1, table) < 0.5, "other units are other rows"
    assert recognised(table.double().float(), table) == 1.0
    curves = torch.from_numpy(np.random.default_rng(1).random((50, 100))).cumsum(1).float()[:, None, None]
    assert recognised(curves[:25], curves[25:]) == 0.0, "all of them rise"
    words = torch.zeros((300, 1, 1, 1000))
    words[torch.arange(300), 0, 0, torch.arange(300)] = 1 + torch.arange(300.0) % 3
    assert recognised(words[::2], words[1::2]) == 0.0
    zero = torch.zeros((1, 1, 1, 5))
    assert recognised(-zero, zero) == 1.0


def test_bright_bytes_may_be_written_in_either_way() -> None:
    bright = 128 + noise(3, 16) // 2
    for written in (bright / 127.5 - 1, bright / 255):
        assert recognised(written, grey(bright)) == 1.0


def test_one_odd_image_does_not_blind_the_others() -> None:
    images = noise(3, 16) / 255
    images[7] = 0.123456
    images[7, 0, 3, 3] = 0.2
    assert recognised(grey(noise(3, 16)), images) == 29 / 30


@pytest.mark.parametrize("channels", [2, 4])
def test_any_number_of_channels(channels: int) -> None:
    images = noise(channels, 32)
    assert recognised(images / 255, images) == 1.0
    assert recognised(images, noise(channels, 32, seed=1)) == 0.0


def test_a_zero_has_no_sign() -> None:
    images = torch.zeros((2, 1, 4, 4))
    images[1] = -0.0
    assert len(np.unique(exact_fingerprints(examples(images)))) == 1


def test_floating_colours_that_are_no_bytes_have_forms_all_the_same() -> None:
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(70, 3, 8, 8)).astype(np.float32))
    assert recognised(images, images.clone()) == 1.0
    assert recognised(images * 3 - 1, images) == 0.0, "it may be another curve with the same shape"
    images[3:9] = noise(3, 8)[:6] / 255
    assert recognised(images, images.clone()) == 1.0


def test_exact_copies_are_exact() -> None:
    images = noise(1, 8, count=5)
    changed = images.clone()
    changed[2, 0, 0, 0] ^= 1
    both = exact_fingerprints(examples(torch.cat([images, changed])))
    assert [int((both == own).sum()) for own in both[:5]] == [2, 2, 1, 2, 2]


def test_integers_are_also_what_they_are_in_single_precision() -> None:
    """A network of the catalogue gets single precision: examples that it cannot distinguish count as seen."""
    large = (1 << 40) + torch.arange(20).view(10, 2)
    assert recognised(large[:5], large[5:]) == recognised(large.float(), large) == recognised(large, large.float()) == 1
    assert recognised(large, large.clone()) == 1.0
    assert len(np.unique(exact_fingerprints(examples(large)))) == 10
    words = torch.from_numpy(np.random.default_rng(3).integers(50_000, size=(40, 128)))
    assert recognised(words[:20], words[20:]) == 0.0
    assert recognised(words, words.float()) == recognised(words.int(), words) == 1.0
    assert np.array_equal(exact_fingerprints(examples(words)), exact_fingerprints(examples(words.int())))


def test_there_may_be_none() -> None:
    assert image_fingerprints(examples(noise(3, 8, count=0))).shape[0] == 0
    assert exact_fingerprints(examples(noise(3, 8, count=0))).shape == (0,)
