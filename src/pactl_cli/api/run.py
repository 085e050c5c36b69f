"""The result of a training call."""

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
    """A run directory, which you can pass wherever a path is expected.

    Attributes:
        path: absolute.
    """

    path: Path

    @cached_property
    def settings(self) -> TrainSettings:
        """All settings of training, with every default filled in."""
        return RunDirectory.open(self.path).read_settings()

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The present lines of `metrics.jsonl`: one for each epoch and each search."""
        return RunDirectory.open(self.path).read_metrics()

    @property
    def certificate(self) -> Certificate | None:
        """The certificate that `bound` wrote, unchecked (see `verify`); None if there is none."""
        return read_certificate(RunDirectory.open(self.path)) if (self.path / CERTIFICATE).exists() else None

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        """Return the path and the certificate, if there is one, for a notebook."""
        certificate = self.certificate
        return f"<p><code>{escape(str(self.path))}</code></p>{certificate._repr_html_() if certificate else ''}"
