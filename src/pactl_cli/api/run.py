"""What a training call returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from pactl_cli.certificate.certificate import Certificate as Certificate
from pactl_cli.runs.directory import CERTIFICATE, RunDirectory
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.stages.claims import read_certificate


@dataclass(frozen=True)
class Run:
    """A run directory; wherever a path is taken, it is one.

    Attributes:
        path: absolute.
    """

    path: Path

    @cached_property
    def settings(self) -> TrainSettings:
        """Every setting, with nothing left to default."""
        return RunDirectory.open(self.path).read_settings()

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl` as they are now, one for each epoch and each search."""
        return RunDirectory.open(self.path).read_metrics()

    @property
    def certificate(self) -> Certificate | None:
        """What `bound` has written, which `verify` checks; None where there is none."""
        return read_certificate(RunDirectory.open(self.path)) if (self.path / CERTIFICATE).exists() else None

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        """Return the path and, where there is one, the certificate for a notebook."""
        certificate = self.certificate
        return f"<p><code>{escape(str(self.path))}</code></p>{certificate._repr_html_() if certificate else ''}"
