"""Settings of a run that continues another: they differ only in how it is trained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pactl_cli import catalogue
from pactl_cli.data.files.tokenizing import BUILT_IN
from pactl_cli.errors import PactlError, option_name
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.runs.fields import MACHINE, TRAINING
from pactl_cli.runs.kinds import KINDS
from pactl_cli.runs.settings import TrainSettings


def _free() -> set[str]:
    """Return the names of the settings that neither the message nor the problem depends on."""
    panels: dict[str, Any] = {name: field.json_schema_extra for name, field in TrainSettings.model_fields.items()}
    return {name for name, extra in panels.items() if extra["panel"] in (TRAINING, MACHINE)}


def continued_settings(path: Path, given: dict[str, Any]) -> TrainSettings:
    """Return the settings of a run that continues another on the same examples, and is of the same kind.

    Args:
        path: the other run, which may be a stranger's: data come only from where the user says.
        given: the settings that the user gives, `continued` included.

    Raises:
        PactlError: if the user gives another value for a setting that the message or the problem depends on, or the
            run has no coordinates to train.
    """
    run = RunDirectory.open(path)
    run.require_complete(run.manifest.kind)
    kind, trained = KINDS[run.manifest.kind], run.read_settings()
    if kind.certifies_theta0 and not trained.intrinsic_dim:
        raise PactlError(f"--continue {path}: the run is theta0 itself, and has no coordinates to train (d = 0)")
    kept, free = trained.as_dict(), _free()
    for name, other in trained.followed().items():
        if name in free and other in given and kept[name] == kept[other]:
            kept[name] = None
    epochs = {"epochs_before": trained.epochs_before + (trained.epochs or 0)}
    settings = kind.settings.parse(kept | {"data_dir": None, "source_dataset": None} | given | epochs)
    for name, value in settings.as_dict().items():
        before = kept[name]
        if name in given and name not in free and before not in (value, os.path.abspath(str(value))):
            if name == "data_dir" or _is_moved(name, str(value), str(before)):
                continue
            raise PactlError(
                f"{option_name(name)} {value}: the run in {path} has {before}, which its message depends on",
                "leave it out, or train anew",
            )
    return settings


def _is_moved(name: str, now: str, before: str) -> bool:
    """Return whether a setting may name the user's own data or code at a new place; its content is compared later."""
    if name == "dataset":
        rows = [[catalogue.dataset_entry(part) for part in catalogue.joined(each)] for each in (now, before)]
        return rows[0] == rows[1]
    if name == "model_name":
        return catalogue.standing_for(now, before) == before
    return name == "tokenizer" and not {now, before} & {*BUILT_IN}
