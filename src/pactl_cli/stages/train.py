"""`pactl train` and `pactl transfer`, and what `pactl prior` shares with them: begin or resume a run, and train."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pactl_cli import catalogue, randomness
from pactl_cli.data.dataset import LabelledExamples
from pactl_cli.data.files.tokenizing import BUILT_IN
from pactl_cli.data.splits import Indices
from pactl_cli.errors import BAD_INPUT, PactlError, option_name
from pactl_cli.problem.consent import DataPlace, Named, place_of_data
from pactl_cli.problem.display import Bar, Display
from pactl_cli.problem.loading import Request, load_problem
from pactl_cli.problem.machine import find_device
from pactl_cli.problem.memory import Work, require_modest
from pactl_cli.problem.problem import PERMUTATION, Problem
from pactl_cli.problem.reloading import require_same_data
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.checkpoint import load_tensors, save_tensors
from pactl_cli.runs.claim import claimed
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
from pactl_cli.runs.following import FollowedRun, ToldRun
from pactl_cli.runs.settings import MAX_SEED, TrainSettings
from pactl_cli.stages.acceptance import require_trainable
from pactl_cli.stages.starting import (
    continued_run,
    find_start,
    is_begun,
    load_beginning,
    require_continuable,
    save_start,
)
from pactl_cli.stages.training_inputs import find_inputs
from pactl_cli.subspace.quantise import grid
from pactl_cli.training.loop import Moment, Objective, State, Trainer
from pactl_cli.training.objectives import NetworkObjective, RateObjective
from pactl_cli.training.recipes import Plan

STAGE = "train"
_STATE = f"{RESUME}/state.safetensors"
_MAY_DIFFER_ON_RESUME = {"compile", "device", "data_dir", "num_workers", "source_dataset"}


@dataclass(frozen=True)
class Destination:
    """A directory for a run, and what to do with an existing run there.

    Attributes:
        resume: resume the existing run; begin one if there is none.
        force: replace the existing run.
        model_name: the network that the command line names, if any.
        listener: called with each line of metrics once it is written.
    """

    path: Path
    resume: bool = False
    force: bool = False
    model_name: str | None = None
    listener: Callable[[dict[str, Any]], None] | None = None

    def existing(self) -> RunDirectory | None:
        """Return the run to resume; None if none has begun."""
        return RunDirectory.open(self.path) if self.resume and not is_vacant(self.path) else None

    def recorded(self, settings: TrainSettings) -> tuple[TrainSettings, DataPlace | None, Indices | None]:
        """Return the settings, where the data are, and the user's permutation, as an earlier run records them.

        The earlier run is the one to resume or to continue. Without one, settings stay the same, and the rest is None.
        Data are read where the user says, or where `bound` would find them. The permutation is read from the run, not
        from the user's file.
        """
        begun = self.existing()
        if not is_begun(begun):
            begun = continued_run(settings) or begun
        if begun is None:
            return settings, None, None
        place = permutation = None
        kept = begun.read_settings() if CONFIG in begun.manifest.files else None
        if kept and catalogue.dataset_entry(kept.dataset) == catalogue.dataset_entry(settings.dataset):
            is_named = settings.dataset != kept.dataset or catalogue.dataset_entry(kept.dataset).is_code
            elsewhere = settings.dataset if is_named else None
            is_moved = not {settings.tokenizer, kept.tokenizer} & {*BUILT_IN}
            named = Named(settings.data_dir, elsewhere, tokenizer=settings.tokenizer if is_moved else None)
            place = place_of_data(begun, kept, named, only_read=False)
            moved: dict[str, Any] = {"dataset": kept.dataset} | ({"tokenizer": kept.tokenizer} if is_moved else {})
            moved["model_name"] = catalogue.standing_for(settings.model_name, kept.model_name)
            settings = settings.model_copy(update=moved)
        if INDICES in begun.manifest.files:
            permutation = begun.read_arrays(INDICES).get(PERMUTATION)
        return settings, place, permutation


def train(
    settings: TrainSettings,
    destination: Destination,
    display: Display,
    world: World = ALONE,
    work: Callable[[RunDirectory, Problem, Display], None] | None = None,
) -> None:
    """Begin or resume a run, and train into its directory; leave a complete run as it is.

    The weights or the run that training starts from are copied into the directory, and not needed afterwards. With
    several processes, rank 0 does all the writing. The directory is locked against other writers meanwhile.

    Args:
        work: the training itself; by default `train_coordinates`.

    Raises:
        PactlError: exit code 2 for everything wrong that can be found before work starts (nothing is written then):
            the problem cannot be loaded or trained, a run that may be a stranger's would take much memory, or the
            directory holds something else or is in use. Exit code 1 if the loss is not finite, 130 if interrupted.
    """
    device = find_device(settings.device, world)
    begun, named = destination.existing(), destination.model_name
    start = world.from_first(lambda: find_start(settings, begun, named, display))
    settings, place, permutation = world.from_first(lambda: destination.recorded(settings))
    if start is not None:
        network = catalogue.standing_for(settings.model_name, start.model_name)
        settings = settings.model_copy(update={"model_name": network})
    problem = load_problem(Request(settings, device, display, world, start, place, permutation))
    if not is_begun(begun):
        world.from_first(lambda: require_continuable(problem, place))
    world.from_first(lambda: _require_modest(destination, settings, problem))
    require_trainable(problem, problem.build_module(), problem.settings.batch_size or 1)
    with ExitStack() as claims:
        run = world.from_first(lambda: _begun_or_found(destination, problem, place, claims))
        if not run.is_complete():
            _mention_copies(problem, display)
            if destination.listener:
                run = ToldRun(run, destination.listener)
            (work or train_coordinates)(run if world.leads else FollowedRun(run.path, run.manifest), problem, display)


def _require_modest(destination: Destination, settings: TrainSettings, problem: Problem) -> None:
    """Raise MissingError if a run that may be a stranger's would take much memory.

    This is the run to resume or to continue, or the source that sets the size of frames.
    """
    run = destination.existing() or continued_run(settings)
    if run is None and problem.is_sized_by_source and settings.source:
        source = catalogue.source_reference(settings.source)
        run = RunDirectory.open(Path(source.name)) if source.scheme == catalogue.RUN else None
    if run is not None:
        require_modest(run, problem.blueprint, Work.of(problem), destination.model_name)


def _begun_or_found(
    destination: Destination, problem: Problem, place: DataPlace | None, claims: ExitStack
) -> RunDirectory:
    """Return the run directory of a problem: a new one, or an existing one that was checked to be of this problem."""
    kind = problem.kind.name
    with suppress(OSError):  # RunDirectory.create reports the error better
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
    _require_same(run, problem, place.dataset if place else problem.settings.dataset)
    return run


def _mention_copies(problem: Problem, display: Display) -> None:
    """Tell the user about copies among the examples."""
    parts = problem.partition
    if len(parts.excluded):
        display.say(f"{len(parts.excluded):,} training examples are left out: the source was trained on them")
    if len(parts.copies):
        display.say(
            f"{len(parts.copies):,} training examples are left out: they are copies of prior or calibration examples"
        )
    if len(parts.repeated):
        display.say(f"{len(parts.repeated):,} training examples are left out: they are exact copies of others")
    if problem.repetitions and problem.kind.certifies(problem.settings):
        display.warn(
            f"{problem.repetitions:,} of {len(problem.sample):,} examples to count are exact copies of others; if "
            "somebody made them, they are not independent draws (--duplicates drop counts each once)"
        )


def _begin(run: RunDirectory, problem: Problem) -> None:
    """Write everything that is known before the first step."""
    run.manifest.device = str(problem.device)
    found = problem.fingerprints
    run.manifest.data_sha256, run.manifest.train_sha256 = found.sample, found.train
    run.manifest.test_sha256 = found.test
    run.write_config(problem.settings.as_dict())
    files: tuple[str, ...] = (CONFIG,)
    if problem.has_indices:
        run.write_arrays(INDICES, problem.indices())
        files += (INDICES,)
    files += save_start(run, problem)
    run.set_stage(run.manifest.kind, "running", files)


def _require_same(run: RunDirectory, problem: Problem, dataset: str) -> None:
    """Raise PactlError if the settings, or the data read as `dataset`, differ from those that the run began with."""
    before, now = run.read_config(), problem.settings.as_dict()
    for name, value in now.items():
        if name not in _MAY_DIFFER_ON_RESUME and before.get(name) != value:
            raise PactlError(
                f"{option_name(name)} {value} differs from the run in {run.path}, which has {before.get(name)}",
                "resume with the same options, or start again with --force",
                BAD_INPUT,
            )
    require_same_data(run, problem, dataset)


def train_coordinates(run: RunDirectory, problem: Problem, display: Display) -> None:
    """Train w on S, and complete the run.

    With d = 0, a transfer or a prior trains nothing here, because `bound` certifies theta0 itself; `train` trains all
    weights, to make a source.
    """
    settings = problem.settings
    objective: NetworkObjective
    if settings.intrinsic_dim == 0 and problem.kind.certifies_theta0:
        _finish(run, {"w": torch.zeros(0)})
        return
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
    load_beginning(run, problem, trained)
    with find_inputs(problem, objective.module, problem.sample, display).under(objective) as examples:
        fit(run, trainer_of(problem, objective, examples, plan(settings), STAGE), "training", display)
    if settings.ema and not settings.intrinsic_dim:  # the running statistics belong to the weights before averaging
        problem.calibrate(objective.module)
    _finish(run, trained)


def _finish(run: RunDirectory, tensors: dict[str, torch.Tensor]) -> None:
    """Write the checkpoint, and mark the run as complete."""
    save_tensors(run, CHECKPOINT, tensors, {"stage": STAGE})
    run.set_stage(run.manifest.kind, "complete", (CHECKPOINT, METRICS))
    run.remove_resume()


def plan(settings: TrainSettings) -> Plan:
    """Return the plan of training that resolved settings describe."""
    names = Plan.__dataclass_fields__.keys() - {"recipe"}
    return Plan(recipe=settings.optimizer, **settings.model_dump(include=set(names)))


def trainer_of(problem: Problem, objective: Objective, examples: LabelledExamples, plan: Plan, stage: str) -> Trainer:
    """Return the trainer of an objective on some examples of a problem."""
    settings = problem.settings
    return Trainer(
        objective.to(problem.device),
        examples,
        plan,
        seed=_order_seed(settings),
        stage=stage,
        augment=settings.augment or catalogue.NO_VIEW,
        autocast=torch.bfloat16 if settings.precision == "bf16" else None,
        allow_tf32=settings.precision == "tf32",
        compile=settings.compile,
        world=problem.world,
    )


def _order_seed(settings: TrainSettings) -> int:
    """Return the seed of the order and views of examples; a run that continues another gets a new one."""
    if not settings.epochs_before:
        return settings.seed
    return int(randomness.integers(settings.seed, f"continued/{settings.epochs_before}", 1, MAX_SEED)[0])


def fit(run: RunDirectory, trainer: Trainer, what: str, display: Display) -> None:
    """Train from the last saved state, and show progress under the title `what`.

    Raises:
        PactlError: as `Trainer.run` does.
    """
    with display.progress(what) as advance:
        state = trainer.world.from_first(lambda: _load_state(run, trainer.stage))
        trainer.run(RunObserver(run, trainer.stage, advance), state)


class RunObserver:
    """An observer that writes what a training loop reports into the run directory, and moves the bar."""

    def __init__(self, run: RunDirectory, stage: str, advance: Bar) -> None:
        self._run, self._stage, self._advance = run, stage, advance

    def advance(self, now: Moment) -> None:
        """Move the bar."""
        self._advance(now.step, now.steps, str(now))

    def epoch(self, record: dict[str, Any]) -> None:
        """Write one line of metrics."""
        self._run.append_metrics(record)

    def save(self, state: State) -> None:
        """Write everything that `--resume` needs, in one file."""
        numbers = {"step": state.step, "loss_sum": state.loss_sum, "errors": state.errors, "seconds": state.seconds}
        facts = {key: repr(value) for key, value in numbers.items()} | {"stage": self._stage}
        save_tensors(self._run, _STATE, state.tensors, facts)


def _load_state(run: RunDirectory, stage: str) -> State:
    """Return the last saved state of a stage, or its initial state, and drop the metrics of later steps."""
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
