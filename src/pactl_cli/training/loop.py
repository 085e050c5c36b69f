"""The training loop, for full weights, subspace coordinates and quantised coordinates alike."""

from __future__ import annotations

import time
from collections.abc import Generator, Hashable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from math import inf, isfinite, isnan, nan
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pactl_cli import randomness
from pactl_cli.catalogue import NO_VIEW
from pactl_cli.data.dataset import Examples, LabelledExamples
from pactl_cli.data.views import Augmentation
from pactl_cli.errors import FAILED, INTERRUPTED, PactlError, StoppedError
from pactl_cli.models.inputs import Inputs
from pactl_cli.models.normalisation import batch_norms
from pactl_cli.processes.interruption import Interruption
from pactl_cli.processes.world import ALONE, Share, World
from pactl_cli.training.captured import CapturedWork, Work
from pactl_cli.training.pending import Pending
from pactl_cli.training.precision import tf32
from pactl_cli.training.recipes import Plan, build_optimizer, learning_rate
from pactl_cli.training.seeding import seeded

SAVE_EVERY_SECONDS = 60.0
_SAVE_EPOCHS_SECONDS = 1.0
"""The least time between two saved ends of epochs, since writing to a disk takes a while."""
_READ_EVERY_SECONDS = 1.0
"""The time between two readings of losses within an epoch, for the progress bar and to notice a NaN."""
_ECHO_SECONDS = 1.0
_STREAMS_APART = 1 << 40
"""The distance between the seeds of two processes."""


class Objective(nn.Module):
    """A loss to minimise, over its parameters that require gradients."""

    def loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the loss of a batch: by default the mean cross-entropy with smoothed labels."""
        return nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)

    def begin(self, step: int, steps: int) -> None:
        """Prepare for a step, counted from 0; the loop calls this before every step."""

    def constants(self) -> Hashable:
        """Return the values, other than tensors, that the loss depends on at present."""
        return ()


@dataclass
class State:
    """The state of a run: all that `--resume` needs beside the data and the settings."""

    step: int
    tensors: dict[str, Tensor]
    loss_sum: float = 0.0
    errors: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Moment:
    """The progress of a run: steps and epochs so far and in total, and the epoch's loss and error when last read.

    Loss and error are NaN before the first reading.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    error: float

    def __str__(self) -> str:
        known = "" if isnan(self.loss) else f"  loss {self.loss:.3f}  error {100 * self.error:.1f} %"
        return f"epoch {self.epoch:,}/{self.epochs:,}{known}"


class Observer(Protocol):
    """A listener to the loop."""

    def advance(self, now: Moment) -> None:
        """Hear of a finished step."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Hear of a finished epoch: epoch (from 1), step, loss and error (means over its batches), lr and seconds."""

    def save(self, state: State) -> None:
        """Keep a state from which the run can be resumed; called now and then."""


