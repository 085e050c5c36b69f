"""What `train`, `transfer` and `prior` have in common: a run directory begun or gone on with, and training into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pactl_cli import catalogue
from pactl_cli.data.dataset import LabelledExamples
from pactl_cli.data.files.progress import Progress
from pactl_cli.data.splits import Indices
from pactl_cli.errors import BAD_INPUT, PactlError
from pactl_cli.problem.consent import DataPlace, Named, place_of_data
from pactl_cli.problem.display import Display
from pactl_cli.problem.loading import Request, load_problem
from pactl_cli.problem.machine import find_device
from pactl_cli.problem.modesty import require_modest
from pactl_cli.problem.problem import PERMUTATION, Problem
from pactl_cli.problem.reloading import require_same_data
from pactl_cli.processes.world import World
from pactl_cli.runs.checkpoint import load_tensors, save_tensors
from pactl_cli.runs.claim import claimed
from pactl_cli.runs.directory import (
    CHECKPOINT,
    CONFIG,
    INDICES,
    INIT,
    METRICS,
    RESUME,
    RunDirectory,
    is_vacant,
    require_writable,
)
from pactl_cli.runs.following import FollowedRun
from pactl_cli.runs.kinds import KINDS
from pactl_cli.runs.settings import TrainSettings, TransferSettings, option_name
from pactl_cli.runs.start import Start
from pactl_cli.subspace.quantise import grid
from pactl_cli.training.loop import Objective, State, Trainer
from pactl_cli.training.objectives import NetworkObjective, RateObjective
from pactl_cli.training.recipes import Plan

STAGE = "train"
_STATE = f"{RESUME}/state.safetensors"
_MAY_DIFFER_ON_RESUME = {"device", "data_dir", "num_workers"}


@dataclass(frozen=True)
class Destination:
    """Where a run goes, and what to do with what is there.

    Attributes:
        resume: go on with the run that is there, or begin it if none is.
        force: replace the run that is there.
        model_name: the network, if the command line names one.
    """

    path: Path
    resume: bool = False
    force: bool = False
    model_name: str | None = None

    def existing(self) -> RunDirectory | None:
        """The run to go on with, if one has begun."""
        return RunDirectory.open(self.path) if self.resume and not is_vacant(self.path) else None

    def place(self, settings: TrainSettings) -> DataPlace | None:
        """Where a run that has begun finds its data, if one has: where the user says, or as `bound` finds them."""
        begun = self.existing()
        if begun is None or CONFIG not in begun.manifest.files:
            return None
        kept = KINDS[begun.manifest.kind].settings.parse(begun.read_config())
        if kept.dataset != settings.dataset:  # which is said later, and better
            return None
        return place_of_data(begun, kept, Named(settings.data_dir), only_read=False)

    def permutation(self) -> Indices | None:
        """The user's permutation, if a run that has begun records one: it is then not looked for where it lay."""
        begun = self.existing()
        if begun is None or INDICES not in begun.manifest.files:
            return None
        return begun.read_arrays(INDICES).get(PERMUTATION)


def load_for(
    destination: Destination, settings: TrainSettings, display: Display, world: World, start: Start | None = None
) -> Problem:
    """The problem of a run that begins, or that goes on with what its directory says.

    Raises:
        PactlError: as `load_problem` does, or if a run that may be a stranger's makes us take much memory.
    """
    device = find_device(settings.device, world)
    place, permutation = world.from_first(lambda: (destination.place(settings), destination.permutation()))
    problem = load_problem(Request(settings, device, display, world, start, place, permutation))
    world.from_first(lambda: _require_modest(destination, settings, problem))
    return problem


def _require_modest(destination: Destination, settings: TrainSettings, problem: Problem) -> None:
    """Raises MissingError if a run that may be a stranger's makes us take much memory: the one that is gone on with, or
    the source that says how large frames are."""
    run = destination.existing()
    if run is None and problem.is_framed and isinstance(settings, TransferSettings) and _is_of_run(settings):
        run = RunDirectory.open(Path(settings.source))
    if run is not None:
        require_modest(run, problem, destination.model_name)


