"""Data sets that are absent, truncated, altered or no data sets: refused like any other bad input."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Call = Callable[..., Any]
Arrays = dict[str, Any]


@pytest.fixture
def refused(pactl: Call, tmp_path: Path, tree: Call) -> Call:
    """`refused(dataset, *says)`: training on it is refused with one line, and leaves everything as it was."""

    def check(dataset: str, *says: str, options: tuple[object, ...] = ()) -> None:
        before = tree(tmp_path)
        line = pactl("train", "--dataset", dataset, *options, "--out", tmp_path / "run").complaint(2)
        assert all(text in line for text in says), line
        assert tree(tmp_path) == before

    return check


# --- npz --------------------------------------------------------------------------------------------------------------


def without(*names: str) -> Callable[[Arrays], Arrays]:
    """The arrays but these."""
    return lambda arrays: {name: array for name, array in arrays.items() if name not in names}


def replaced(**changes: Callable[[Any], Any]) -> Callable[[Arrays], Arrays]:
    """The arrays, some of them changed."""
    return lambda arrays: arrays | {name: change(arrays[name]) for name, change in changes.items()}


def with_one(value: object) -> Callable[[Any], Any]:
    """An array as numbers, one of them this."""

    def change(array: Any) -> Any:
        array = array.astype(type(value))
        array.flat[5] = value
        return array

    return change


FAULTS: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "no arrays": (lambda arrays: {}, "x_train"),
    "other names": (
        lambda arrays: {"pictures": arrays["x_train"], "kinds": arrays["y_train"]},
        "no array x_train: it has pictures (300, 8, 8) uint8, kinds (300,)",
    ),
    "two names for one": (lambda arrays: arrays | {"X_train": arrays["x_train"]}, "X_train and x_train may both be"),
    "no x_train": (without("x_train"), "x_train"),
    "no y_train": (without("y_train"), "y_train"),
    "no x_test": (without("x_test"), "x_test"),
    "no y_test": (without("y_test"), "y_test"),
    "fewer labels": (replaced(y_train=lambda y: y[:-1]), "y_train"),
    "more test labels": (replaced(y_test=lambda y: np.r_[y, 0]), "y_test"),
    "empty": (replaced(x_train=lambda x: x[:0], y_train=lambda y: y[:0]), "y_train has no labels"),
    "empty test": (replaced(x_test=lambda x: x[:0], y_test=lambda y: y[:0]), "y_test has no labels"),
    "no pixels": (replaced(x_train=lambda x: x[:, :0], x_test=lambda x: x[:, :0]), "x_train"),
    "NaN": (replaced(x_train=with_one(float("nan"))), "x_train"),
    "infinity in the test set": (replaced(x_train=np.float32, x_test=with_one(float("inf"))), "x_test"),
    "overflows single precision": (replaced(x_train=with_one(1e300)), "x_train"),
    "complex": (replaced(x_train=lambda x: x.astype(complex)), "x_train"),
    "images as text": (replaced(x_train=lambda x: x.astype(str)), "x_train"),
    "images as objects": (replaced(x_train=lambda x: x.astype(object)), "bad.npz"),
    "one dimension": (replaced(x_train=lambda x: x[:, 0, 0]), "x_train"),
    "five dimensions": (replaced(x_train=lambda x: x[:, None, None]), "x_train"),
    "a number": (replaced(x_train=lambda x: np.array(3)), "x_train"),
    "labels of fractions": (replaced(y_train=lambda y: y / 2), "y_train"),
    "labels as objects": (replaced(y_train=lambda y: y.astype(object)), "bad.npz"),
    "labels of two classes at once": (replaced(y_train=lambda y: 1 - np.eye(3, dtype=int)[y]), "y_train"),
    "label a number": (replaced(y_train=lambda y: np.array(3)), "y_train"),
    "negative label": (replaced(y_train=with_one(-1)), "y_train"),
    "huge label": (replaced(y_train=with_one(10**12)), "y_train"),
    "label beyond 64 bits": (replaced(y_train=lambda y: y.astype(np.uint64) + np.uint64(2**64 - 2)), "y_train"),
    "negative test label": (replaced(y_test=with_one(-1)), "y_test"),
    "a single class": (replaced(y_train=np.zeros_like, y_test=np.zeros_like), "single class"),
    "test images of another size": (replaced(x_test=lambda x: x[:, 1:]), "x_test"),
    "test images of another type": (replaced(x_test=np.float32), "x_test"),
    "test images in colour": (replaced(x_test=lambda x: np.stack([x] * 3, -1)), "x_test"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_arrays_that_are_no_data_set(refused: Call, arrays: Arrays, tmp_path: Path, fault: str) -> None:
    spoil, says = FAULTS[fault]
    np.savez(tmp_path / "bad.npz", allow_pickle=True, **spoil(arrays))
    refused(f"npz:{tmp_path / 'bad.npz'}", "bad.npz", says)


def archive(data: bytes, content: Callable[[bytes], bytes]) -> bytes:
    """An npz file with the content of x_train.npy changed, its checksums right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, content(old.read(name)) if name == "x_train.npy" else old.read(name))
    return out.getvalue()


