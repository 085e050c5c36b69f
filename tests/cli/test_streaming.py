"""Data that stream: a small ImageNet through every command, folders too large for memory, workers and signals."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file

from pactl_cli import catalogue
from pactl_cli.data import streaming

Call = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("_warm_workers")


def picture(path: Path, label: int, size: tuple[int, int], random: np.random.Generator) -> None:
    """Noise with more red in it, or more blue."""
    height, width = size
    pixels = np.kron(random.integers(0, 128, (-(-height // 4), -(-width // 4), 3)), np.ones((4, 4, 1), int))
    pixels[..., 2 * label] += 100
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[:height, :width].astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with an ImageNet of two classes, 20 and 6 JPEG files each, of many sizes."""
    place, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for part, count in (("train", 20), ("val", 6)):
        for label, wnid in enumerate(("n01440764", "n02123045")):
            for number in range(count):
                size = tuple(random.integers(20, 80, 2).tolist())
                picture(place / "imagenet" / part / wnid / f"{wnid}_{number}.JPEG", label, size, random)
    return place


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder of two classes, 30 and 10 small PNG files each."""
    place, random = tmp_path_factory.mktemp("folder"), np.random.default_rng(1)
    for part, count in (("train", 30), ("test", 10)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                picture(place / part / name / f"{number}.png", label, (16, 16), random)
    return place


SMALL = ("--model-name", "layer13s", "--base-width", 1, "--intrinsic-dim", 5, "--batch-size", 8, "--lr", 0.05)


def coordinates(run: Path) -> Any:
    return load_file(run / "checkpoint.safetensors")["w"]


# --- ImageNet ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_imagenet_goes_through_every_command(pactl: Call, photographs: Path, tmp_path: Path, workers: int) -> None:
    run = tmp_path / "run"
    data = ("--dataset", "imagenet", "--data-dir", photographs, "--model-name", "layer13s")
    options = (*SMALL, "--epochs", 2, "--num-workers", workers, "--normalise", "published")
    trained = pactl("train", *data, *options, "--out", run)
    assert (trained.code, trained.err) == (0, "")
    settings = yaml.safe_load((run / "config.yml").read_text())
    assert (settings["augment"], settings["num_workers"], settings["calibration_examples"]) == (
        "resized-crop",
        workers,
        4,
    )
    done = pactl("bound", run, "--quant-epochs", 1, "--data-dir", photographs)
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert done.err.startswith("pactl: note: This certificate says nothing: ")
    certificate = done.json()
    assert (certificate["bound_examples"], certificate["test_examples"]) == (36, 12)
    assert certificate["side_information"]["inputs"]["tensors"]["inputs"]["shape"] == [3, 224, 224]
    assert any("decoder" in line for line in certificate["assumptions"])
    assert pactl("verify", run, "--data-dir", photographs).code == 0
    first = next((photographs / "imagenet" / "train" / "n01440764").iterdir())
    content = first.read_bytes()
    first.write_bytes(content + b"\0")
    try:
        assert "is not the one" in pactl("verify", run, "--data-dir", photographs).complaint(1)
    finally:
        first.write_bytes(content)


@pytest.mark.slow
def test_noise_and_subsets_of_streamed_data(pactl: Call, photographs: Path, tmp_path: Path) -> None:
    data = ("--dataset", "imagenet", "--data-dir", photographs, "--label-noise", 0.5, "--train-subset", 0.8)
    runs = [tmp_path / f"run{workers}" for workers in (0, 3)]
    for run, workers in zip(runs, (0, 3), strict=True):
        assert pactl("train", *data, *SMALL, "--epochs", 1, "--num-workers", workers, "--out", run).code == 0
    np.testing.assert_array_equal(*map(coordinates, runs))
    certificate = pactl("bound", runs[0], "--quant-epochs", 0, "--data-dir", photographs).json()
    assert certificate["bound_examples"] == 32 - 3
    assert any("labels are replaced" in line for line in certificate["assumptions"])
    assert pactl("verify", runs[0], "--data-dir", photographs).code == 0


def test_imagenet_that_is_not_there(pactl: Call, tmp_path: Path) -> None:
    line = pactl("train", "--dataset", "imagenet", "--data-dir", tmp_path, "--out", tmp_path / "run").complaint(2)
    assert "image-net.org" in line
    assert "--data-dir" in line
    assert not list(tmp_path.iterdir())


# --- Folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", catalogue.VIEWS)
def test_a_folder_too_large_for_memory_gives_the_same_certificate(
    pactl: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augment: str
) -> None:
    """Whether data stream depends on the machine, so nothing in a certificate may depend on whether they do."""
    runs = [tmp_path / "resident", tmp_path / "streamed"]
    options: tuple[object, ...] = (
        "--dataset",
        f"folder:{folder}",
        *SMALL,
        "--epochs",
        2,
        "--num-workers",
        0,
        "--augment",
        augment,
    )
    options += ("--data-dir", tmp_path)  # else whether there is a cache directory yet would be in the settings
    for run in runs:
        if run.name == "streamed":
            monkeypatch.setattr(streaming, "available_memory", lambda: 10_000)
            monkeypatch.setattr("pactl_cli.data.folders.resident_parts", None)
        assert pactl("train", *options, "--out", run).code == 0
        assert pactl("bound", run, "--quant-epochs", 2).code == 0
    np.testing.assert_array_equal(*map(coordinates, runs))
    for name in ("message.bin", "bound.json", "config.yml"):
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes(), name
    assert pactl("verify", runs[0]).code == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_of_a_streamed_folder_is_found_before_anything_is_written(
    pactl: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(streaming, "available_memory", lambda: 10_000)
    bad = tmp_path / "pictures"
    for path in folder.rglob("*.png"):
        (bad / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (bad / path.relative_to(folder)).symlink_to(path)
    (bad / "train" / "dog" / "7.png").unlink()
    (bad / "train" / "dog" / "7.png").write_bytes(b"no image")
    line = pactl("train", "--dataset", f"folder:{bad}", "--num-workers", workers, "--out", tmp_path / "run").complaint(
        2
    )
    assert "dog/7.png" in line
    assert not (tmp_path / "run").exists()


# --- Options ----------------------------------------------------------------------------------------------------------


def test_a_batch_of_one_is_refused_with_batch_norm(pactl: Call, folder: Path, tmp_path: Path, tree: Call) -> None:
    options = ("--dataset", f"folder:{folder}", *SMALL, "--epochs", 1, "--out", tmp_path / "run")
    assert "--batch-size 1" in pactl("train", *options, "--batch-size", 1).complaint(2)
    assert not (tmp_path / "run").exists()
    assert pactl("train", *options).code == 0
    assert pactl("bound", tmp_path / "run", "--quant-epochs", 1).code == 0
    before = tree(tmp_path / "run")
    assert "--batch-size 1" in pactl("bound", tmp_path / "run", "--batch-size", 1).complaint(2)
    assert tree(tmp_path / "run") == before


@pytest.mark.parametrize("value", [-1, 65, 1.5, "many"])
def test_a_number_of_workers_out_of_range(pactl: Call, tmp_path: Path, value: object) -> None:
    assert "--num-workers" in pactl("train", "--num-workers", value, "--out", tmp_path / "run").complaint(2)


# --- Signals ----------------------------------------------------------------------------------------------------------


def marked(mark: str) -> list[str]:
    """The command lines of all processes that were started with PACTL_TEST_MARK=mark in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"PACTL_TEST_MARK={mark}\0".encode() in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended, or is another's
            continue
    return found


