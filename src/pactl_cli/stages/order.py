"""The options of `train`, `transfer` and `prior` that are not settings: the run directory, and the settings file.

This module does not load torch, because the command line needs it before a stage.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from pactl_cli import catalogue
from pactl_cli.errors import PactlError, option_name
from pactl_cli.runs.config_file import read_config_file, read_plain_config
from pactl_cli.runs.continuing import continued_settings
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.runs.kinds import KINDS
from pactl_cli.runs.settings import TrainSettings

RUNS = "runs"
"""The directory for new runs if the user names none, relative to the working directory."""


@dataclass(frozen=True)
class Order:
    """The place of a run, and the file with its settings.

    Attributes:
        out: the run directory; None for a new one below `runs`.
        resume: resume the run in `out`.
        force: replace the run in `out`.
        config: a file of settings, which options override.
    """

    out: Path | None = None
    resume: bool = False
    force: bool = False
    config: Path | None = None

    def settings(self, kind: str, given: dict[str, Any]) -> TrainSettings:
        """Return the settings of a run: options override the file, and code in the file needs an option too.

        Raises:
            PactlError: naming everything that is wrong.
        """
        if self.resume and self.force:
            raise PactlError("--resume and --force exclude each other", "give one of them")
        if self.resume and self.out is None:
            raise PactlError("--resume needs --out", "name the run directory to resume")
        if self.out is not None and "\n" in str(self.out):
            raise PactlError(f"--out {str(self.out)!r} has a line break in it", "a pipe cannot carry it")
        merged = (read_config_file(self.config) if self.config else {}) | given
        continued = merged.get("continued")
        begun = self.out / "config.yml" if self.resume and self.out and self.config is None else None
        if begun is not None and os.path.lexists(begun):
            kept = read_plain_config(begun)
            for place in ("data_dir", "source_dataset"):  # the user, not the run, says where data are read or fetched
                kept.pop(place, None)
            kind = RunDirectory.open(self.out).manifest.kind if self.out and kept.get("continued") else kind
            settings = KINDS[kind].settings.parse(kept | given)
        elif isinstance(continued, str | Path):  # the settings refuse anything else in a file
            if self.out is not None and self.out.resolve() == Path(continued).resolve():
                raise PactlError(f"--out {self.out} is the run to continue; it must not change", "name another place")
            settings = continued_settings(Path(continued), merged)
        else:
            settings = KINDS[kind].settings.parse(merged)
        for needed in (settings.model_name, catalogue.code_of(settings.source)):
            catalogue.require_named(needed, named_code(given), "these settings")
        for name in ("dataset", "source_dataset"):
            data = getattr(settings, name)
            catalogue.require_named_data(data, given.get(name), "these settings", option_name(name))
        return settings

    @contextmanager
    def target(self, settings: TrainSettings) -> Iterator[Path]:
        """Yield the run directory; a new one below `runs` is removed again if it stays empty."""
        if self.out is not None:
            yield self.out
            return
        parent_is_new = not os.path.lexists(RUNS)
        path = _claimed_directory(settings)
        try:
            yield path
        finally:
            with suppress(OSError):
                path.rmdir()
                if parent_is_new:
                    path.parent.rmdir()


def named_code(given: dict[str, Any]) -> str | None:
    """Return the network that options name, by `--model-name` or by a source that is code."""
    return given.get("model_name") or catalogue.code_of(given.get("source"))


def _claimed_directory(settings: TrainSettings) -> Path:
    """Make a new directory below `runs/`, named after the time and the settings, and return it.

    Making it here keeps others from taking it. If it cannot be made, creating the run in it reports why.
    """
    row = catalogue.dataset_entry(settings.dataset)
    dataset = (settings.dataset if row.is_code else row.name.removesuffix(":")).replace(":", "-")
    # of data in files, the kind and so the default network are not known yet
    model = settings.model_name or (None if row.takes_path else row.model)
    dim = "" if settings.intrinsic_dim is None else f"-d{settings.intrinsic_dim}"
    time = datetime.now().strftime("%Y%m%d-%H%M%S")
    words = (time, dataset, model and model.replace(":", "."), settings.intrinsic_mode)
    name = "-".join(filter(None, words)) + dim
    for number in count(1):
        path = Path(RUNS) / (name if number == 1 else f"{name}-{number}")
        with suppress(OSError):
            path.mkdir(parents=True)
            return path
        if not os.path.lexists(path):
            break
    return path
