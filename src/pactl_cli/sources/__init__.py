"""Where theta0 of a transfer comes from: each source of the catalogue is a function of a request."""

from __future__ import annotations

from dataclasses import dataclass

from pactl_cli import catalogue
from pactl_cli.problem.display import Display
from pactl_cli.runs.settings import TransferSettings
from pactl_cli.runs.start import Start


@dataclass(frozen=True)
class SourceRequest:
    """What a source is asked for.

    Attributes:
        name: what the user wrote, without the scheme.
        settings: of the transfer.
        display: where progress goes.
    """

    name: str
    settings: TransferSettings
    display: Display


def find_source(settings: TransferSettings, display: Display) -> Start:
    """Return the weights that `settings.source` names.

    Raises:
        PactlError: if there are none, or they cannot be read.
    """
    reference = catalogue.source_reference(settings.source)
    start: Start = catalogue.SOURCES[reference.scheme].maker()(SourceRequest(reference.name, settings, display))
    return start