@dataclass
class Trainer:
    """A run of the training loop, which minimises an objective over examples.

    Attributes:
        objective: the objective.
        examples: the training examples.
        plan: the recipe with its epochs, batch size and other numbers.
        seed: the seed of the order of the data, which depends on seed and epoch alone.
        stage: the name of this run in its random streams and in messages.
        augment: the name of the random view of examples, which depends on seed, epoch and example alone.
        autocast: the type to compute in, or None for float32.
        allow_tf32: whether float32 may be multiplied as TF32; None keeps the setting of torch.
        lr_scales: factors on the learning rates of single parameters, by name.
        compile: whether a GPU runs each forward and backward pass as one captured graph.
        world: the processes that share every batch; the observer of each process hears the same.
    """

    objective: Objective
    examples: LabelledExamples
    plan: Plan
    seed: int
    stage: str
    augment: str = NO_VIEW
    autocast: torch.dtype | None = None
    allow_tf32: bool | None = None
    lr_scales: dict[str, float] = field(default_factory=dict)
    compile: bool = False
    world: World = ALONE

    def __post_init__(self) -> None:
        self._trained = {n: p for n, p in self.objective.named_parameters() if p.requires_grad}
        self._averages: dict[str, Tensor] = {}
        groups = [{"params": [p], "name": n} for n, p in self._trained.items()]
        self._optimizer = build_optimizer(self.plan, groups, on_gpu=self.examples.labels.is_cuda)
        require_batches(self.objective, self.plan.batch_size)
        whole, rest = divmod(len(self.examples), self.plan.batch_size)
        self.steps_per_epoch = max(1, whole + (rest > 1))
        self.steps = self.plan.epochs * self.steps_per_epoch
        self._pending = Pending()
        self._means = nan, nan
        self._last_read = -inf
        self._work: Work = self._gradients
        if self.compile and self.examples.labels.is_cuda:
            trained, constants = self._trained.values(), self.objective.constants
            self._work = CapturedWork(self._gradients, trained, self._buffers(), constants)

    def run(self, observer: Observer, state: State | None = None) -> None:
        """Train to the end of the plan, from the beginning or from `state`.

        If the plan asks for averages, they are the parameters at the end.

        Raises:
            PactlError: with exit code 1 if the loss is not finite; with 130 after SIGINT or SIGTERM, when the observer
                has saved the state.
        """
        state = state or State(0, {})
        self._averages = {n: p.detach().clone() for n, p in self._trained.items()} if self.plan.ema else {}
        self._load(state)
        self.world.copy_first([*self._trained.values(), *self._averages.values()])
        last_save, last_epoch = time.monotonic(), -inf  # the first epoch's end is always saved
        echo = _ECHO_SECONDS if self.world.size > 1 else 0.0
        with tf32(self.allow_tf32), Interruption(echo) as interruption, closing(self._batches(state.step)) as batches:
            while state.step < self.steps:
                overdue = time.monotonic() - last_save > SAVE_EVERY_SECONDS
                stop, overdue = self._advance(state, batches, (interruption.requested, overdue))
                observer.advance(self._moment(state))
                if state.step % self.steps_per_epoch == 0:
                    self._end_epoch(state, observer)
                    overdue = overdue or time.monotonic() - last_epoch > _SAVE_EPOCHS_SECONDS
                if not self.world.joined:
                    stop = interruption.requested
                elif state.step == self.steps:
                    stop = stop or self.world.any(interruption.requested)
                if stop or (overdue and state.step < self.steps):
                    self._read(state)
                    observer.save(State(state.step, self._tensors(), state.loss_sum, state.errors, state.seconds))
                    last_save = last_epoch = time.monotonic()
                if stop:
                    raise StoppedError(f"interrupted after step {state.step:,} of {self.steps:,}", "", INTERRUPTED)
        for name, average in self._averages.items():
            self._trained[name].data.copy_(average)

    def _advance(
        self, state: State, batches: Iterator[tuple[Examples, Share]], requests: tuple[bool, bool]
    ) -> tuple[bool, bool]:
        """Make one step, and read losses if it is time; return the requests to stop and to save of all processes."""
        started = time.monotonic()
        try:
            self._step(state, *next(batches), requests)
        except Exception:
            self._read(state)  # if the reason is a loss that is not finite, this raises the better error
            raise
        ended = state.step % self.steps_per_epoch == 0
        if self.world.joined:  # one step late, so that the device need not wait
            requests = self._read(state, leave=0 if ended else 1)
        elif ended or started - self._last_read > _READ_EVERY_SECONDS:
            self._read(state)
            self._last_read = started
        state.seconds += time.monotonic() - started
        return requests

    def _step(self, state: State, batch: Examples, share: Share, requests: tuple[bool, bool]) -> None:
        """Make one step of the optimiser, without waiting for the device, and advance `state`."""
        self._set_learning_rate(state.step)
        self.objective.train()
        self.objective.begin(state.step, self.steps)
        stream = self.seed * 1_000_003 + state.step + self.world.rank * _STREAMS_APART
        with seeded(stream, batch.labels.device):
            sums = self._work(batch.inputs, batch.labels, share.weight)
        if self.world.joined:
            sums = self._exchange(sums, share.weight, requests)
        self._pending.add(sums, share.whole, soon=self.world.joined)
        self._optimizer.step()
        state.step += 1
        decay = min(self.plan.ema, (1 + state.step) / (10 + state.step))
        for name, average in self._averages.items():
            average.lerp_(self._trained[name].detach(), 1 - decay)

    def _gradients(self, inputs: Inputs, labels: Tensor, weight: float) -> Tensor:
        """Set the gradients of a batch's loss times a weight, and return its loss and its errors."""
        with torch.autocast(labels.device.type, self.autocast, enabled=self.autocast is not None):
            logits = self.objective(inputs)
            loss = self.objective.loss(logits, labels, self.plan.smoothing)
        self._optimizer.zero_grad(set_to_none=True)
        (loss if weight == 1 else loss * weight).backward()
        errors = (logits.detach().argmax(1) != labels).sum(dtype=loss.dtype)
        return torch.stack([loss.detach(), errors])

    def _read(self, state: State, leave: int = 0) -> tuple[bool, bool]:
        """Add the losses and errors of unread steps, except the last `leave`, to those of the epoch.

        Return whether any process requested to stop, and to save: all processes read the same after the same step.

        Raises:
            PactlError: with exit code 1 if a loss is not finite.
        """
        stop = save = False
        first = state.step - len(self._pending)
        for step, ((loss, errors, *requests), examples) in enumerate(self._pending.read(leave), first):
            if not isfinite(loss):
                raise PactlError(
                    f"the loss is {loss} at step {step:,}", "try a smaller --lr; the last checkpoint is kept", FAILED
                )
            state.loss_sum += loss * examples
            state.errors += round(errors)
            place = step % self.steps_per_epoch + 1
            seen = len(self.examples) if place == self.steps_per_epoch else place * self.plan.batch_size
            self._means = state.loss_sum / seen, state.errors / seen
            if requests:
                stop, save = stop or requests[0] > 0, save or requests[1] > 0
        return stop, save

    def _moment(self, state: State) -> Moment:
        """Return the progress; the last step of an epoch still belongs to it."""
        epoch = (state.step - 1) // self.steps_per_epoch + 1
        return Moment(state.step, self.steps, epoch, self.plan.epochs, *self._means)

    def _exchange(self, sums: Tensor, weight: float, requests: tuple[bool, bool]) -> Tensor:
        """Sum gradients, loss, errors and requests over all processes, in one message of d + 4 numbers."""
        gradients = [p.grad for p in self._trained.values() if p.grad is not None]
        loss, errors = sums.double()
        own = [loss * weight, errors * bool(weight), *(torch.full_like(loss, each) for each in requests)]
        flat = [gradient.flatten().float() for gradient in gradients]
        total = self.world.total(torch.cat([torch.stack(own).float(), *flat]))
        for gradient, values in zip(gradients, total[4:].split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(values.view_as(gradient))
        return total[:4].clone()

    def _batches(self, step: int) -> Generator[tuple[Examples, Share], None, None]:
        """Yield this process's shares of the batches, from a step on to the end of the plan."""
        for epoch in range(step // self.steps_per_epoch, self.plan.epochs):
            done = max(0, step - epoch * self.steps_per_epoch)
            augmentation = None
            if self.augment != NO_VIEW:
                augmentation = Augmentation(self.augment, self.seed, f"{self.stage}/augment/{epoch}")
            shares = [self.world.share(batch) for batch in self._parts(epoch)[done:]]
            with closing(self.examples.batches([share.part for share in shares], augmentation)) as batches:
                yield from zip(batches, shares, strict=True)

    def _parts(self, epoch: int) -> Sequence[Tensor]:
        """Return the places of the examples of each batch of an epoch.

        The last batch may be smaller, but a single left-over example joins the batch before: alone, it would have no
        batch statistics.
        """
        order = randomness.permutation(self.seed, f"{self.stage}/order/{epoch}", len(self.examples))
        ends = [self.plan.batch_size * batch for batch in range(1, self.steps_per_epoch)]
        return torch.from_numpy(order).to(self.examples.labels.device).tensor_split(ends)

    def _set_learning_rate(self, step: int) -> None:
        lr = learning_rate(self.plan, step, self.steps_per_epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = lr * self.lr_scales.get(group["name"], 1.0)

    def _end_epoch(self, state: State, observer: Observer) -> None:
        observer.epoch(
            {
                "stage": self.stage,
                "epoch": state.step // self.steps_per_epoch,
                "step": state.step,
                "loss": state.loss_sum / len(self.examples),
                "error": state.errors / len(self.examples),
                "lr": learning_rate(self.plan, state.step - 1, self.steps_per_epoch),
                "seconds": round(state.seconds, 3),
            }
        )
        state.loss_sum, state.errors, state.seconds = 0.0, 0, 0.0

    def _tensors(self) -> dict[str, Tensor]:
        """Return copies of trained parameters, their averages, buffers and the optimiser's state, by name."""
        tensors = {f"parameter/{name}": p.detach().clone() for name, p in self._trained.items()}
        tensors |= {f"average/{name}": average.clone() for name, average in self._averages.items()}
        tensors |= {f"buffer/{name}": buffer.detach().clone() for name, buffer in self._buffers().items()}
        for name, parameter in self._trained.items():
            for key, value in self._optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{name}/{key}"] = torch.as_tensor(value).detach().clone()
        return tensors

    def _buffers(self) -> dict[str, Tensor]:
        """Return the buffers that training changes, such as BatchNorm's running statistics, by name."""
        kept = self.objective.state_dict().keys()
        return {name: buffer for name, buffer in self.objective.named_buffers() if name in kept}

    @torch.no_grad()
    def _load(self, state: State) -> None:
        """Restore a state that `observer.save` was given.

        Raises:
            PactlError: if the state does not fit this run.
        """
        if not (state.step or state.tensors):
            return
        shapes, found = self._shapes(), {name: tensor.shape for name, tensor in state.tensors.items()}
        buffers = {f"buffer/{name}": buffer for name, buffer in self._buffers().items()}
        begun = {name.rpartition("/")[0] for name in found if name.startswith("optimizer/")}
        wanted = {name for name in shapes if not name.startswith("optimizer/") or name.rpartition("/")[0] in begun}
        sound = 0 < state.step <= self.steps and found == {name: shapes[name] for name in wanted}
        for name, tensor in state.tensors.items():
            sound = sound and tensor.dtype == (buffers[name].dtype if name in buffers else torch.float32)
            sound = sound and not (name.endswith("/step") and tensor.min() < 0)
        if not sound:
            raise PactlError("the saved state is damaged, or from another run", "start again with --force")
        for name, buffer in buffers.items():
            buffer.copy_(state.tensors[name])
        for name, parameter in self._trained.items():
            parameter.copy_(state.tensors[f"parameter/{name}"])
            if self._averages:
                self._averages[name].copy_(state.tensors[f"average/{name}"])
            prefix = f"optimizer/{name}/"
            if kept := {key.removeprefix(prefix): v for key, v in state.tensors.items() if key.startswith(prefix)}:
                self._optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(parameter.device) for key, value in kept.items()
                }

    def _shapes(self) -> dict[str, torch.Size]:
        """Return the shapes of `_tensors`; a step of a throw-away optimiser shows what an optimiser keeps."""
        probe = nn.Parameter(torch.zeros(2))
        probe.grad = torch.zeros(2)
        optimizer = build_optimizer(self.plan, [probe])
        optimizer.step()
        kept = {key: torch.as_tensor(value).shape for key, value in optimizer.state[probe].items()}
        shapes = {f"parameter/{name}": parameter.shape for name, parameter in self._trained.items()}
        shapes |= {f"average/{name}": average.shape for name, average in self._averages.items()}
        shapes |= {f"buffer/{name}": buffer.shape for name, buffer in self._buffers().items()}
        for name, parameter in self._trained.items():
            shapes |= {
                f"optimizer/{name}/{key}": parameter.shape if shape == probe.shape else shape
                for key, shape in kept.items()
            }
        return shapes


def require_batches(network: nn.Module, batch_size: int) -> None:
    """Raise PactlError if batches are too small to train a network."""
    if batch_size < 2 and batch_norms(network):
        raise PactlError("--batch-size 1 is too small: a network with BatchNorm needs at least 2 examples a step")