def all_gone(mark: str) -> bool:
    """Whether no such process is there, after a moment's patience."""
    deadline = time.monotonic() + 3
    while marked(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="PROCESSES ARE NOT LOOKED FOR: there is no /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_all_processes_ends_them_all_and_the_run_goes_on(
    pactl: Call, photographs: Path, tmp_path: Path, agree: Call, number: int
) -> None:
    """As a terminal sends Ctrl-C: to the workers as well."""
    run, mark = tmp_path / "run", f"{os.getpid()}-{number}"
    data = ("--dataset", "imagenet", "--data-dir", photographs, "--num-workers", 2)
    command = [*map(str, ("train", *data, *SMALL, "--epochs", 60, "--optimizer", "adam", "--out", run))]
    with subprocess.Popen(
        [sys.executable, "-m", "pactl_cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
        env=os.environ | {"PACTL_TEST_MARK": mark},
    ) as process:
        deadline = time.monotonic() + 60
        state = run / "resume" / "state.safetensors"
        while not (state.exists() and (run / "metrics.jsonl").exists()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(marked(mark)) >= 3, "the program and its workers"
        if number == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, number)
        out, err = process.communicate(timeout=30)
    assert all_gone(mark)
    epochs = len((run / "metrics.jsonl").read_text().splitlines())
    assert 1 <= epochs < 60
    if number != signal.SIGKILL:
        assert (process.returncode, out, err.count("\n")) == (130, "", 1), err
        assert err.startswith("pactl: interrupted")
    assert state.exists()
    whole = pactl(*command[:-1], tmp_path / "whole", "--epochs", epochs + 1)
    assert whole.code == 0
    settings = (run / "config.yml").read_text().replace("epochs: 60", f"epochs: {epochs + 1}", 1)
    assert settings == (tmp_path / "whole" / "config.yml").read_text()
    agree(run, "config.yml", settings)  # the learning rate is constant: a shorter run begins like a longer one
    resumed = pactl("train", "--out", run, "--resume", "--num-workers", 0, "--data-dir", photographs)
    assert resumed.code == 0
    np.testing.assert_array_equal(coordinates(run), coordinates(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="PROCESSES ARE NOT LOOKED FOR: there is no /proc")
def test_ctrl_c_while_counting_ends_the_workers(photographs: Path, tmp_path: Path, quiet: Call, agree: Call) -> None:
    run, mark = tmp_path / "run", f"{os.getpid()}-count"
    for path in (photographs / "imagenet" / "train").rglob("*.JPEG"):
        for copy in range(48):  # for several batches, and for longer than it takes to see the workers
            place = tmp_path / path.relative_to(photographs).with_stem(f"{path.stem}-{copy}")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)  # a link would be the same example
    quiet(
        "train",
        "--dataset",
        "imagenet",
        "--data-dir",
        tmp_path,
        "--num-workers",
        0,
        *SMALL,
        "--epochs",
        1,
        "--out",
        run,
    )
    agree(run, "config.yml", (run / "config.yml").read_text().replace("num_workers: 0", "num_workers: 2", 1))
    with subprocess.Popen(
        [sys.executable, "-m", "pactl_cli", "bound", str(run), "--quant-epochs", "0", "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
        env=os.environ | {"PACTL_TEST_MARK": mark},
    ) as process:
        deadline = time.monotonic() + 60
        while len(marked(mark)) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.count("\n")) == (130, "", 1)
    assert err.startswith(f"pactl: interrupted (certify again: pactl bound {run} --quant-epochs 0 ")
    assert all_gone(mark)
