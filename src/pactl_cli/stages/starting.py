"""What a run starts from: a source's weights, a prior, or the coordinates of a run that it continues."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pactl_cli import catalogue
from pactl_cli.errors import PactlError
from pactl_cli.problem.consent import DataPlace
from pactl_cli.problem.display import Display
from pactl_cli.problem.problem import Problem
from pactl_cli.problem.reloading import require_same_data, start_of, trained_coordinates, trained_weights
from pactl_cli.runs.checkpoint import load_tensors, save_tensors
from pactl_cli.runs.directory import CONFIG, INIT, RESUME, RunDirectory
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import SOURCE, Start
from pactl_cli.sources import find_source

_BEGINNING = f"{RESUME}/beginning.safetensors"
"""Where the training of a run that continues another begins."""


def is_begun(run: RunDirectory | None) -> bool:
    """Return whether a run has got as far as its settings."""
    return run is not None and CONFIG in run.manifest.files


def continued_run(settings: TrainSettings) -> RunDirectory | None:
    """Return the run that settings continue, complete and unaltered; None if they continue none.

    Raises:
        PactlError: if it is none that can be trained further.
    """
    if settings.continued is None:
        return None
    run = RunDirectory.open(settings.continued)
    run.require_complete(run.manifest.kind)
    return run


def find_start(
    settings: TrainSettings, begun: RunDirectory | None, model_name: str | None, display: Display
) -> Start | None:
    """Return the weights to start from, once a run has begun those that it has; None if a seed alone gives them.

    Args:
        begun: the run to go on with, if there is one.
        model_name: the network that the user has named.

    Raises:
        PactlError: if there are none, or they are not those that the run began with.
    """
    run = begun if begun is not None and is_begun(begun) else continued_run(settings)
    if run is None:
        return find_source(settings, display) if settings.has_source else None
    kept = run.read_settings()
    catalogue.require_named(kept.model_name, model_name, str(run.path))
    if INIT in run.manifest.files:
        return start_of(run, kept)
    return start_of(run, kept, SOURCE) if kept.has_source else None


def save_start(run: RunDirectory, problem: Problem) -> tuple[str, ...]:
    """Write what a run that begins starts from, so that it needs nothing else; return the files to vouch for."""
    start, settings = problem.blueprint.start, problem.settings
    if settings.continued is not None:
        _save_beginning(run, problem, settings.continued)
    if start is None:
        return ()
    run.manifest.parent = start.sha256()
    is_theta0 = settings.continued is not None or not problem.kind.has_prior
    start.save(run, INIT if is_theta0 else SOURCE)
    return (INIT,) if is_theta0 else ()


def _save_beginning(run: RunDirectory, problem: Problem, continued: Path) -> None:
    """Write the end of the continued run, where the training of the new one begins."""
    before = RunDirectory.open(continued)
    if dim := problem.configuration.intrinsic_dim:
        tensors = {"w": trained_coordinates(before, dim)}
    else:
        tensors = trained_weights(before, problem.blueprint.network().state_dict())
    save_tensors(run, _BEGINNING, tensors, {})


def require_continuable(problem: Problem, place: DataPlace | None) -> None:
    """Raise PactlError if a run that is to be continued is on other examples."""
    before = continued_run(problem.settings)
    if before is not None:
        require_same_data(before, problem, place.dataset if place else problem.settings.dataset)


@torch.no_grad()
def load_beginning(run: RunDirectory, problem: Problem, trained: Mapping[str, Tensor]) -> None:
    """Set what is trained, by name, to where the training of a run that continues another begins.

    Raises:
        PactlError: if the run does not have it.
    """
    if problem.settings.continued is None:
        return
    tensors = problem.world.from_first(lambda: load_tensors(run.path / _BEGINNING)[0])
    if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in trained.items()}:
        raise PactlError(f"{run.path / _BEGINNING} is damaged", "start again with --force")
    for name, tensor in trained.items():
        tensor.copy_(tensors[name])
