"""`pactl train`: a network trained in a random subspace from its seeded initialisation; or, as a source, all of it."""

from __future__ import annotations

from pactl_cli.problem.display import Display
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.stages.training_run import Destination, train_into


def train(settings: TrainSettings, destination: Destination, display: Display, world: World = ALONE) -> None:
    """Train into a run directory, which of several processes rank 0 writes.

    Raises:
        PactlError: exit code 2 for anything wrong that can be found before work starts
            (then nothing is written), 1 for a loss that is not finite, 130 if interrupted.
    """
    train_into(destination, settings, display, world)
