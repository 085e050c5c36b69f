"""Where theta0 of a transfer comes from: each source of the catalogue is a function of a name and the settings."""

from __future__ import annotations

from pactl_cli import catalogue
from pactl_cli.problem.display import Display
from pactl_cli.runs.settings import TransferSettings
from pactl_cli.runs.start import Start


def find_source(settings: TransferSettings, display: Display) -> Start:
    """Return the weights that `settings.source` names.

    Raises:
        PactlError: if there are none, or they cannot be read.
    """
    reference = catalogue.source_reference(settings.source)
    start: Start = catalogue.SOURCES[reference.scheme].maker()(reference.name, settings, display)
    return start
