"""The loop learns, stops, resumes exactly where it was, and reports a loss that is not finite."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pactl_cli import randomness
from pactl_cli.catalogue import NO_VIEW
from pactl_cli.data.dataset import Examples
from pactl_cli.data.views import Augmentation
from pactl_cli.errors import FAILED, INTERRUPTED, PactlError
from pactl_cli.training import loop
from pactl_cli.training.loop import Moment, Objective, State, Trainer
from pactl_cli.training.recipes import Plan


class Linear(Objective):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.dropout = nn.Dropout(0.2)
        nn.init.zeros_(self.layer.weight)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(self.dropout(images.flatten(1)))


class Watcher:
    def __init__(self, interrupt_at: int | None = None) -> None:
        self.records: list[dict[str, Any]] = []
        self.states: list[State] = []
        self._interrupt_at = interrupt_at

    def advance(self, now: Moment) -> None:
        if now.step == self._interrupt_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def epoch(self, record: dict[str, Any]) -> None:
        self.records.append({key: value for key, value in record.items() if key != "seconds"})

    def save(self, state: State) -> None:
        self.states.append(state)


def examples() -> Examples:
    images = torch.randn(50, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    return Examples(images, images.flatten(1)[:, :3].argmax(1))


def trainer(lr: float = 0.1, recipe: str = "adam_cos", ema: float = 0.0, smoothing: float = 0.0) -> Trainer:
    torch.manual_seed(0)
    plan = Plan(recipe, 6, 8, lr, ema=ema, smoothing=smoothing)
    return Trainer(Linear(), examples(), plan, seed=1, stage="train")


def weights(of: Trainer) -> Tensor:
    return nn.utils.parameters_to_vector(of.objective.parameters()).detach()


def test_it_learns_and_reports_every_epoch() -> None:
    watcher = Watcher()
    trainer().run(watcher)
    assert [record["epoch"] for record in watcher.records] == [1, 2, 3, 4, 5, 6]
    assert watcher.records[-1]["step"] == 6 * 7
    assert watcher.records[-1]["loss"] < watcher.records[0]["loss"] / 1.5
    assert watcher.records[-1]["error"] < watcher.records[0]["error"]


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("recipe", ["adam_cos", "sgd", "rmsprop"])
@pytest.mark.parametrize("step", [1, 7, 24, 42])
def test_interrupted_and_resumed_is_uninterrupted_to_the_last_bit(recipe: str, step: int, ema: float) -> None:
    whole, watched = trainer(recipe=recipe, ema=ema), Watcher()
    whole.run(watched)
    first, before = trainer(recipe=recipe, ema=ema), Watcher(interrupt_at=step)
    with pytest.raises(PactlError) as caught:
        first.run(before)
    assert caught.value.exit_code == INTERRUPTED
    assert before.states[-1].step == step
    second, after = trainer(recipe=recipe, ema=ema), Watcher()
    torch.manual_seed(99)
    second.run(after, before.states[-1])
    assert torch.equal(weights(second), weights(whole))
    assert before.records + after.records == watched.records


def test_the_result_is_the_average_of_the_weights_after_every_step() -> None:
    passed: list[Tensor] = []

    class Follower(Watcher):
        def advance(self, now: Moment) -> None:
            passed.append(weights(averaged).clone())

    averaged, plain = trainer(ema=0.8), trainer()
    expected = weights(averaged).clone()
    averaged.run(Follower())
    plain.run(Watcher())
    assert torch.equal(passed[-1], weights(plain)), "the steps are the same"
    for step, point in enumerate(passed, 1):
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * point
    torch.testing.assert_close(weights(averaged), expected)
    assert not torch.allclose(weights(averaged), weights(plain), rtol=1e-3)


def test_a_state_without_averages_is_of_another_training() -> None:
    watcher = Watcher(interrupt_at=5)
    with pytest.raises(PactlError):
        trainer().run(watcher)
    with pytest.raises(PactlError, match="from another run"):
        trainer(ema=0.5).run(Watcher(), watcher.states[-1])


def test_smoothed_labels_are_spread_over_all_classes() -> None:
    logits, labels = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.25, 3.0]]), torch.tensor([0, 1])
    targets = 0.7 * nn.functional.one_hot(labels, 3) + 0.3 / 3
    expected = -(targets * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(Linear().loss(logits, labels, 0.3), expected)
    plain, smoothed = trainer(), trainer(smoothing=0.3)
    for run in (plain, smoothed):
        run.run(Watcher())
    assert weights(smoothed).norm() < weights(plain).norm(), "less sure"


def test_a_handler_for_signals_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    trainer().run(Watcher())
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved() -> None:
    watcher = Watcher()
    with pytest.raises(PactlError, match="loss is") as caught:
        trainer(lr=1e38, recipe="sgd").run(watcher)
    assert caught.value.exit_code == FAILED
    assert all(value.isfinite().all() for state in watcher.states for value in state.tensors.values())


class Failing(Linear):
    """An objective whose loss is infinite at one step, after which its weights are NaN."""

    def __init__(self, at: int, refuses: bool = False) -> None:
        super().__init__()
        self.at, self.refuses, self.step = at, refuses, 0

    def begin(self, step: int, steps: int) -> None:
        self.step = step

    def forward(self, images: Tensor) -> Tensor:
        if self.refuses and self.layer.weight.isnan().any():
            raise ValueError("that is no weight")
        return super().forward(images)

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        return super().loss(logits, labels, smoothing) * (torch.inf if self.step == self.at else 1)


class Counter(Watcher):
    """A watcher that counts steps."""

    steps = 0

    def advance(self, now: Moment) -> None:
        super().advance(now)
        self.steps = now.step


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize("interrupt_at", [None, 11])
@pytest.mark.parametrize(("every", "seen"), [(-1.0, 9), (1e9, 13)])
def test_a_loss_that_is_no_number_within_an_epoch_ends_it(
    every: float, seen: int, interrupt_at: int | None, refuses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch has seven steps, and the loss is infinite at the tenth step."""
    monkeypatch.setattr(loop, "_READ_EVERY_SECONDS", every)
    monkeypatch.setattr(loop, "_SAVE_EPOCHS_SECONDS", -1.0)
    watcher = Counter(interrupt_at)
    failing = Trainer(Failing(9, refuses), examples(), Plan("adam", 6, 8, 0.1), seed=1, stage="train")
    with pytest.raises(PactlError, match="the loss is inf at step 9") as caught:
        failing.run(watcher)
    assert caught.value.exit_code == FAILED
    assert [state.step for state in watcher.states] == [7]
    assert all(value.isfinite().all() for value in watcher.states[0].tensors.values())
    stops = [seen, 10] if refuses else [seen] if interrupt_at is None else [seen, interrupt_at]
    assert watcher.steps == min(stops)


