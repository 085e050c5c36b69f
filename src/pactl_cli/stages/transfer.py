"""`pactl transfer`: a network trained in a random subspace, from weights that were trained on other data."""

from __future__ import annotations

import torch

from pactl_cli.problem.display import Display
from pactl_cli.problem.problem import Problem
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.runs.settings import TransferSettings
from pactl_cli.stages.training_run import Destination, finish, train_coordinates, train_into


def transfer(settings: TransferSettings, destination: Destination, display: Display, world: World = ALONE) -> None:
    """Train into a run directory, from the weights of `settings.source`.

    Raises:
        PactlError: as `train` does.
    """
    train_into(destination, settings, display, world, _train)


def _train(run: RunDirectory, problem: Problem, display: Display) -> None:
    """Train the coordinates, if there are any: d = 0 is the source as it is."""
    if problem.settings.intrinsic_dim:
        train_coordinates(run, problem, display)
    else:
        finish(run, {"w": torch.zeros(0)})
