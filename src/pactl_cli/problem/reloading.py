"""The problem of a run, from its directory, which may be a stranger's, and its data."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pactl_cli import catalogue
from pactl_cli.data.splits import Indices, require_same_indices
from pactl_cli.errors import PactlError
from pactl_cli.problem.consent import Named, place_of_data
from pactl_cli.problem.display import Display
from pactl_cli.problem.loading import Request, load_problem
from pactl_cli.problem.machine import find_device
from pactl_cli.problem.memory import Work, require_modest
from pactl_cli.problem.problem import PERMUTATION, Problem
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.checkpoint import load_tensors
from pactl_cli.runs.directory import CHECKPOINT, CONFIG, INDICES, INIT, RunDirectory
from pactl_cli.runs.kinds import kind_of
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Start
from pactl_cli.subspace.module import SubspaceModule

_LARGEST_HEADER = 1 << 20


def reload_problem(
    run: RunDirectory, named: Named, device: str, display: Display, world: World = ALONE, *, only_read: bool = False
) -> Problem:
    """Return the problem of a run, which may be a stranger's.

    Args:
        named: what the user has named: only this is read, executed or built for the run.
        only_read: whether to fetch and write nothing, and to read named data sets only where the user says.

    Raises:
        PactlError: if configuration, indices or data are not the run's, or the user has to name something.
    """
    trained = run.read_settings()
    catalogue.require_named(trained.model_name, named.model_name, str(run.path))
    place = place_of_data(run, trained, named, only_read=only_read)
    start = start_of(run, trained)
    permutation = _recorded_permutation(run) if trained.indices_path else None
    request = Request(trained, find_device(device, world), display, world, start, place, permutation)
    problem = load_problem(request)
    if problem.settings.as_dict() | {"data_dir": None} != trained.as_dict() | {"data_dir": None}:
        raise PactlError(f"{run.path / CONFIG} does not hold the fully resolved settings of a run")
    known = problem.blueprint.configured_by_prior() if problem.kind.has_prior else {}
    if start is not None and start.configured != known:  # the message does not pay for what a prior configures
        raise PactlError(f"{run.path / INIT} is altered: its configuration is not that of {CONFIG}")
    require_same_data(run, problem, place.dataset)
    require_modest(run, problem.blueprint, Work.of(problem), named.model_name)
    return problem


def start_of(run: RunDirectory, trained: TrainSettings, name: str = INIT) -> Start | None:
    """Return the weights that a run started from, from the file `name`; None if a seed alone gives them.

    Raises:
        PactlError: if they are not those that the manifest names.
    """
    if not (trained.has_source or kind_of(trained).has_prior):
        return None
    start = Start.load(run, trained, name)
    if run.manifest.parent != start.sha256():
        raise PactlError(f"{run.path / name} is not what the run in {run.path} started from")
    return start


def _recorded_permutation(run: RunDirectory) -> Indices:
    """Return the permutation that a run has recorded; raise PactlError if there is none."""
    permutation = run.read_arrays(INDICES).get(PERMUTATION)
    if permutation is None:
        raise PactlError(f"{run.path / INDICES} does not hold the permutation of {CONFIG}")
    return permutation


def require_same_data(run: RunDirectory, problem: Problem, dataset: str) -> None:
    """Raise PactlError unless all data and their division are those with which a run began.

    Args:
        dataset: the name of the data set that was read, for the message.
    """
    recorded, found = run.manifest, problem.fingerprints
    for what, before, now in (
        ("S", recorded.data_sha256, found.sample),
        ("its training set", recorded.train_sha256, found.train),
        ("its test set", recorded.test_sha256, found.test),
    ):
        if before != now:
            raise PactlError(
                f"the data set {dataset} is not the one that the run in {run.path} was trained on: {what} differs",
                "restore its files, or name the right --data-dir or --dataset",
            )
    if problem.has_indices:
        require_same_indices(problem.indices(), run.read_arrays(INDICES), run.path / INDICES)


def trained_coordinates(run: RunDirectory, dim: int) -> Tensor:
    """Return the trained coordinates of a complete run, shape (dim,).

    Raises:
        PactlError: if the checkpoint does not hold them.
    """
    tensors, _ = load_tensors(run.path / CHECKPOINT, 4 * dim + _LARGEST_HEADER)  # a sparse file could be far larger
    w = tensors.get("w")
    if w is None or w.shape != (dim,) or w.dtype != torch.float32 or not w.isfinite().all():
        raise PactlError(f"{run.path / CHECKPOINT} does not hold {dim:,} finite coordinates")
    return w


def trained_weights(run: RunDirectory, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a complete run that trained all of them.

    Raises:
        PactlError: if their names and shapes are not those `expected`.
    """
    tensors, _ = load_tensors(run.path / CHECKPOINT)
    if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in expected.items()}:
        raise PactlError(f"{run.path / CHECKPOINT} does not hold the weights of its network")
    return tensors


@torch.no_grad()
def restore(module: SubspaceModule, run: RunDirectory) -> None:
    """Load the trained coordinates of a complete run into its module; errors are those of `trained_coordinates`."""
    module.w.copy_(trained_coordinates(run, len(module.w)))
