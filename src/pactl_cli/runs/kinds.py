"""The kinds of runs, and how they differ."""

from __future__ import annotations

from dataclasses import dataclass

from pactl_cli.catalogue import Row, Table
from pactl_cli.runs.settings import PriorSettings, TrainSettings, TransferSettings


@dataclass(frozen=True)
class Kind(Row):
    """A kind of run: a command that begins a run directory.

    Attributes:
        made_by: the stage, a function of settings, destination, display and world.
        settings: the model of `config.yml`.
        has_prior: whether theta0 is trained on a share of the data, the prior's, which is not in S. Calibration
            examples are then the prior's own.
        certifies_theta0: whether d = 0 certifies theta0 as it is. Otherwise d = 0 trains all weights, as a source.
    """

    settings: type[TrainSettings]
    has_prior: bool = False
    certifies_theta0: bool = False

    def certifies(self, settings: TrainSettings) -> bool:
        """Return whether a run with these settings can be certified; otherwise it makes a source."""
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
    """Return the kind of run of some settings."""
    return next(kind for kind in KINDS.values() if kind.settings is type(settings))
