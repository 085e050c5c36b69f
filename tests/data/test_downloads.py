"""Published data sets: downloaded from a server, found where users have them, and refused if they are not right."""

from __future__ import annotations

import gc
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from pactl_cli import catalogue
from pactl_cli.data.dataset import Dataset
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.published.idx_files import MNIST_SHA256
from pactl_cli.errors import MissingError, PactlError

ALL = ("fmnist", "cifar10", "cifar100", "svhn", "tiny-imagenet")
SMALL = ALL[1:]
Tree = Callable[[Path], set[str]]

each = pytest.mark.parametrize("made", ALL, indirect=True)
each_small = pytest.mark.parametrize("made", SMALL, indirect=True)


def assert_holds(dataset: Any, made: Any) -> None:
    """Check that the data set is the one that was made."""
    for examples, (images, labels) in ((dataset.train, made.train), (dataset.test, made.test)):
        assert examples is not None
        assert examples.images.dtype == torch.uint8
        assert examples.labels.dtype == torch.int64
        np.testing.assert_array_equal(examples.images.numpy(), images)
        np.testing.assert_array_equal(examples.labels.numpy(), labels)


def flipped(content: bytes) -> bytes:
    """Return the content with a bit in its middle flipped."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_every_row_of_the_catalogue_has_a_loader() -> None:
    assert all(callable(row.maker()) for row in catalogue.DATASETS.values())


# --- Downloads --------------------------------------------------------------------------------------------------------


@each
def test_what_is_absent_is_fetched_once(
    made: Any, server: Any, tmp_path: Path, tree: Tree, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int]] = []
    dataset = load_dataset(made.name, tmp_path / "new" / "data", lambda done, total: seen.append((done, total)))
    assert_holds(dataset, made)
    assert capfd.readouterr() == ("", ""), "stdout is for data, and the bar is the caller's"
    whole = sum(map(len, made.served.values()))
    assert (whole, whole) in seen
    assert tree(tmp_path / "new" / "data") == made.layout.keys()
    assert_holds(load_dataset(made.name, tmp_path / "new" / "data"), made)
    assert server.given == dict.fromkeys(made.served, 1)


@each
@pytest.mark.parametrize("fault", ["truncated", "altered", "another file", "absent"])
def test_a_bad_server_leaves_nothing(made: Any, server: Any, tmp_path: Path, fault: str) -> None:
    name = max(made.served)
    if fault == "truncated":
        server.cut = min(map(len, made.served.values())) - 1
    elif fault == "altered":
        server.files[name] = flipped(server.files[name])
    elif fault == "another file":
        server.files[name] = b"<html>We have moved.</html>"
    else:
        del server.files[name]
    with pytest.raises(MissingError, match=f"{made.name} is not in {tmp_path}") as caught:
        load_dataset(made.name, tmp_path)
    line = caught.value.one_line()
    assert server.url in line
    assert ("404" if fault == "absent" else "truncated or altered") in line
    assert "--data-dir" in line
    assert not list(tmp_path.iterdir())
    del caught
    with warnings.catch_warnings(action="ignore"):  # torchvision leaves open what a mirror of MNIST has answered
        gc.collect()


@each_small
def test_what_a_killed_download_left_is_not_taken_for_data(made: Any, server: Any, tmp_path: Path, tree: Tree) -> None:
    (tmp_path / f".{made.name}.lock").touch()
    for path in made.layout:
        rest = tmp_path / f".{made.name}.partial" / path
        rest.parent.mkdir(parents=True, exist_ok=True)
        rest.write_bytes(b"a beginning")
    assert_holds(load_dataset(made.name, tmp_path), made)
    assert tree(tmp_path) == made.layout.keys()
    assert server.given


@each_small
def test_who_waits_for_another_download_finds_its_data(made: Any, server: Any, tmp_path: Path, tree: Tree) -> None:
    found: list[Dataset] = []
    thread = Thread(target=lambda: found.append(load_dataset(made.name, tmp_path)))
    with FileLock(tmp_path / f".{made.name}.lock"):
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        made.write(tmp_path)
        (tmp_path / f".{made.name}.lock").unlink()
    thread.join(30)
    assert_holds(found[0], made)
    assert not server.given
    assert tree(tmp_path) == made.layout.keys()


LOAD = """
import importlib, json, sys
from dataclasses import replace
from pathlib import Path
from pactl_cli import catalogue
from pactl_cli.data.loading import load_dataset
import torchvision.datasets
name, examples, tables, data_dir = json.load(sys.stdin)
for module, place, attribute, value in tables:
    module = importlib.import_module(module)
    setattr(getattr(module, place) if place else module, attribute, value)
