"""Every kind of data set, from intact, truncated and altered files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pactl_cli import catalogue
from pactl_cli.certificate.format import FIXED_STATISTICS
from pactl_cli.data.dataset import Examples
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.published.idx_files import MNIST_SHA256
from pactl_cli.errors import MissingError, PactlError
from pactl_cli.models.inputs import TensorSpec
from pactl_cli.models.preparation import Prepared

RNG = np.random.default_rng(0)


def arrays(**changes: Any) -> dict[str, Any]:
    good = {
        "x_train": RNG.integers(0, 256, (12, 8, 8), dtype=np.uint8),
        "y_train": np.arange(12) % 3,
        "x_test": RNG.integers(0, 256, (6, 8, 8), dtype=np.uint8),
        "y_test": np.arange(6) % 3,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def load_npz(tmp_path: Path, **changes: Any) -> Any:
    np.savez(tmp_path / "data.npz", **arrays(**changes))
    return load_dataset(f"npz:{tmp_path / 'data.npz'}", tmp_path)


def test_digits() -> None:
    digits: Any = load_dataset("digits", Path("unused"))
    assert (len(digits.train), len(digits.test or []), digits.classes, digits.spec.image_shape) == (
        1437,
        360,
        10,
        (1, 8, 8),
    )
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images.max() == 255
    assert digits.train.sha256() == "3f6168b1b1b6ca74cec21f89ab06e548002105c84086ac9fe84e29d1d7b64065"


def test_fingerprint_sees_every_pixel_label_order_and_shape() -> None:
    train: Any = load_dataset("digits", Path("unused")).train
    images, labels = train.images.clone(), train.labels.clone()
    images[700, 0, 3, 3] ^= 1
    labels[1436] += 1
    order = torch.arange(len(train))
    order[:2] = torch.tensor([1, 0])
    others = [
        Examples(images, train.labels),
        Examples(train.images, labels),
        train[order],
        Examples(train.images.view(-1, 1, 4, 16), train.labels),
    ]
    assert len({other.sha256() for other in others} | {train.sha256()}) == 5


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((12, 8, 9), (1, 8, 9)),
        ((12, 8, 9, 3), (3, 8, 9)),
        ((12, 3, 8, 9), (3, 8, 9)),
        ((12, 5), (5,)),
    ],
)
@pytest.mark.parametrize(
    "dtype", [np.uint8, np.float32, np.float64, np.int64, np.int8, ">i2", ">f4", np.uint64, np.uint16]
)
def test_npz_shapes_and_types(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...], dtype: Any) -> None:
    x = RNG.integers(0, 127, shape).astype(dtype)
    data = load_npz(tmp_path, x_train=x, x_test=None, y_test=None)
    integer = torch.uint8 if dtype is np.uint8 else torch.int64
    kind = np.dtype(dtype).kind
    of_rows = "tokens" if kind in "iu" and dtype is not np.uint8 else "features"
    assert data.spec.kind == ("image" if len(expected) == 3 else of_rows)
    assert data.spec.tensors == (("inputs", TensorSpec(expected, torch.float32 if kind == "f" else integer)),)
    assert data.test is None
    assert data.train.inputs.double().sum() == x.astype(np.float64).sum()


def test_npz_keeps_values_in_place(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (12, 8, 9, 3), dtype=np.uint8)
    data = load_npz(tmp_path, x_train=x, x_test=None, y_test=None)
    assert torch.equal(data.train.images, torch.from_numpy(x).permute(0, 3, 1, 2))
    assert data.train.labels.tolist() == [i % 3 for i in range(12)]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"y_train": None}, "no array y_train"),
        ({"x_train": None}, "no array x_train"),
        ({"y_test": None}, "no array y_test"),
        ({"y_train": np.arange(11) % 3}, "12 examples and y_train 11"),
        ({"y_train": np.zeros(12, dtype=int), "x_test": None, "y_test": None}, "single class"),
        ({"x_train": np.full((12, 8, 8), np.nan)}, "not finite"),
        ({"x_train": np.zeros((12, 8, 8), dtype=complex)}, "complex"),
        ({"x_train": np.zeros((12, 2, 2, 2, 2))}, "5 dimensions"),
        ({"x_train": np.zeros((0, 8, 8)), "y_train": np.zeros(0, dtype=int)}, "has no labels"),
        ({"x_test": np.zeros((6, 8, 9), dtype=np.uint8)}, "differ in shape"),
        ({"x_test": np.zeros((6, 8, 8), dtype=np.float32)}, "differ in shape or type"),
        ({"x_train": np.array([{}] * 12)}, "cannot be read"),
        ({"x_train": np.full((12, 8), 1 << 63, dtype=np.uint64)}, "more than 63 bits"),
        ({"x_train": np.zeros((12, 0), dtype=int)}, "is empty"),
        ({"x_train": np.zeros((12, 8), dtype=int), "x_test": np.zeros((6, 8))}, "differ in shape or type"),
    ],
)
def test_npz_that_is_no_data_set(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PactlError, match=complaint):
        load_npz(tmp_path, **changes)


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_truncated_npz(tmp_path: Path, keep: int) -> None:
    np.savez(tmp_path / "whole.npz", **arrays())
    (tmp_path / "data.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:keep])
    with pytest.raises(PactlError, match="cannot be read"):
        load_dataset(f"npz:{tmp_path / 'data.npz'}", tmp_path)


def write_folder(root: Path, parts: dict[str, int], mode: str = "RGB", size: tuple[int, int] = (9, 7)) -> None:
    for part, count in parts.items():
        for label in ("cat", "dog"):
            (root / part / label).mkdir(parents=True)
            for index in range(count):
                shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
                Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8)).save(root / part / label / f"{index}.png")


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
@pytest.mark.parametrize("test", ["test", "val"])
def test_folder(tmp_path: Path, mode: str, channels: int, test: str) -> None:
    write_folder(tmp_path, {"train": 3, test: 2}, mode)
    seen: list[tuple[int, int]] = []
    data: Any = load_dataset(f"folder:{tmp_path}", tmp_path, lambda done, total: seen.append((done, total)))
    assert data.spec.image_shape == (channels, 7, 9)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test is not None
    assert len(data.test) == 4
    assert seen[-1] == (10, 10)
    first = np.asarray(Image.open(tmp_path / "train" / "cat" / "0.png"))
    np.testing.assert_array_equal(data.train.images[0].permute(1, 2, 0).squeeze(-1).numpy(), first)


def test_folder_without_a_test_set(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 2})
    assert load_dataset(f"folder:{tmp_path}", tmp_path).test is None


def test_an_absent_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no folder"):
        load_dataset(f"folder:{tmp_path / 'absent'}", tmp_path)


def test_mnist(data_dir: Path) -> None:
    mnist: Any = load_dataset("mnist", data_dir)
    assert (len(mnist.train), len(mnist.test or []), mnist.classes, mnist.spec.image_shape) == (
        60_000,
        10_000,
        10,
        (1, 28, 28),
    )
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    pixels = mnist.train.images.float() / 255
    assert pixels.mean().item() == pytest.approx(0.1307, abs=1e-4)


@pytest.mark.parametrize("name", MNIST_SHA256)
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_damaged_mnist_is_refused_by_file(tmp_path: Path, data_dir: Path, name: str, damage: str) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for other in MNIST_SHA256:
        (raw / other).symlink_to(data_dir / "MNIST" / "raw" / other)
    content = bytearray((raw / name).read_bytes())
    (raw / name).unlink()
    content[len(content) // 2] ^= 1
    if damage != "missing":
        (raw / name).write_bytes(content[:-1] if damage == "truncated" else content)
    with pytest.raises(PactlError, match=name):
        load_dataset("mnist", tmp_path)


def test_absent_mnist_that_cannot_be_fetched_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(PactlError, match="cannot be downloaded") as caught:
        load_dataset("mnist", tmp_path)
    assert "--data-dir" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_label_noise_touches_train_and_test_once_and_alike() -> None:
    clean: Any = load_dataset("digits", Path("unused"))
    noisy = clean.with_label_noise(0.5)
    assert torch.equal(noisy.train.labels, clean.with_label_noise(0.5).train.labels)
    assert clean.with_label_noise(0) is clean
    assert noisy.test is not None
    assert clean.test is not None
    for before, after in ((clean.train, noisy.train), (clean.test, noisy.test)):
        changed = (before.labels != after.labels).float().mean().item()
        assert changed == pytest.approx(0.45, abs=4 * (0.25 / len(before)) ** 0.5)
    assert torch.equal(noisy.train.inputs, clean.train.inputs)


def prepare(images: torch.Tensor, statistics: catalogue.Statistics) -> torch.Tensor:
    return Prepared(torch.nn.Identity(), statistics, code="")(images)


def test_normalise() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    assert prepare(images, FIXED_STATISTICS).flatten().tolist() == [-1, 1]
    colour = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    out = prepare(colour, ((0.5, 0.25, 0.0), (0.5, 0.25, 0.1)))
    assert out.flatten().tolist() == pytest.approx([1, 3, 10])
    floats = torch.full((1, 1, 2, 2), 7.0)
    assert prepare(floats, FIXED_STATISTICS) is floats
