"""`--image-size` from training to verification: paid for, compared, comparable, and remembered by a source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pactl_cli.data.loading import load_dataset
from pactl_cli.data.reading import Reading

Call = Callable[..., Any]

QUICK = ("--model-name", "fc", "--epochs", 2, "--intrinsic-dim", 5)


@pytest.fixture
def photographs(tmp_path: Path) -> str:
    """Pictures of many sizes in two classes, dark and bright, with a test set that lacks one, and a file of no use."""
    random = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 6)):
        for label, level in (("<b>night", 40), ("day", 200)):
            for number in range(count if part == "train" or label == "day" else 0):
                shape = (int(random.integers(9, 20)), int(random.integers(9, 20)), 3)
                path = tmp_path / "photographs" / part / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(level - 40, level + 40, shape, dtype=np.uint8)).save(path)
    (tmp_path / "photographs" / "train" / "day" / "raw.nef").write_bytes(b"")
    return f"folder:{tmp_path / 'photographs'}"


def test_photographs_from_folders_to_a_page(pactl: Call, photographs: str) -> None:
    assert "--image-size 1" in pactl("train", "--dataset", photographs, *QUICK, "--out", "run").complaint(2)
    done = pactl("train", "--dataset", photographs, "--image-size", 8, *QUICK, "--out", "run")
    assert (done.code, done.out) == (0, "run\n")
    assert "1 .nef" in done.err
    settings = yaml.safe_load(Path("run/config.yml").read_text())
    assert (settings["image_size"], settings["class_names"]) == (8, ["<b>night", "day"])
    document = pactl("bound", "run", "--quant-epochs", 1).json()
    assert document["configuration"]["image_size"] == 8
    assert document["side_information"]["class_names"] == ["<b>night", "day"]
    assert document["side_information"]["inputs"]["tensors"]["inputs"]["shape"] == [3, 8, 8]
    verified = pactl("verify", "run")
    assert (verified.code, ".nef" in verified.err) == (0, False), "said once, to who names the data"
    assert pactl("report", "run", "--html", "page.html").code == 0
    page = Path("page.html").read_text("utf-8")
    assert "<dt>classes</dt><dd>&lt;b&gt;night, day</dd>" in page
    assert "<b>night" not in page


def test_photographs_without_a_test_set(pactl: Call, photographs: str) -> None:
    folder = f"{photographs}/train"
    assert pactl("train", "--dataset", folder, "--image-size", 8, *QUICK, "--out", "run").code == 0
    document = pactl("bound", "run", "--quant-epochs", 1).json()
    assert (document["test_error"], document["test_examples"]) == (None, 0)


def test_the_size_is_paid_for_and_runs_of_any_size_are_comparable(pactl: Call, npz: Path) -> None:
    sizes: dict[str, tuple[object, ...]] = {"own": (), "small": ("--image-size", 5), "large": ("--image-size", 12)}
    bits, populations = {}, set()
    for name, options in sizes.items():
        assert pactl("train", "--dataset", f"npz:{npz}", *QUICK, *options, "--out", name).code == 0
        document = pactl("bound", name, "--quant-epochs", 1).json()
        bits[name] = document["bits"]["configuration"]
        populations.add(document["side_information"]["train_sha256"])
        assert pactl("verify", name).code == 0
    assert len(populations) == 1
    assert bits["own"] < bits["small"] < bits["large"]
    best = pactl("bound", *sizes, "--quant-epochs", 1)
    assert best.code == 0, best.err


def test_pictures_of_several_sizes_are_comparable_too(pactl: Call, photographs: str) -> None:
    for size in (4, 9):
        assert pactl("train", "--dataset", photographs, "--image-size", size, *QUICK, "--out", f"r{size}").code == 0
    assert pactl("bound", "r4", "r9", "--quant-epochs", 1).code == 0
    assert pactl("verify", "r9").code == 0
    path = next(Path("photographs/train/day").glob("*.png"))
    path.write_bytes(path.read_bytes() + b"\0")
    assert "its training set differs" in pactl("verify", "r9").complaint(1)


def test_another_size_than_the_messages_is_found(pactl: Call, npz: Path, agree: Call) -> None:
    assert pactl("train", "--dataset", f"npz:{npz}", *QUICK, "--image-size", 5, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 1).code == 0
    settings = yaml.safe_load(Path("run/config.yml").read_text())
    for size in (6, None):
        agree(Path("run"), "config.yml", yaml.safe_dump(settings | {"image_size": size}).encode())
        assert "verification failed" in pactl("verify", "run").complaint(1)


@pytest.mark.parametrize(("source", "target"), [((), (5,)), ((5,), ()), ((5,), (12,)), ((12,), (12,))])
def test_a_source_knows_what_it_has_seen_in_any_size(
    pactl: Call, npz: Path, arrays: dict[str, Any], source: tuple[int, ...], target: tuple[int, ...]
) -> None:
    def size(of: tuple[int, ...]) -> tuple[object, ...]:
        return ("--image-size", *of) if of else ()

    half = {name: values[: len(values) // 2] for name, values in arrays.items()}
    np.savez("half.npz", **half)
    layer13s = ("--model-name", "layer13s", "--base-width", 2)
    small = ("--epochs", 1, "--intrinsic-dim", 5)
    assert pactl("train", "--dataset", "npz:half.npz", *layer13s, *small, *size(source), "--out", "source").code == 0
    assert pactl("transfer", "source", "--dataset", f"npz:{npz}", *small, *size(target), "--out", "run").code == 0
    document = pactl("bound", "run", "--quant-epochs", 1).json()
    assert document["side_information"]["excluded_examples"] == 150
    assert document["configuration"]["image_size"] == (*target, *source, 8)[0]
    assert pactl("verify", "run").code == 0


def test_a_source_knows_pictures_of_several_sizes_in_arrays(pactl: Call, photographs: str) -> None:
    small = ("--model-name", "layer13s", "--base-width", 2, "--epochs", 1, "--intrinsic-dim", 5)
    assert pactl("train", "--dataset", photographs, "--image-size", 8, *small, "--out", "source").code == 0
    paths = sorted(Path("photographs/train").rglob("*.png"))
    height, width = np.asarray(Image.open(paths[0])).shape[:2]
    known = [np.asarray(Image.open(path)) for path in paths]
    known = [image for image in known if image.shape == (height, width, 3)]
    new = np.random.default_rng(1).integers(0, 256, (20, height, width, 3), dtype=np.uint8)
    np.savez("own.npz", x_train=np.concatenate([known, new]), y_train=np.arange(len(known) + 20) % 2)
    assert pactl("transfer", "source", "--dataset", "npz:own.npz", *small[4:], "--out", "run").code == 0
    document = pactl("bound", "run", "--quant-epochs", 1).json()
    assert document["side_information"]["excluded_examples"] == len(known)


def test_pictures_that_were_enlarged_for_the_source_are_known_in_a_third_size(pactl: Call, npz: Path) -> None:
    """Its data were saved at 12 x 12, by the program's own resizing; the target has the originals, and says 10 x 10."""
    large = load_dataset(f"npz:{npz}", Path(), reading=Reading(image_size=12)).train.resident()
    np.savez("large.npz", x_train=large.images[:, 0].numpy()[:100], y_train=large.labels.numpy()[:100])
    train = ("train", "--dataset", "npz:large.npz", "--model-name", "resnet20", "--base-width", 2, "--epochs", 1)
    assert pactl(*train, "--intrinsic-dim", 0, "--out", "source").code == 0
    again = ("transfer", "source", "--dataset", f"npz:{npz}", "--image-size", 10, "--intrinsic-dim", 0)
    assert pactl(*again, "--out", "run").code == 0
    with np.load("run/indices.npz") as parts:
        assert parts["excluded"].tolist() == list(range(100))
    assert pactl("bound", "run").code == pactl("verify", "run").code == 0