def _is_of_run(settings: TransferSettings) -> bool:
    """Whether the weights are a run's, not those of a package."""
    return catalogue.source_reference(settings.source).scheme == catalogue.RUN


@contextmanager
def open_run(kind: str, destination: Destination, problem: Problem) -> Iterator[RunDirectory]:
    """The run directory of a problem, begun, or, if it is to be gone on with, found to be of the same one.

    Of several processes rank 0 does this and all writing to come; the others follow. Nobody else writes meanwhile.

    Raises:
        PactlError: if there is another run, or something that is none, or somebody else at work.
    """
    with ExitStack() as claims:
        run = problem.world.from_first(lambda: _begun_or_found(kind, destination, problem, claims))
        yield run if problem.world.leads else FollowedRun(run.path, run.manifest)


def _begun_or_found(kind: str, destination: Destination, problem: Problem, claims: ExitStack) -> RunDirectory:
    with suppress(OSError):  # creating the run says it better
        destination.path.mkdir(parents=True, exist_ok=True)
    claims.enter_context(claimed(destination.path))
    run = destination.existing()
    if run is None:
        run = RunDirectory.create(destination.path, kind, force=destination.force)
        _begin(run, problem)
        return run
    require_writable(run.path, "--out ")
    run.sweep()
    if run.manifest.kind != kind:
        raise PactlError(f"--out {run.path} is a run of pactl {run.manifest.kind}, not of pactl {kind}")
    if CONFIG not in run.manifest.files:
        run.clear()
        _begin(run, problem)
    if altered := run.altered():
        raise PactlError(f"{altered[0]} is truncated, altered or missing", "start again with --force")
    _require_same(run, problem)
    return run


def mention_copies(problem: Problem, display: Display) -> None:
    """Says what copies there are among the examples."""
    parts = problem.partition
    if len(parts.excluded):
        display.say(f"{len(parts.excluded):,} training examples are left out: the source was trained on them")
    if len(parts.copies):
        display.say(
            f"{len(parts.copies):,} training examples are left out: they are copies of the prior's or calibration's"
        )
    if len(parts.repeated):
        display.say(f"{len(parts.repeated):,} training examples are left out: they are exact copies of others")
    if problem.repetitions:
        display.warn(
            f"{problem.repetitions:,} of {len(problem.sample):,} examples to count are exact copies of others; if "
            "somebody made them, they are no independent draws (--duplicates drop counts each once)"
        )


def _begin(run: RunDirectory, problem: Problem) -> None:
    """Writes what is known before the first step."""
    run.manifest.device = str(problem.device)
    found = problem.fingerprints
    run.manifest.data_sha256, run.manifest.train_sha256 = found.sample, found.train
    run.manifest.test_sha256 = found.test
    run.write_config(problem.settings.as_dict())
    files: tuple[str, ...] = (CONFIG,)
    if problem.has_indices:
        run.write_arrays(INDICES, problem.indices())
        files += (INDICES,)
    if problem.blueprint.start is not None:
        run.manifest.parent = problem.blueprint.start.sha256()
        problem.blueprint.start.save(run)
        files += (INIT,)
    run.set_stage(run.manifest.kind, "running", files)


def _require_same(run: RunDirectory, problem: Problem) -> None:
    """Raises PactlError if settings or data are not those with which the run began."""
    before, now = run.read_config(), problem.settings.as_dict()
    for name, value in now.items():
        if name not in _MAY_DIFFER_ON_RESUME and before.get(name) != value:
            raise PactlError(
                f"{option_name(name)} {value} differs from the run in {run.path}, which has {before.get(name)}",
                "resume with the same options, or start again with --force",
                BAD_INPUT,
            )
    require_same_data(run, problem, problem.settings.dataset)
    if problem.has_indices:
        problem.require_indices(run.read_arrays(INDICES), run.path / INDICES)


