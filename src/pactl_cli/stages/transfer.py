"""`pactl transfer`: a network trained in a random subspace, from weights that were trained on other data."""

from __future__ import annotations

from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Display
from pactl_cli.problem.machine import find_device
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.directory import INIT
from pactl_cli.runs.settings import TransferSettings
from pactl_cli.runs.start import Start
from pactl_cli.sources import find_source
from pactl_cli.stages.acceptance import require_trainable
from pactl_cli.stages.training_run import Destination, load_for, mention_copies, open_run, train_coordinates


def transfer(settings: TransferSettings, destination: Destination, display: Display, world: World = ALONE) -> None:
    """Trains into a run directory, from the weights of `settings.source`, which is then no longer needed.

    Raises:
        PactlError: exit code 2 for anything wrong that can be found before work starts
            (then nothing is written), 1 for a loss that is not finite, 130 if interrupted.
    """
    find_device(settings.device, world)
    start = world.from_first(lambda: _start(settings, destination, display))
    subject = load_for(destination, settings, display, world, start)
    require_trainable(subject, subject.build_module(), subject.settings.batch_size or 1)
    with open_run("transfer", destination, subject) as run:
        if run.is_complete():
            return
        mention_copies(subject, display)
        train_coordinates(run, subject, display)


def _start(settings: TransferSettings, destination: Destination, display: Display) -> Start:
    """The weights of the source, or, once a run has begun, those that it has of it."""
    begun = destination.existing()
    if begun is None or INIT not in begun.manifest.files:
        return find_source(settings, display)
    kept = TransferSettings.parse(begun.read_config())
    Named(model_name=destination.model_name).require_network(begun, kept.model_name)
    return Start.load(begun, kept)
