"""`pactl train`: a network trained in a random subspace, from its seeded initialisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch

from pactl_cli.errors import BAD_INPUT, PactlError
from pactl_cli.runs.checkpoint import load_tensors, save_tensors
from pactl_cli.runs.directory import (
    CHECKPOINT,
    CONFIG,
    INDICES,
    METRICS,
    RESUME,
    RunDirectory,
    is_vacant,
    require_writable,
)
from pactl_cli.runs.settings import TrainSettings, option_name
from pactl_cli.stages.display import Advance, Display
from pactl_cli.stages.subject import Subject, find_device, load_subject
from pactl_cli.subspace.quantise import GridQuantiser
from pactl_cli.training.loop import State, Trainer
from pactl_cli.training.objectives import RateObjective
from pactl_cli.training.recipes import Plan

STAGE: Final = "train"
_STATE = f"{RESUME}/state.safetensors"
_MAY_DIFFER_ON_RESUME = {"device", "data_dir", "num_workers"}


class RunObserver:
    """Writes what a loop reports into the run directory, and shows it."""

    def __init__(self, run: RunDirectory, advance: Advance) -> None:
        self._run = run
        self._advance = advance

    def advance(self, step: int, steps: int, loss: float) -> None:
        """Moves the bar."""
        self._advance(step, steps)

    def epoch(self, record: dict[str, Any]) -> None:
        """One line of metrics."""
        self._run.append_metrics(record)

    def save(self, state: State) -> None:
        """Everything that `--resume` needs, in one file."""
        numbers = {"step": state.step, "loss_sum": state.loss_sum, "errors": state.errors, "seconds": state.seconds}
        save_tensors(self._run, _STATE, state.tensors, {key: repr(value) for key, value in numbers.items()})


def train(settings: TrainSettings, out: Path, display: Display, *, resume: bool = False, force: bool = False) -> None:
    """Trains into the run directory `out`.

    Args:
        resume: go on with the run that is there, or begin it if none is.
        force: replace the run that is there.

    Raises:
        PactlError: exit code 2 for anything wrong that can be found before work starts
            (then nothing is written), 1 for a loss that is not finite, 130 if interrupted.
    """
    device = find_device(settings.device)
    subject = load_subject(settings, device, display)
    settings = subject.settings
    module = subject.build_module()
    objective = RateObjective(
        module,
        GridQuantiser(),
        rate_weight=settings.rate_weight,
        examples=len(subject.sample),
        start=settings.rate_from if settings.rate_weight else 1.0,
    ).to(device)
    trainer = Trainer(
        objective,
        subject.sample,
        subject.statistics,
        _plan(settings),
        seed=settings.seed,
        stage=STAGE,
        augment=bool(settings.augment),
        autocast=_precision(settings.precision, device),
    )
    run = _reopen(out, settings, subject) if resume else None
    if run is None:
        run = RunDirectory.create(out, STAGE, force=force)
        _begin(run, settings, subject, device)
    if run.manifest.stages[STAGE] == "complete":
        return
    with display.progress(f"training {settings.dataset} {settings.model_name} d={settings.intrinsic_dim}") as advance:
        trainer.run(RunObserver(run, advance), _load_state(run))
    save_tensors(run, CHECKPOINT, {"w": module.w}, {"stage": STAGE})
    run.set_stage(STAGE, "complete", (CHECKPOINT, METRICS))
    run.remove_resume()


def _plan(settings: TrainSettings) -> Plan:
    """The recipe of resolved settings."""
    names = Plan.__dataclass_fields__.keys() - {"recipe"}
    return Plan(recipe=settings.optimizer, **settings.model_dump(include=set(names)))


def _precision(name: str, device: torch.device) -> torch.dtype | None:
    """The type to compute training steps in; None for single precision."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    return torch.bfloat16 if name == "bf16" else None


def _begin(run: RunDirectory, settings: TrainSettings, subject: Subject, device: torch.device) -> None:
    """Writes what is known before the first step."""
    run.manifest.device = str(device)
    run.manifest.data_sha256 = subject.data_sha256
    run.write_config(settings.as_dict())
    files: tuple[str, ...] = (CONFIG,)
    if not subject.whole_sample:
        run.write_arrays(INDICES, subject.partition.arrays())
        files += (INDICES,)
    run.set_stage(STAGE, "running", files)


def _reopen(out: Path, settings: TrainSettings, subject: Subject) -> RunDirectory | None:
    """The run that is there, if it is the same one; None if none has begun."""
    if is_vacant(out):
        return None
    run = RunDirectory.open(out)
    require_writable(out, "--out ")
    run.sweep()
    if run.manifest.kind != STAGE:
        raise PactlError(f"--out {out} is a run of pactl {run.manifest.kind}, not of pactl {STAGE}")
    if CONFIG not in run.manifest.files:
        run.clear()
        _begin(run, settings, subject, find_device(settings.device))
    if altered := run.altered():
        raise PactlError(f"{altered[0]} is truncated, altered or missing", "start again with --force")
    before, now = run.read_config(), settings.as_dict()
    for name, value in now.items():
        if name not in _MAY_DIFFER_ON_RESUME and before.get(name) != value:
            raise PactlError(
                f"{option_name(name)} {value} differs from the run in {out}, which has {before.get(name)}",
                "resume with the same options, or start again with --force",
                BAD_INPUT,
            )
    if run.manifest.data_sha256 != subject.data_sha256:
        raise PactlError(f"the data set {settings.dataset} has changed since the run in {out} began")
    return run


def _load_state(run: RunDirectory) -> State:
    """The last saved state of a run, or the beginning."""
    if not (run.path / _STATE).exists():
        run.keep_metrics(lambda record: record.get("stage") != STAGE)
        return State(0, {})
    tensors, numbers = load_tensors(run.path / _STATE)
    step = int(numbers["step"])
    run.keep_metrics(lambda record: record.get("stage") != STAGE or record["step"] <= step)
    return State(step, tensors, float(numbers["loss_sum"]), int(numbers["errors"]), float(numbers["seconds"]))