def train_coordinates(run: RunDirectory, problem: Problem, display: Display) -> None:
    """Trains w on S, or, where d is 0, all the weights; then the run is complete."""
    settings = problem.settings
    objective: Objective
    if settings.intrinsic_dim == 0:
        network = problem.blueprint.network().to(problem.device)
        objective, trained = NetworkObjective(problem.blueprint.prepared(network)), network.state_dict(keep_vars=True)
    else:
        module = problem.build_module()
        objective = RateObjective(
            module,
            grid(),
            rate_weight=settings.rate_weight,
            examples=len(problem.sample),
            start=settings.rate_from if settings.rate_weight else 1.0,
        )
        trained = {"w": module.w}
    trainer = trainer_of(problem, objective, problem.sample, plan(settings), STAGE)
    fit(run, trainer, f"{problem.settings.model_name} d={settings.intrinsic_dim}", display)
    finish(run, trained)


def finish(run: RunDirectory, tensors: dict[str, torch.Tensor]) -> None:
    """Writes the checkpoint; the run is complete."""
    save_tensors(run, CHECKPOINT, tensors, {"stage": STAGE})
    run.set_stage(run.manifest.kind, "complete", (CHECKPOINT, METRICS))
    run.remove_resume()


def plan(settings: TrainSettings) -> Plan:
    """The recipe of resolved settings."""
    names = Plan.__dataclass_fields__.keys() - {"recipe"}
    return Plan(recipe=settings.optimizer, **settings.model_dump(include=set(names)))


def trainer_of(problem: Problem, objective: Objective, examples: LabelledExamples, plan: Plan, stage: str) -> Trainer:
    """What trains an objective on some examples of a problem."""
    settings = problem.settings
    return Trainer(
        objective.to(problem.device),
        examples,
        plan,
        seed=settings.seed,
        stage=stage,
        augment=settings.augment or catalogue.NO_VIEW,
        autocast=_precision(settings.precision),
        world=problem.world,
    )


def fit(run: RunDirectory, trainer: Trainer, what: str, display: Display) -> None:
    """Trains from where the run stands.

    Raises:
        PactlError: as `Trainer.run` does.
    """
    with display.progress(f"training {what}") as advance:
        state = trainer.world.from_first(lambda: _load_state(run, trainer.stage))
        trainer.run(RunObserver(run, trainer.stage, advance), state)


def _precision(name: str) -> torch.dtype | None:
    """The type to compute training steps in; None for single precision."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    return torch.bfloat16 if name == "bf16" else None


class RunObserver:
    """Writes what a loop reports into the run directory, and shows it."""

    def __init__(self, run: RunDirectory, stage: str, advance: Progress) -> None:
        self._run, self._stage, self._advance = run, stage, advance

    def advance(self, step: int, steps: int, loss: float) -> None:
        """Moves the bar."""
        self._advance(step, steps)

    def epoch(self, record: dict[str, Any]) -> None:
        """One line of metrics."""
        self._run.append_metrics(record)

    def save(self, state: State) -> None:
        """Everything that `--resume` needs, in one file."""
        numbers = {"step": state.step, "loss_sum": state.loss_sum, "errors": state.errors, "seconds": state.seconds}
        facts = {key: repr(value) for key, value in numbers.items()} | {"stage": self._stage}
        save_tensors(self._run, _STATE, state.tensors, facts)


def _load_state(run: RunDirectory, stage: str) -> State:
    """The last saved state of a stage, or the beginning."""
    tensors, facts = load_tensors(run.path / _STATE) if (run.path / _STATE).exists() else ({}, {})
    if facts.get("stage") != stage:
        run.keep_metrics(lambda record: record.get("stage") != stage)
        return State(0, {})
    try:
        step, errors = int(facts["step"]), int(facts["errors"])
        loss_sum, seconds = float(facts["loss_sum"]), float(facts["seconds"])
    except (KeyError, ValueError) as error:
        raise PactlError(f"{run.path / _STATE} is damaged", "start again with --force") from error

    def is_before(record: dict[str, Any]) -> bool:
        reached = record.get("step")
        return record.get("stage") != stage or (type(reached) is int and 0 <= reached <= step)

    run.keep_metrics(is_before)
    return State(step, tensors, loss_sum, errors, seconds)
