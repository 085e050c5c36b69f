"""`--image-size` scales the shorter side and crops the centre, with the same bits in memory, by batch, from files."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from pactl_cli.data import lazy_examples, streaming
from pactl_cli.data.adaptation import grey, recoloured
from pactl_cli.data.dataset import Examples
from pactl_cli.data.files.decoding import Frame
from pactl_cli.data.lazy_examples import LazyExamples
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.reading import Reading
from pactl_cli.data.recognition import image_fingerprints
from pactl_cli.data.streaming import FileExamples
from pactl_cli.errors import PactlError

RNG = np.random.default_rng(0)
WIDE = RNG.integers(0, 256, (6, 9, 14, 3), dtype=np.uint8)

Array = np.ndarray[Any, Any]


def arrays(path: Path, images: Array) -> str:
    np.savez(path, x_train=images, y_train=np.arange(len(images)) % 2)
    return f"npz:{path}"


def sized(name: str, size: int | None, place: Path) -> Any:
    return load_dataset(name, place / "data", reading=Reading(image_size=size))


def folder(place: Path, images: list[Array], extension: str = "png") -> str:
    """Write images to two classes in turn, in a fixed order, and return the data set's name."""
    for number, image in enumerate(images):
        path = place / "train" / ("cat", "dog")[number % 2] / f"{number:03}.{extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return f"folder:{place}"


MANY = [RNG.integers(0, 256, (8 + n % 5, 11 - n % 4, 3), dtype=np.uint8) for n in range(12)]
IN_ORDER = [*MANY[::2], *MANY[1::2]]


# --- One image --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 9, 20])
def test_images_in_memory_are_scaled_as_torchvision_scales_pictures(tmp_path: Path, size: int) -> None:
    transform = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])
    expected = np.stack([np.moveaxis(np.asarray(transform(Image.fromarray(image))), -1, 0) for image in WIDE])
    found = sized(arrays(tmp_path / "x.npz", WIDE), size, tmp_path).train
    np.testing.assert_array_equal(found.images.numpy(), expected)


def test_the_bits_are_the_same_everywhere(tmp_path: Path) -> None:
    ramp = (np.arange(2 * 30 * 21) * 7 % 251).astype(np.uint8).reshape(2, 30, 21)
    found = sized(arrays(tmp_path / "x.npz", ramp), 8, tmp_path).train.images.numpy()
    expected = "6c522585f62dbe0409904ce11a5b15b9c75b1b9dc61dc26c4cd73aa5c07d9727"
    assert sha256(found.tobytes()).hexdigest() == expected


def test_scaling_averages_over_what_a_pixel_covers(tmp_path: Path) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (2, 64, 32))
    assert np.abs(sized(arrays(tmp_path / "x.npz", stripes), 8, tmp_path).train.images.numpy() - 127.5).max() < 5


def test_floats_stay_floats(tmp_path: Path) -> None:
    found = sized(arrays(tmp_path / "x.npz", WIDE.astype(np.float32) / 255), 6, tmp_path).train.images
    assert found.dtype == torch.float32
    of_bytes = sized(arrays(tmp_path / "y.npz", WIDE), 6, tmp_path).train.images
    assert (255 * found - of_bytes).abs().max() < 1.01


def test_a_very_long_picture_takes_no_more_memory_than_its_middle(tmp_path: Path) -> None:
    long = np.zeros((1, 60_000, 3), np.uint8)
    long[:, 29_990:30_010] = 200
    assert (sized(folder(tmp_path, [long, long]), 1024, tmp_path).train.images == 200).all(), "else it takes 188 GB"


def test_images_of_that_size_are_left_alone(tmp_path: Path) -> None:
    square = WIDE[:, :9, :9]
    found, plain = (sized(arrays(tmp_path / "x.npz", square), size, tmp_path) for size in (9, None))
    assert torch.equal(found.train.images, plain.train.images)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros((4, 7), np.float32), "not images"),
        (np.zeros((4, 7), np.int64), "not images"),
        (np.zeros((4, 3, 5, 5), np.int64), "integers of 64 bits"),
    ],
)
def test_what_cannot_be_scaled_is_refused(tmp_path: Path, images: Array, says: str) -> None:
    with pytest.raises(PactlError, match=f"--image-size 4: .*{says}"):
        sized(arrays(tmp_path / "x.npz", images), 4, tmp_path)


def test_a_named_data_set_is_scaled(tmp_path: Path) -> None:
    found: Any = sized("digits", 12, tmp_path)
    assert found.test.images.shape == (360, 1, 12, 12)
    transform = transforms.Resize(12)
    first = load_dataset("digits", tmp_path).train.resident().images[0, 0].numpy()
    np.testing.assert_array_equal(found.train.images[0, 0].numpy(), np.asarray(transform(Image.fromarray(first))))


# --- Memory -----------------------------------------------------------------------------------------------------------


