"""Sources of theta0 other than a seed, each a function of a name, settings and a display."""

from __future__ import annotations

from pactl_cli import catalogue
from pactl_cli.errors import PactlError
from pactl_cli.problem.display import Display
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Start


def find_source(settings: TrainSettings, display: Display) -> Start:
    """Return the weights that `settings.source` names.

    Raises:
        PactlError: if there are no such weights, or they cannot be read.
    """
    reference = catalogue.source_reference(settings.source or "")
    if reference.scheme != catalogue.RUN and settings.source_dataset is not None:
        raise PactlError(f"--source-dataset {settings.source_dataset}: {settings.source} is no run", "leave it out")
    start: Start = catalogue.SOURCES[reference.scheme].maker()(reference.name, settings, display)
    return start