def flipped(data: bytes, place: int) -> bytes:
    """All bits of one byte turned."""
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def listed(data: bytes, offset: int, field: bytes) -> bytes:
    """An archive with a field of its first directory entry replaced."""
    place = data.index(b"PK\x01\x02") + offset
    return data[:place] + field + data[place + len(field) :]


FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "half": lambda data: data[: len(data) // 2],
    "without its end": lambda data: data[:-30],
    "without its beginning": lambda data: data[30:],
    "a pixel altered": lambda data: flipped(data, 3000),
    "a header altered": lambda data: flipped(data, 75),
    "text": lambda data: b"x_train = 3",
    "a pickle": lambda data: b"\x80\x04N.",
    "an array alone": lambda data: zipfile.ZipFile(io.BytesIO(data)).read("x_train.npy"),
    "member without magic": lambda data: archive(data, lambda member: b"x" + member[1:]),
    "member truncated": lambda data: archive(data, lambda member: member[:-1]),
    "member empty": lambda data: archive(data, lambda member: b""),
    "member with a mad header": lambda data: archive(data, lambda member: member.replace(b"(300,", b"((((,")),
    "member too large for memory": lambda data: archive(
        data, lambda member: member.replace(b"(300, 8, 8), }          ", b"(9999999999, 88888, 8), }")
    ),
    "encrypted": lambda data: listed(data, 8, b"\x01\x00"),
    "compressed in an unknown way": lambda data: listed(data, 10, b"\x63\x00"),
}


@pytest.mark.parametrize("fault", FILES)
def test_files_that_are_no_archive_of_arrays(refused: Call, npz: Path, tmp_path: Path, fault: str) -> None:
    data = FILES[fault](npz.read_bytes())
    assert data != npz.read_bytes(), "the fault must be one"
    (tmp_path / "bad.npz").write_bytes(data)
    refused(f"npz:{tmp_path / 'bad.npz'}", "--dataset", "bad.npz")


@pytest.mark.slow
def test_any_byte_of_an_archive_may_be_altered(pactl: Call, arrays: Arrays, tmp_path: Path) -> None:
    """Each is either refused with one line, or harmless."""
    small = {name: array[:3] for name, array in arrays.items()}
    np.savez(tmp_path / "good.npz", **small)
    good = (tmp_path / "good.npz").read_bytes()
    for place in range(len(good)):
        (tmp_path / "bad.npz").write_bytes(flipped(good, place))
        done = pactl("train", "--dataset", f"npz:{tmp_path / 'bad.npz'}", "--epochs", 1, "--out", "run", "--force")
        assert not done.code or done.complaint(2)


