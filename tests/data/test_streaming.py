"""Streamed examples equal resident ones, in any number of processes, and are scaled as torchvision does."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision import transforms

from pactl_cli.catalogue import VIEWS, View
from pactl_cli.data import streaming
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.decoding import Frame
from pactl_cli.data.files.workers import mapped, shared_tensor, useful_workers
from pactl_cli.data.streaming import FileExamples, streamed
from pactl_cli.data.views import Augmentation
from pactl_cli.errors import BAD_INPUT, FAILED, PactlError
from pactl_cli.models.inputs import InputSpec

pytestmark = pytest.mark.usefixtures("_warm_workers")

Pictures = Callable[..., list[tuple[str, int]]]

COUNT = 23
OWN = Frame((3, 7, 9))
SCALED = Frame((3, 20, 20), shorter_side=24)


def read(samples: list[tuple[str, int]]) -> Examples:
    """Return the same examples, resident."""
    pixels = np.stack([np.atleast_3d(np.asarray(Image.open(path))) for path, _ in samples])
    return Examples(torch.from_numpy(np.moveaxis(pixels, -1, 1).copy()), torch.tensor([label for _, label in samples]))


def same(one: Examples, other: Examples) -> bool:
    return torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


@pytest.fixture
def samples(tmp_path: Path, pictures: Pictures) -> list[tuple[str, int]]:
    """Colour images of one size."""
    return pictures(tmp_path / "pictures", COUNT)


@pytest.fixture
def photographs(tmp_path: Path, pictures: Pictures) -> list[tuple[str, int]]:
    """JPEG files of many sizes."""
    return pictures(tmp_path / "photographs", COUNT, kind="jpg", size=None)


def no_process_is_left() -> bool:
    return not multiprocessing.active_children()


# --- The same examples ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augmentation", [None, *(Augmentation(view, 5, "train/augment/3") for view in VIEWS)])
def test_batches_are_those_of_resident_examples(
    samples: list[tuple[str, int]], workers: int, augmentation: Augmentation | None
) -> None:
    resident, files = read(samples), streamed(samples, OWN).with_workers(workers)
    assert (len(files), files.spec) == (COUNT, InputSpec.image(3, 7, 9))
    parts = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0)).split(4)
    found = list(files.batches(parts, augmentation))
    assert len(found) == len(parts)
    assert all(map(same, found, resident.batches(parts, augmentation)))
    assert no_process_is_left()


def test_subsets_labels_and_fingerprints_are_those_of_resident_examples(samples: list[tuple[str, int]]) -> None:
    resident, files = read(samples), streamed(samples, OWN).with_workers(0)
    for indices in (torch.arange(COUNT), torch.tensor([4, 20, 1]), torch.tensor([], dtype=torch.int64)):
        assert same(files[indices].resident(), resident[indices])
        assert files[indices].sha256() == resident[indices].sha256()
    labels = 1 - resident.labels
    assert same(
        files.with_labels(labels)[torch.tensor([3, 2])].resident(),
        Examples(resident.images, labels)[torch.tensor([3, 2])],
    )
    assert files.with_labels(labels).sha256() == resident.with_labels(labels).sha256()
    noisy, expected = (Dataset("x", 3, part, None).with_label_noise(0.5).train for part in (files, resident))
    assert torch.equal(noisy.labels, expected.labels)
    assert same(noisy.resident(), expected.resident())
    assert files.assumptions == resident.assumptions == ()


def test_grey_images_have_one_channel(tmp_path: Path, pictures: Pictures) -> None:
    samples = pictures(tmp_path / "grey", 3, channels=1)
    files = streamed(samples, Frame((1, 7, 9)))
    assert same(files.resident(), read(samples))


def test_the_ambient_generator_is_neither_used_nor_moved(photographs: list[tuple[str, int]]) -> None:
    for workers in (0, 2):
        state = torch.get_rng_state()
        list(streamed(photographs, SCALED).with_workers(workers).batches(torch.arange(COUNT).split(5), AUGMENTATION))
        assert torch.equal(torch.get_rng_state(), state)


# --- Frames ---------------------------------------------------------------------------------------------------------

AUGMENTATION = Augmentation("resized-crop", 5, "train/augment/3")


def as_tensor(image: Any) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def test_a_frame_is_torchvisions(photographs: list[tuple[str, int]]) -> None:
    transform = transforms.Compose([transforms.Resize(24), transforms.CenterCrop(20)])
    expected = torch.stack([as_tensor(transform(Image.open(path))) for path, _ in photographs])
    assert torch.equal(streamed(photographs, SCALED).with_workers(0).resident().images, expected)


def test_a_random_view_depends_on_its_key_alone(photographs: list[tuple[str, int]]) -> None:
    transform = transforms.Compose([transforms.RandomResizedCrop(20), transforms.RandomHorizontalFlip()])
    expected = []
    with torch.random.fork_rng():
        for (path, _), key in zip(photographs, AUGMENTATION.keys(COUNT), strict=True):
            torch.manual_seed(int(key))
            expected.append(as_tensor(transform(Image.open(path))))
    files = streamed(photographs, SCALED)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    for workers, size in ((0, 7), (2, 5), (3, 2)):
        batches = list(files.with_workers(workers).batches(order.split(size), AUGMENTATION))
        assert torch.equal(torch.cat([batch.images for batch in batches]), torch.stack(expected)[order])


@pytest.mark.parametrize("view", ["none", "crop-mirror"])
def test_other_views_are_of_what_the_frame_leaves(photographs: list[tuple[str, int]], view: str) -> None:
    files, augmentation = streamed(photographs, SCALED), Augmentation(view, 5, "train/augment/3")
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    [expected] = files.with_workers(0).resident().batches([order], augmentation)
    for workers, size in ((0, 7), (2, 5)):
        batches = list(files.with_workers(workers).batches(order.split(size), augmentation))
        assert torch.equal(torch.cat([batch.images for batch in batches]), expected.images)


def test_a_view_from_outside_is_drawn_by_the_workers(
    photographs: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "turning.py").write_text(
        "from torchvision.transforms import RandomRotation\n"
        "def turned(image, size):\n    return RandomRotation(180)(image).resize(size)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(VIEWS, "turned", View("turned", "turned", "turning:turned", per_image=True))
    files, augmentation = streamed(photographs, SCALED), Augmentation("turned", 5, "any")
    [one], several = (
        list(files.with_workers(workers).batches(torch.arange(COUNT).split(size), augmentation))
        for workers, size in ((0, COUNT), (2, 4))
    )
    assert torch.equal(torch.cat([batch.images for batch in several]), one.images)
    assert not torch.equal(one.images, files.with_workers(0).resident().images)


def test_random_views_are_distributed_as_torchvisions(tmp_path: Path) -> None:
    """The pixels of the image encode their places, which show the place, size and direction of each view."""
    side, count = 128, 400
    y, x = np.mgrid[:side, :side].astype(np.uint8) * (256 // side)
    Image.fromarray(np.stack([x, y, y], -1)).save(tmp_path / "ramp.png")
    files = streamed([(str(tmp_path / "ramp.png"), 0)] * count, Frame((3, 16, 16), shorter_side=20)).with_workers(0)
    [ours] = files.batches([torch.arange(count)], AUGMENTATION)
    transform = transforms.Compose([transforms.RandomResizedCrop(16), transforms.RandomHorizontalFlip()])
    with Image.open(tmp_path / "ramp.png") as image, torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.stack([as_tensor(transform(image)) for _ in range(count)])

    def features(images: Tensor) -> Tensor:
        """Return the centre, width, height and direction of views, shape (5, count)."""
        across, down = images[:, 0].double(), images[:, 1].double()
        width = across[:, :, -1].mean(1) - across[:, :, 0].mean(1)
        height = down[:, -1].mean(1) - down[:, 0].mean(1)
        return torch.stack([across.mean((1, 2)), down.mean((1, 2)), width.abs(), height, width.sign()])

    found, expected = features(ours.images), features(theirs)
    for mine, other in zip(found, expected, strict=True):
        assert ks_2samp(mine, other).pvalue > 1e-3
    assert ks_2samp(found[2], 0.9 * expected[2]).pvalue < 1e-3, "smaller crops would be seen"


def test_the_fingerprint_of_scaled_images_is_of_their_files(photographs: list[tuple[str, int]]) -> None:
    files = streamed(photographs, SCALED)
    fingerprints = {files.sha256()}
    order = torch.arange(COUNT)
    order[:2] = torch.tensor([1, 0])
    swapped = files[order].with_labels(files.labels)
    fingerprints |= {swapped.sha256(), files.with_labels(1 - files.labels).sha256(), files[order[:-1]].sha256()}
    fingerprints.add(streamed(photographs, Frame((3, 20, 20), shorter_side=25)).sha256())
    path = Path(photographs[7][0])
    path.write_bytes(path.read_bytes() + b"\0")
    fingerprints.add(streamed(photographs, SCALED).sha256())
    assert len(fingerprints) == 6
    assert "decoder" in files.assumptions[0]


def test_files_are_read_for_the_fingerprint_once(
    photographs: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    files = streamed(photographs, SCALED)
    first = files[torch.arange(10)].sha256(lambda done, total: seen.append((done, total)))
    whole = files.sha256(lambda done, total: seen.append((done, total)))
    assert seen == [(10, 10), (COUNT - 10, COUNT - 10)]
    monkeypatch.setattr(streaming, "_file_sha256", None)
    assert (files[torch.arange(10)].sha256(), files.sha256()) == (first, whole)


# --- Worker processes -------------------------------------------------------------------------------------------------


def test_decoding_is_not_far_ahead_of_its_use(samples: list[tuple[str, int]]) -> None:
    for workers, ahead in ((0, 1), (2, 5)):
        taken: list[int] = []
        requests = (taken.append(place) or place for place in range(100))
        with closing(mapped(abs, requests, 100, workers)) as results:
            assert next(results) == 0
            assert len(taken) <= ahead
        assert no_process_is_left()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_bytes(b"no image"), "is not a readable image"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "is not a readable image"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: Image.new("RGB", (9, 8)).save(path), "another size"),
    ],
)
def test_an_image_that_cannot_be_used_is_named(
    samples: list[tuple[str, int]], workers: int, spoil: Callable[[Path], object], says: str
) -> None:
    spoil(Path(samples[17][0]))
    files = streamed(samples, OWN).with_workers(workers)
    with pytest.raises(PactlError, match=says) as caught:
        list(files.batches(torch.arange(COUNT).split(3)))
    assert samples[17][0] in caught.value.message
    assert caught.value.exit_code == FAILED
    assert "Traceback" not in caught.value.one_line()
    assert no_process_is_left()


def test_what_is_wrong_before_work_begins_is_bad_input(samples: list[tuple[str, int]]) -> None:
    Path(samples[17][0]).unlink()
    for frame in (OWN, SCALED):
        with pytest.raises(PactlError, match=samples[17][0]) as caught:
            streamed(samples, frame).with_workers(0).sha256()
        assert caught.value.exit_code == BAD_INPUT


def test_an_error_of_the_caller_ends_the_workers(samples: list[tuple[str, int]]) -> None:
    def train(files: FileExamples) -> None:
        with closing(files.batches(torch.arange(COUNT).split(2))) as batches:
            next(batches)
            assert not no_process_is_left()
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        train(streamed(samples, OWN).with_workers(2))
    assert no_process_is_left()


def test_workers_leave_signals_to_the_main_process(samples: list[tuple[str, int]]) -> None:
    parts = torch.arange(COUNT).split(2)
    with closing(streamed(samples, OWN).with_workers(2).batches(parts)) as batches:
        next(batches)
        for process in multiprocessing.active_children():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGINT)
            os.kill(process.pid, signal.SIGTERM)
        assert len(list(batches)) == len(parts) - 1


@pytest.mark.slow
def test_a_worker_that_dies_is_an_error_and_not_a_wait() -> None:
    with closing(mapped(time.sleep, [0.0, 3.0, 3.0, 0.0], 4, 2)) as results:
        next(results)
        for process in multiprocessing.active_children():
            process.kill()
        with pytest.raises(PactlError) as caught:
            next(results)
    assert caught.value.exit_code == FAILED
    assert "--num-workers" in caught.value.hint


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-P",)])
def test_workers_import_nothing_from_the_working_directory_and_no_main_module(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """The same holds for their server and the resource tracker. A script needs no guard for its main module."""
    for module in ("multiprocessing", "torch"):
        (tmp_path / f"{module}.py").write_text("import sys; sys.exit('imported from the working directory')")
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "bare.py"
    script.write_text(
        "from pactl_cli.data.files.workers import mapped\nprint('begun', list(mapped(abs, [-1, -2, -3], 3, 2)))\n"
    )
    done = subprocess.run(
        [sys.executable, *options, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "begun [1, 2, 3]\n", "")


def test_useful_workers_leave_a_core_to_the_main_process() -> None:
    assert 0 <= useful_workers() <= 8
    assert useful_workers() < (os.cpu_count() or 1)


def test_no_room_for_shared_memory_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the size of a file stands in for a full /dev/shm."""
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "somebody")
    assert shared_tensor(4, 5).is_shared()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(PactlError, match="shared memory") as caught:
            shared_tensor(100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.exit_code, "--num-workers 0" in caught.value.hint) == (FAILED, True)
