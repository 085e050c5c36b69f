"""Training and counting give the same results for resident and for streamed examples."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pactl_cli.catalogue import NO_VIEW, VIEWS
from pactl_cli.data.dataset import Examples, LabelledExamples
from pactl_cli.data.files.decoding import Frame
from pactl_cli.data.streaming import FileExamples, streamed
from pactl_cli.errors import FAILED, INTERRUPTED, PactlError
from pactl_cli.training import counting, loop
from pactl_cli.training.counting import BATCH, count
from pactl_cli.training.loop import Moment, Objective, State, Trainer
from pactl_cli.training.recipes import Plan

pytestmark = pytest.mark.usefixtures("_warm_workers")

COUNT = 43


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> FileExamples:
    """Return small colour images in files, decoded by this process."""
    place, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(COUNT):
        Image.fromarray(random.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(place / f"{number}.png")
    return streamed([(str(place / f"{n}.png"), n % 3) for n in range(COUNT)], Frame((3, 6, 5))).with_workers(0)


class Convolution(Objective):
    """A network with dropout and batch statistics, so that the order of examples matters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(48, 3)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.float() / 127.5 - 1)


class Watcher:
    """An observer that keeps losses and states, and interrupts the run after one step."""

    def __init__(self, at: int = 0) -> None:
        self.losses: list[float] = []
        self.states: list[State] = []
        self._at = at

    def advance(self, now: Moment) -> None:
        self.losses.append(now.loss)
        if now.step == self._at:
            signal.raise_signal(signal.SIGINT)

    def epoch(self, record: dict[str, Any]) -> None: ...

    def save(self, state: State) -> None:
        self.states.append(state)


@pytest.fixture(autouse=True)
def _read_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_READ_EVERY_SECONDS", -1.0)


def trainer(examples: LabelledExamples, augment: str = NO_VIEW) -> Trainer:
    plan = Plan("adam_cos", 3, 6, 0.05)
    return Trainer(Convolution(), examples, plan, seed=1, stage="train", augment=augment)


def weights(of: Trainer) -> Tensor:
    return nn.utils.parameters_to_vector(of.objective.parameters()).detach()


@pytest.mark.parametrize("augment", VIEWS)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_run_is_the_resident_one_to_the_last_bit(files: FileExamples, workers: int, augment: str) -> None:
    resident, watched = trainer(files.resident(), augment), Watcher()
    resident.run(watched)
    other, watcher = trainer(files.with_workers(workers), augment), Watcher()
    other.run(watcher)
    assert watcher.losses == watched.losses
    assert torch.equal(weights(other), weights(resident))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("step", [1, 7, 10])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_streamed_run_goes_on_where_it_was(files: FileExamples, workers: int, step: int) -> None:
    whole, watched = trainer(files, "resized-crop"), Watcher()
    whole.run(watched)
    first, before = trainer(files.with_workers(workers), "resized-crop"), Watcher(at=step)
    with pytest.raises(PactlError) as caught:
        first.run(before)
    assert caught.value.exit_code == INTERRUPTED
    assert not multiprocessing.active_children()
    assert before.states[-1].step == step
    second, after = trainer(files.with_workers(workers), "resized-crop"), Watcher()
    second.run(after, before.states[-1])
    assert before.losses + after.losses == watched.losses
    assert torch.equal(weights(second), weights(whole))


def test_a_file_that_fails_in_training_ends_the_run_with_one_line(files: FileExamples, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [path.decode() for path in files.files.paths[:20]]
    broken = streamed([(path, 0) for path in [*paths, str(tmp_path / "bad.png")]], files.frame)
    with pytest.raises(PactlError, match=r"bad\.png") as caught:
        trainer(broken.with_workers(2)).run(Watcher())
    assert caught.value.exit_code == FAILED
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_counts_are_the_same(files: FileExamples, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = count(Convolution(), files.resident())
    assert expected.examples == COUNT
    assert count(Convolution(), files.with_workers(workers)) == expected
    monkeypatch.setattr(counting, "BATCH", 8)
    smaller = count(Convolution(), files.with_workers(workers))
    assert (smaller.cautious, smaller.plain) == (expected.cautious, expected.plain)
    assert smaller.nll_nats == pytest.approx(expected.nll_nats)


@pytest.mark.parametrize(("side", "size"), [(26, BATCH), (64, 86), (224, 7), (1000, 1), (4000, 1)])
def test_large_images_are_counted_in_smaller_batches(side: int, size: int) -> None:
    class Sizes(Examples):
        """Examples that only record the sizes of their batches."""

        def batches(self, parts: Any, augmentation: Any = None) -> Iterator[Examples]:  # type: ignore[override]
            sizes.extend(len(part) for part in parts)
            raise KeyboardInterrupt
            yield

    sizes: list[int] = []
    images = torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(2 * BATCH, 3, side, side)
    examples: Any = Sizes(images, torch.zeros(2 * BATCH, dtype=torch.int64))
    with pytest.raises(KeyboardInterrupt):
        count(Convolution(), examples)
    assert sizes[0] == max(sizes) == size
    assert sum(sizes) == 2 * BATCH


def test_an_interrupted_count_ends_the_workers(files: FileExamples) -> None:
    class Interrupted(Convolution):
        def forward(self, images: Tensor) -> Tensor:
            assert multiprocessing.active_children()
            raise KeyboardInterrupt

    counted = files[torch.arange(COUNT).repeat(2 * BATCH // COUNT)].with_workers(2)
    with pytest.raises(KeyboardInterrupt):
        count(Interrupted(), counted)
    assert not multiprocessing.active_children()