@pytest.mark.parametrize("place", ["absent.npz", "folder", "~absent/x.npz"])
def test_an_archive_that_is_not_there(refused: Call, tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    refused(f"npz:{place}", "--dataset", place)


def test_small_images_are_refused_by_networks_that_need_larger(refused: Call, npz: Path, tmp_path: Path) -> None:
    refused(f"npz:{npz}", "--model-name", "16 x 16", options=("--model-name", "lenet5"))
    np.savez(
        tmp_path / "features.npz",
        x_train=np.random.default_rng(0).random((30, 5), np.float32),
        y_train=np.arange(30) % 2,
    )
    refused(f"npz:{tmp_path / 'features.npz'}", "--model-name", options=("--model-name", "layer13s"))


def test_batch_statistics_need_examples(refused: Call, npz: Path) -> None:
    for count in (0, 1):
        refused(
            f"npz:{npz}",
            "--calibration-examples",
            options=("--model-name", "layer13s", "--calibration-examples", count),
        )


# --- Folders ----------------------------------------------------------------------------------------------------------


def picture(path: Path, size: tuple[int, int] = (8, 8)) -> None:
    """A grey image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 256, size[::-1], dtype=np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, three training images and a test image each."""
    place = tmp_path / "pictures"
    for name in ("cat", "dog"):
        for number in range(3):
            picture(place / "train" / name / f"{number}.png")
        picture(place / "test" / name / "0.png")
    return place


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it."""
    for item in sorted(path.rglob("*"), reverse=True):
        item.rmdir() if item.is_dir() else item.unlink()
    path.rmdir() if path.is_dir() else path.unlink()


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Alters a file."""
    path.write_bytes(change(path.read_bytes()))


PICTURES: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (remove, "pictures"),
    "no train": (lambda place: remove(place / "train"), "train"),
    "train a file": (lambda place: [remove(place / "train"), (place / "train").write_text("")], "train"),
    "train empty": (lambda place: [remove(place / "train"), (place / "train").mkdir()], "train"),
    "images without classes": (lambda place: [remove(place / "train"), picture(place / "train" / "0.png")], "train"),
    "one class": (lambda place: [remove(place / part / "dog") for part in ("train", "test")], "single class"),
    "an empty class": (lambda place: [remove(f) for f in (place / "train" / "dog").iterdir()], "dog"),
    "a class without images": (
        lambda place: [f.rename(f.with_suffix(".txt")) for f in (place / "train" / "dog").iterdir()],
        "dog",
    ),
    "test has another class": (lambda place: picture(place / "test" / "emu" / "0.png"), "test"),
    "test renames a class": (lambda place: (place / "test" / "dog").rename(place / "test" / "cow"), "test"),
    "unreadable": (lambda place: (place / "train" / "cat" / "1.png").write_text("no image"), "1.png"),
    "empty image": (lambda place: (place / "train" / "cat" / "1.png").write_text(""), "1.png"),
    "truncated": (
        lambda place: damage(place / "train" / "dog" / "2.png", lambda data: data[: len(data) // 2]),
        "2.png",
    ),
    "altered": (lambda place: damage(place / "train" / "dog" / "2.png", lambda data: flipped(data, 50)), "2.png"),
    "sizes differ": (lambda place: picture(place / "train" / "dog" / "2.png", (9, 8)), "2.png"),
    "test size differs": (lambda place: picture(place / "test" / "dog" / "0.png", (8, 9)), "0.png"),
}


def test_a_folder_of_pictures_is_a_data_set(pactl: Call, folder: Path) -> None:
    options = ("--epochs", 1, "--model-name", "fc", "--intrinsic-dim", 2)
    assert pactl("train", "--dataset", f"folder:{folder}", *options).code == 0


@pytest.mark.parametrize("fault", PICTURES)
def test_folders_that_are_no_data_set(refused: Call, folder: Path, fault: str) -> None:
    spoil, says = PICTURES[fault]
    spoil(folder)
    refused(f"folder:{folder}", "--dataset", says, options=("--model-name", "fc"))


# --- MNIST ------------------------------------------------------------------------------------------------------------

MNIST = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def test_mnist_that_is_not_there_and_cannot_be_fetched(refused: Call, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    refused("mnist", str(tmp_path / "data"), "--data-dir", "MNIST/raw", options=("--data-dir", tmp_path / "data"))


def test_the_default_directory_is_made_where_something_is_fetched(pactl: Call, tmp_path: Path) -> None:
    line = pactl("train", "--dataset", "mnist").complaint(2)
    assert str(tmp_path) in line, "where it was looked for"
    assert "No such file" not in line, "it was the network that failed"


@pytest.mark.parametrize("name", MNIST)
def test_mnist_that_is_incomplete_or_altered(refused: Call, tmp_path: Path, name: str) -> None:
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / name).write_bytes(b"\0\0\x08\x03")
    refused("mnist", str(raw), options=("--data-dir", tmp_path / "data"))


@pytest.mark.parametrize("name", MNIST)
@pytest.mark.parametrize("change", ["truncated", "altered", "gone"])
def test_real_mnist_with_one_bad_file(refused: Call, tmp_path: Path, data_dir: Path, name: str, change: str) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for other in MNIST:
        if other != name:
            (raw / other).symlink_to(data_dir / "MNIST" / "raw" / other)
    data = (data_dir / "MNIST" / "raw" / name).read_bytes()
    if change != "gone":
        (raw / name).write_bytes(data[:-1] if change == "truncated" else flipped(data, 5000))
    refused("mnist", str(raw / name), options=("--data-dir", tmp_path))


# --- Other published data sets ----------------------------------------------------------------------------------------

PUBLISHED = {
    "fmnist": ("FashionMNIST/raw", "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    "svhn": ("svhn", "train_32x32.mat", "test_32x32.mat"),
    "svhn28": ("svhn", "train_32x32.mat", "test_32x32.mat"),
    "cifar10": ("cifar-10-batches-py", "data_batch_3", "test_batch"),
    "cifar100": ("cifar-100-python", "train", "meta"),
    "tiny-imagenet": ("", "tiny-imagenet-200.zip"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_data_set_that_is_not_there_and_cannot_be_fetched(refused: Call, tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    folder, *_ = PUBLISHED[name]
    refused(name, f"{name} is not in {tmp_path / 'data'}", "--data-dir", folder, options=("--data-dir", "data"))


@pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"\0\0\x08\x03", b"PK\x03\x04"])
@pytest.mark.parametrize(("name", "file"), [(name, file) for name, (_, *files) in PUBLISHED.items() for file in files])
def test_a_data_set_that_is_incomplete_or_altered(
    refused: Call, tmp_path: Path, name: str, file: str, content: bytes
) -> None:
    folder = tmp_path / "data" / PUBLISHED[name][0]
    folder.mkdir(parents=True)
    (folder / file).write_bytes(content)
    refused(name, str(folder), "downloaded again", options=("--data-dir", tmp_path / "data"))


@pytest.mark.parametrize("place", ["wnids.txt", "train/n01443537/images", "val/val_annotations.txt"])
def test_tiny_imagenet_unpacked_in_part(refused: Call, tmp_path: Path, place: str) -> None:
    folder = tmp_path / "data" / "tiny-imagenet-200"
    for name in ("train/n01443537/images", "val/images"):
        (folder / name).mkdir(parents=True)
    (folder / "wnids.txt").write_text("n01443537\n")
    (folder / "val" / "val_annotations.txt").write_text("")
    remove(folder / place)
    refused("tiny-imagenet", str(folder / place), options=("--data-dir", tmp_path / "data"))