catalogue.DATASETS[name] = replace(catalogue.DATASETS[name], train_examples=examples)
print("ready", flush=True)
dataset = load_dataset(name, Path(data_dir))
print(dataset.train.sha256(), dataset.test.sha256(), flush=True)
"""


def loading(made: Any, server: Any, data_dir: Path, count: int = 1) -> list[subprocess.Popen[str]]:
    """Start processes, each of which is about to load the data set."""
    command = [sys.executable, "-c", LOAD]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(count)]
    for process in processes:
        assert process.stdin is not None
        json.dump([made.name, len(made.train[1]), made.addressed(server.url), str(data_dir)], process.stdin)
        process.stdin.close()
        process.stdin = None
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    return processes


@pytest.mark.slow
@pytest.mark.parametrize("made", ["cifar10", "svhn", "tiny-imagenet"], indirect=True)
def test_two_processes_that_start_the_same_download_end_with_one_good_copy(
    made: Any, server: Any, tmp_path: Path, tree: Tree
) -> None:
    server.open.clear()
    processes = loading(made, server, tmp_path, count=2)
    assert server.asked.wait(30)
    with pytest.raises(subprocess.TimeoutExpired):  # one waits for the server, the other for the one
        processes[0].wait(1)
    assert processes[1].poll() is None
    server.open.set()
    ends = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    mine = load_dataset(made.name, tmp_path)
    assert mine.test is not None
    assert ends == [(f"{mine.train.sha256()} {mine.test.sha256()}\n", "")] * 2
    assert_holds(mine, made)
    assert server.given == dict.fromkeys(made.served, 1)
    decoded = {path for path in tree(tmp_path) if path.startswith("folders/")}  # kept where all this took seconds
    assert tree(tmp_path) - decoded == made.layout.keys()


@pytest.mark.slow
@pytest.mark.parametrize("made", ["cifar10", "tiny-imagenet"], indirect=True)
def test_a_download_that_is_killed_can_be_repeated(made: Any, server: Any, tmp_path: Path, tree: Tree) -> None:
    server.open.clear()
    (process,) = loading(made, server, tmp_path)
    assert server.asked.wait(30)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert tree(tmp_path), "it was at work"
    server.open.set()
    assert_holds(load_dataset(made.name, tmp_path), made)
    assert tree(tmp_path) == made.layout.keys()


# --- Files that are there ---------------------------------------------------------------------------------------------


@each
def test_files_at_hand_are_used(made: Any, server: Any, tmp_path: Path, tree: Tree) -> None:
    assert_holds(load_dataset(made.name, made.write(tmp_path)), made)
    assert not server.given
    assert tree(tmp_path) == made.layout.keys()


@each
def test_a_read_only_directory_will_do(made: Any, tmp_path: Path) -> None:
    made.write(tmp_path).chmod(0o555)
    assert_holds(load_dataset(made.name, tmp_path), made)
    tmp_path.chmod(0o755)


@each
@pytest.mark.parametrize("fault", ["truncated", "altered", "missing"])
def test_each_bad_file_at_hand_is_named(made: Any, server: Any, tmp_path: Path, fault: str) -> None:
    made.write(tmp_path)
    for path, content in made.layout.items():
        if fault == "missing" and (path.endswith(".gz") or len(made.layout) == 1):
            continue  # needed by nobody; or none is left
        if fault == "missing":
            for file in (path, f"{path}.gz"):  # which would do in its place
                (tmp_path / file).unlink(missing_ok=True)
        else:
            (tmp_path / path).write_bytes(content[:-1] if fault == "truncated" else flipped(content))
        with pytest.raises(PactlError, match=str(tmp_path / path)) as caught:
            load_dataset(made.name, tmp_path)
        assert "downloaded again" in caught.value.hint
        assert isinstance(caught.value, MissingError) == (fault == "missing")
        for file in {path, f"{path}.gz"} & made.layout.keys():
            (tmp_path / file).write_bytes(made.layout[file])
    assert not server.given


@pytest.mark.parametrize("made", ["cifar10", "cifar100"], indirect=True)
def test_a_pickle_without_the_right_checksum_is_never_opened(made: Any, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    pickle.loads(pickle.dumps(Trap()))
    (tmp_path / "sprung").rmdir()
    for path, content in made.layout.items():
        made.write(tmp_path)
        (tmp_path / path).write_bytes(pickle.dumps(Trap()))
        with pytest.raises(PactlError, match="truncated or altered"):
            load_dataset(made.name, tmp_path)
        (tmp_path / path).write_bytes(content)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("made", ["cifar10"], indirect=True)
def test_a_folder_in_the_way_is_left_alone(made: Any, server: Any, tmp_path: Path, tree: Tree) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert_holds(load_dataset(made.name, tmp_path), made)
    for path in made.layout:
        (tmp_path / path).unlink()
    (tmp_path / "cifar-10-batches-py" / "notes.txt").write_text("mine")
    server.given.clear()
    with pytest.raises(PactlError, match="in the way"):
        load_dataset(made.name, tmp_path)
    assert tree(tmp_path) == {"cifar-10-batches-py/notes.txt"}
    assert not server.given


# --- Single data sets -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mnist_is_fetched_from_its_archives(
    data_dir: Path, tmp_path: Path, tree: Tree, published: Callable[[Any], Any], idx_files: Any
) -> None:
    mnist: Any = load_dataset("mnist", data_dir)
    parts = [(part.images.numpy(), part.labels.numpy()) for part in (mnist.train, mnist.test) if part is not None]
    made = published(idx_files("mnist", "MNIST", *parts))
    assert_holds(load_dataset("mnist", tmp_path), made)
    assert tree(tmp_path) == made.layout.keys()
    assert {Path(path).name for path in made.layout} == MNIST_SHA256.keys() | made.served.keys()


def test_true_fashion_files_have_the_form_of_mnist(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "FashionMNIST").symlink_to(data_dir / "MNIST")
    assert load_dataset("fmnist", tmp_path).train.sha256() == load_dataset("mnist", data_dir).train.sha256()


@pytest.mark.parametrize("made", ["fmnist"], indirect=True)
def test_fashion_files_alone_are_checked_for_their_form(made: Any, tmp_path: Path) -> None:
    made.write(tmp_path)
    raw = tmp_path / "FashionMNIST" / "raw"
    for archive in raw.glob("*.gz"):
        archive.unlink()
    assert_holds(load_dataset("fmnist", tmp_path), made)
    for name in MNIST_SHA256:
        content = (raw / name).read_bytes()
        bad = {
            "longer": content + b"\0",
            "shorter": content[:-1],
            "empty": b"",
            "of another type": content[:2] + b"\x0d" + content[3:],
            "of another shape": content[:7] + b"\x61" + content[8:],
            "of no shape": content[:4],
        }
        if "labels" in name:
            bad["beyond nine"] = content[:-1] + b"\x0a"
        for change in bad.values():
            (raw / name).write_bytes(change)
            with pytest.raises(PactlError, match=f"{raw / name} is truncated or altered"):
                load_dataset("fmnist", tmp_path)
        (raw / name).write_bytes(content)


@pytest.mark.parametrize("made", ["svhn"], indirect=True)
def test_house_numbers_may_lie_in_the_data_directory_itself(made: Any, server: Any, tmp_path: Path) -> None:
    made.write(tmp_path)
    for file in (tmp_path / "svhn").iterdir():
        file.rename(tmp_path / file.name)
    (tmp_path / "svhn").rmdir()
    assert_holds(load_dataset("svhn", tmp_path), made)
    (tmp_path / "test_32x32.mat").unlink()
    with pytest.raises(PactlError, match=str(tmp_path / "test_32x32.mat")) as caught:
        load_dataset("svhn", tmp_path)
    assert "delete train_32x32.mat and test_32x32.mat" in caught.value.hint, "not the directory"
    assert not server.given


@pytest.mark.parametrize("made", ["svhn"], indirect=True)
def test_small_grey_house_numbers(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(catalogue.DATASETS["svhn28"], train_examples=len(made.train[1]))
    monkeypatch.setitem(catalogue.DATASETS, "svhn28", entry)
    small: Any = load_dataset("svhn28", made.write(tmp_path))
    assert (small.name, small.spec.image_shape) == ("svhn28", (1, 28, 28))
    assert small.test is not None
    for examples, (images, labels) in ((small.train, made.train), (small.test, made.test)):
        assert examples.labels.tolist() == labels.tolist()
        for found, image in zip(examples.images, images, strict=True):
            pillow = Image.fromarray(np.moveaxis(image, 0, -1)).convert("L").crop((2, 2, 30, 30))
            np.testing.assert_array_equal(found[0].numpy(), np.asarray(pillow))


def unpacked(made: Any, place: Path) -> Path:
    """Unpack the archive of Tiny ImageNet, and return the folder."""
    from zipfile import ZipFile

    with ZipFile(io.BytesIO(made.served["tiny-imagenet-200.zip"])) as archive:
        archive.extractall(place)
    return place / "tiny-imagenet-200"


@pytest.mark.parametrize("made", ["tiny-imagenet"], indirect=True)
def test_tiny_imagenet_unpacked(made: Any, server: Any, tmp_path: Path) -> None:
    folder = unpacked(made, tmp_path)
    assert_holds(load_dataset(made.name, tmp_path), made)
    faults: dict[str, Callable[[Path], Any]] = {
        "wnids.txt": Path.unlink,
        "val/val_annotations.txt": Path.unlink,
        "val/images/val_3.JPEG": Path.unlink,
        "train/n01629819/images": lambda path: next(path.iterdir()).unlink(),
        "train/n02085620/images": lambda path: path.rename(path.with_name("others")),
        "train/n01443537/images": lambda path: (path / "more.JPEG").write_bytes(b""),
        "val/images/more.JPEG": lambda path: path.write_bytes(b""),
        "train/n01443537/images/n01443537_00.JPEG": lambda path: path.write_bytes(b""),
    }
    for number, (path, spoil) in enumerate(faults.items()):
        folder = unpacked(made, tmp_path / str(number))
        spoil(folder / path)
        with pytest.raises(PactlError, match=str(folder / path)):
            load_dataset(made.name, folder.parent)
    annotations = folder / "val" / "val_annotations.txt"
    unpacked(made, folder.parent)
    annotations.write_text(annotations.read_text().replace("n02085620", "n00000001"))
    with pytest.raises(PactlError, match="n00000001"):
        load_dataset(made.name, folder.parent)
    assert not server.given


@pytest.mark.parametrize("made", ["tiny-imagenet"], indirect=True)
def test_the_archive_of_tiny_imagenet_goes_before_its_folder(made: Any, tmp_path: Path) -> None:
    made.write(tmp_path)
    (unpacked(made, tmp_path) / "wnids.txt").unlink()
    assert_holds(load_dataset(made.name, tmp_path), made)
