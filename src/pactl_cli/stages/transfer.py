"""`pactl transfer`: a network trained in a random subspace, from weights that were trained on other data."""

from __future__ import annotations

import torch

from pactl_cli import catalogue
from pactl_cli.problem.display import Display
from pactl_cli.problem.machine import find_device
from pactl_cli.problem.problem import Problem
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.directory import INIT, RunDirectory
from pactl_cli.runs.settings import TransferSettings
from pactl_cli.runs.start import Start
from pactl_cli.sources import find_source
from pactl_cli.stages.training_run import Destination, finish, train_coordinates, train_into


def transfer(settings: TransferSettings, destination: Destination, display: Display, world: World = ALONE) -> None:
    """Train into a run directory, from the weights of `settings.source`, which is then no longer needed.

    Raises:
        PactlError: as `train` does.
    """
    find_device(settings.device, world)
    start = world.from_first(lambda: _start(settings, destination, display))
    train_into(destination, settings, display, world, start, _train)


def _train(run: RunDirectory, problem: Problem, display: Display) -> None:
    """Train the coordinates, if there are any: d = 0 is the source as it is."""
    if problem.settings.intrinsic_dim:
        train_coordinates(run, problem, display)
    else:
        finish(run, {"w": torch.zeros(0)})


def _start(settings: TransferSettings, destination: Destination, display: Display) -> Start:
    """Return the weights of the source, or, once a run has begun, those that it has of it."""
    begun = destination.existing()
    if begun is None or INIT not in begun.manifest.files:
        return find_source(settings, display)
    kept = begun.read_settings()
    catalogue.require_named(kept.model_name, destination.model_name, str(begun.path))
    return Start.load(begun, kept)
