"""The start of a run: a source's weights, a prior, or the end of a run that it continues."""

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
"""The file with the end of the continued run, where training begins."""


def is_begun(run: RunDirectory | None) -> bool:
    """Return whether a run has written its settings."""
    return run is not None and CONFIG in run.manifest.files


def continued_run(settings: TrainSettings) -> RunDirectory | None:
    """Return the run that settings continue, checked to be complete and unaltered; None if they continue none.

    Raises:
        PactlError: if it cannot be continued.
    """
    if settings.continued is None:
        return None
    run = RunDirectory.open(settings.continued)
    run.require_complete(run.manifest.kind)
    return run


def find_start(
    settings: TrainSettings, begun: RunDirectory | None, model_name: str | None, display: Display
) -> Start | None:
    """Return the weights to start from; None if the seed alone gives them.

    A run that has begun or is continued gives the weights that it stores, otherwise the source gives them.

    Args:
        begun: the run to resume, if there is one.
        model_name: the network that the user names.

    Raises:
        PactlError: if the weights are missing, or the run's are altered.
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
    """Write the start of a new run into its directory, and return the files to list in the manifest."""
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
    """Write the end of the continued run, where training of the new one begins."""
    before = RunDirectory.open(continued)
    if dim := problem.configuration.intrinsic_dim:
        tensors = {"w": trained_coordinates(before, dim)}
    else:
        tensors = trained_weights(before, problem.blueprint.network().state_dict())
    save_tensors(run, _BEGINNING, tensors, {})


def require_continuable(problem: Problem, place: DataPlace | None) -> None:
    """Raise PactlError if the run to continue was trained on other examples."""
    before = continued_run(problem.settings)
    if before is not None:
        require_same_data(before, problem, place.dataset if place else problem.settings.dataset)


@torch.no_grad()
def load_beginning(run: RunDirectory, problem: Problem, trained: Mapping[str, Tensor]) -> None:
    """Set trained tensors, by name, to the end of the continued run, if there is one.

    Raises:
        PactlError: if the file of these tensors is damaged.
    """
    if problem.settings.continued is None:
        return
    tensors = problem.world.from_first(lambda: load_tensors(run.path / _BEGINNING)[0])
    if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in trained.items()}:
        raise PactlError(f"{run.path / _BEGINNING} is damaged", "start again with --force")
    for name, tensor in trained.items():
        tensor.copy_(tensors[name])
