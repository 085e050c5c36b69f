"""The kinds of runs, and everything in which they differ."""

from __future__ import annotations

from dataclasses import dataclass

from pactl_cli.catalogue import Row, Table
from pactl_cli.runs.settings import PriorSettings, TrainSettings, TransferSettings


@dataclass(frozen=True)
class Kind(Row):
    """A kind of run: a command that begins a run directory.

    Attributes:
        made_by: the stage, a function of settings, destination, display and world.
        settings: what `config.yml` holds.
        has_prior: whether theta0 is trained on a share of these data, the prior's, which S has not. Calibration
            examples are then the prior's own.
        certifies_theta0: whether there is a message for d = 0: theta0 as it is. Otherwise all weights are trained, as a
            source.
    """

    settings: type[TrainSettings]
    has_prior: bool = False
    certifies_theta0: bool = False

    def certifies(self, settings: TrainSettings) -> bool:
        """Return whether there is a message for a run of such settings; else it makes a source, and counts nothing."""
        return settings.intrinsic_dim != 0 or self.certifies_theta0


_STAGES = "pactl_cli.stages"

KINDS = Table(
    "COMMAND",
    "Kinds of runs",
    (
        Kind("train", "from the seed's own theta0", f"{_STAGES}.train:train", TrainSettings),
        Kind("transfer", "from other data", f"{_STAGES}.train:train", TransferSettings, certifies_theta0=True),
        Kind("prior", "from a share of the data", f"{_STAGES}.prior:prior", PriorSettings, True, certifies_theta0=True),
    ),
)


def kind_of(settings: TrainSettings) -> Kind:
    """Return the kind of run that settings are for."""
    return next(kind for kind in KINDS.values() if kind.settings is type(settings))