def test_an_error_that_no_loss_explains_is_itself() -> None:
    failing = Failing(99, refuses=True)
    with torch.no_grad():
        failing.layer.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="that is no weight"):
        Trainer(failing, examples(), Plan("adam", 6, 8, 0.1), seed=1, stage="train").run(Watcher())


def test_the_ambient_generator_is_neither_used_nor_moved() -> None:
    first = trainer()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first.run(Watcher())
    assert torch.equal(torch.get_rng_state(), state)


def test_every_example_is_seen_once_an_epoch() -> None:
    seen: list[float] = []

    class Recorder(Linear):
        def forward(self, images: Tensor) -> Tensor:
            seen.extend(images[:, 0].flatten().tolist())
            return super().forward(images)

    runner = Trainer(Recorder(), examples(), Plan("adam", 2, 8, 0.1), seed=1, stage="train")
    runner.run(Watcher())
    expected = sorted(examples().images[:, 0].flatten().tolist())
    assert sorted(seen[:50]) == sorted(seen[50:]) == expected
    assert seen[:50] != seen[50:]


# --- Batches ----------------------------------------------------------------------------------------------------------


class Recorder(Objective):
    """An objective that remembers the images of every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 3)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return self.layer(images.float().mean((1, 2, 3))[:, None])


def bytes_of(count: int) -> Examples:
    images = torch.randint(256, (count, 3, 6, 6), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return Examples(images, torch.arange(count) % 3)


def recorded(count: int, batch_size: int, *, epochs: int = 1, stage: str = "train", augment: str = NO_VIEW) -> Recorder:
    recorder = Recorder()
    plan = Plan("adam", epochs, batch_size, 0.1)
    runner = Trainer(recorder, bytes_of(count), plan, seed=1, stage=stage, augment=augment)
    watcher = Watcher()
    runner.run(watcher)
    assert len(recorder.seen) == runner.steps == epochs * runner.steps_per_epoch == watcher.records[-1]["step"]
    return recorder


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (17, 8, [8, 9]),
        (18, 8, [8, 8, 2]),
        (16, 8, [8, 8]),
        (9, 8, [9]),
        (8, 8, [8]),
        (5, 8, [5]),
        (1, 8, [1]),
        (3, 1, [1, 1, 1]),
        (3, 2, [3]),
    ],
)
def test_a_single_example_left_over_joins_the_batch_before(count: int, batch_size: int, sizes: list[int]) -> None:
    batches = recorded(count, batch_size).seen
    assert [len(batch) for batch in batches] == sizes
    assert torch.equal(torch.cat(batches).sort(0).values, bytes_of(count).images.sort(0).values)


def test_a_batch_of_one_is_refused_where_there_is_batch_norm() -> None:
    objective: Any = nn.Sequential(Recorder(), nn.BatchNorm2d(3))
    with pytest.raises(PactlError, match="--batch-size 1"):
        Trainer(objective, bytes_of(4), Plan("adam", 1, 1, 0.1), 1, "x")


def test_augmented_batches_are_random_views_drawn_afresh_for_every_epoch_and_stage() -> None:
    plain, augmented = recorded(20, 8), recorded(20, 8, epochs=2, augment="crop-mirror")
    views = [torch.cat(augmented.seen[:3]), torch.cat(augmented.seen[3:])]
    assert not torch.equal(torch.cat(plain.seen), views[0])
    for epoch in range(2):
        look = Augmentation("crop-mirror", 1, f"train/augment/{epoch}").over(20, torch.device("cpu"))
        order = torch.from_numpy(randomness.permutation(1, f"train/order/{epoch}", 20))
        assert torch.equal(views[epoch], look(bytes_of(20).images[order], order))
    assert not torch.equal(torch.cat(recorded(20, 8, stage="bound", augment="crop-mirror").seen), views[0])