def little_memory(monkeypatch: pytest.MonkeyPatch, size_bytes: int) -> None:
    for module in (lazy_examples, streaming):
        monkeypatch.setattr(module, "available_memory", lambda: size_bytes)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_what_does_not_fit_into_memory_is_scaled_by_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    name = arrays(tmp_path / "x.npz", WIDE.astype(kind))
    expected = sized(name, 20, tmp_path).train
    little_memory(monkeypatch, 2 * 6 * 3 * 400 - 1)
    found = sized(name, 20, tmp_path).train
    assert isinstance(expected, Examples)
    assert isinstance(found, LazyExamples)
    assert (found.spec, found.sha256()) == (expected.spec, expected.sha256())
    part = torch.tensor([4, 0, 5])
    assert torch.equal(found[part].resident().images, expected[part].images)


def test_files_that_do_not_fit_into_memory_are_scaled_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, images in (("several", MANY), ("one", [image[:8, :8] for image in MANY])):
        name = folder(tmp_path / place, images)
        expected = sized(name, 6, tmp_path).train
        with monkeypatch.context() as patched:
            little_memory(patched, 2 * 12 * 3 * 36 - 1)
            found = sized(name, 6, tmp_path).train
        assert isinstance(found, FileExamples)
        found = found.with_workers(0)
        assert torch.equal(found.resident().images, expected.images)
        assert found.sha256() == expected.sha256()
        assert found.assumptions == ()
        np.testing.assert_array_equal(image_fingerprints(found), image_fingerprints(expected))


# --- Folders of several sizes -----------------------------------------------------------------------------------------


def test_several_sizes_need_one(tmp_path: Path) -> None:
    name = folder(tmp_path, [RNG.integers(0, 256, (n, 900, 3), dtype=np.uint8) for n in (70, 96, 110, 500)])
    with pytest.raises(PactlError, match=r"sizes: 1 of 4 have the size 70 x 900, .*png has \d+ x 900") as caught:
        sized(name, None, tmp_path)
    assert "--image-size 96 scales" in caught.value.hint
    assert sized(name, 96, tmp_path).spec.image_shape == (3, 96, 96)


def test_pictures_of_several_sizes_are_scaled(tmp_path: Path) -> None:
    name = folder(tmp_path, MANY)
    frame = Frame.square(3, 6)
    expected = np.stack([np.moveaxis(np.asarray(frame.fit(Image.fromarray(image))), -1, 0) for image in IN_ORDER])
    for _ in range(2):  # decoded, and from the cache
        np.testing.assert_array_equal(sized(name, 6, tmp_path).train.images.numpy(), expected)
    assert sized(name, 7, tmp_path).spec.image_shape == (3, 7, 7)


def original(name: str, size: int | None, place: Path) -> Any:
    return load_dataset(name, place / "data", reading=Reading(image_size=size), original=True)


def test_the_fingerprint_of_what_is_scaled_says_nothing_of_the_size(tmp_path: Path) -> None:
    several, one = folder(tmp_path / "several", MANY), folder(tmp_path / "one", [image[:8, :8] for image in MANY])
    assert len({original(several, size, tmp_path).train.sha256() for size in (None, 4, 9)}) == 1
    assert {original(one, size, tmp_path).train.sha256() for size in (None, 4, 9)} == {
        sized(one, None, tmp_path).train.sha256()
    }
    assert sized(several, 4, tmp_path).train.sha256() != sized(several, 9, tmp_path).train.sha256()
    before = original(several, 4, tmp_path).train.sha256()
    path = tmp_path / "several" / "train" / "cat" / "000.png"
    Image.open(path).save(path, compress_level=1)
    assert original(several, 4, tmp_path).train.sha256() != before


def test_a_picture_of_several_sizes_is_known_again_among_those_of_one(tmp_path: Path) -> None:
    square = [image[:8, :8] for image in MANY[:4]]
    one = original(folder(tmp_path / "one", square), None, tmp_path).train
    several = original(folder(tmp_path / "several", [*square, *MANY[4:]], "bmp"), None, tmp_path).train
    seen = np.isin(image_fingerprints(several.with_workers(0)), image_fingerprints(one)).any(axis=1)
    assert seen.tolist() == [number < 4 for number in (*range(0, 12, 2), *range(1, 12, 2))]


def test_channels_are_changed_by_batch_where_they_do_not_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "colour.npz", x_train=images, y_train=np.arange(6) % 2)
    dataset = load_dataset(f"npz:{tmp_path / 'colour.npz'}", tmp_path)
    at_once = recoloured(dataset, 1).train
    assert isinstance(at_once, Examples)
    little_memory(monkeypatch, 100)
    by_parts = recoloured(dataset, 1).train
    assert isinstance(by_parts, LazyExamples)
    assert by_parts.sha256() == at_once.sha256()
    assert torch.equal(by_parts.resident().images, grey(torch.from_numpy(images).movedim(3, 1)))


def test_grey_is_rounded_and_stays_within_a_byte() -> None:
    corners = torch.cartesian_prod(*[torch.tensor([0, 1, 127, 128, 254, 255])] * 3).to(torch.uint8)
    many = corners.repeat(40, 1).view(-1, 3, 1, 1)
    exact = (19595 * many[:, 0].double() + 38470 * many[:, 1].double() + 7471 * many[:, 2].double()) / 65536
    assert torch.equal(grey(many)[:, 0].double(), torch.floor(exact + 0.5))
    assert grey(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)).tolist() == [[[[255, 255], [255, 255]]]]
