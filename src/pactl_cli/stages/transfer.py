"""`pactl transfer`: a network trained in a random subspace, from weights that were trained on other data."""

from __future__ import annotations

from pactl_cli.problem.display import Display
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.settings import TransferSettings
from pactl_cli.stages.training_run import Destination, train_into


def transfer(settings: TransferSettings, destination: Destination, display: Display, world: World = ALONE) -> None:
    """Train into a run directory, from the weights of `settings.source`.

    Raises:
        PactlError: as `train` does.
    """
    train_into(destination, settings, display, world)
