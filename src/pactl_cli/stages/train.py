"""`pactl train`: a network trained in a random subspace, from its seeded initialisation."""

from __future__ import annotations

from pactl_cli.problem.display import Display
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.stages.acceptance import require_trainable
from pactl_cli.stages.training_run import Destination, load_for, mention_copies, open_run, train_coordinates


def train(settings: TrainSettings, destination: Destination, display: Display, world: World = ALONE) -> None:
    """Trains into a run directory, which of several processes rank 0 writes.

    Raises:
        PactlError: exit code 2 for anything wrong that can be found before work starts
            (then nothing is written), 1 for a loss that is not finite, 130 if interrupted.
    """
    subject = load_for(destination, settings, display, world)
    require_trainable(subject, subject.build_module(), subject.settings.batch_size or 1)
    with open_run("train", destination, subject) as run:
        if not run.is_complete():
            mention_copies(subject, display)
            train_coordinates(run, subject, display)
