"""The settings of a run that trains another one further: that one's own, but for how it is trained."""

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
    """Return the settings that neither the message nor the problem depends on."""
    panels: dict[str, Any] = {name: field.json_schema_extra for name, field in TrainSettings.model_fields.items()}
    return {name for name, extra in panels.items() if extra["panel"] in (TRAINING, MACHINE)}


def continued_settings(path: Path, given: dict[str, Any]) -> TrainSettings:
    """Return the settings of a run that continues another on the same examples, and is of the same kind.

    Args:
        path: of the other run, which may be a stranger's: data come from where the user says.
        given: what the user says, `continued` included.

    Raises:
        PactlError: if something is given that the message or the problem depends on, and the run has it otherwise; or
            if the run has nothing to train.
    """
    run = RunDirectory.open(path)
    run.require_complete(run.manifest.kind)
    kind, trained = KINDS[run.manifest.kind], run.read_settings()
    if kind.certifies_theta0 and not trained.intrinsic_dim:
        raise PactlError(f"--continue {path}: it is theta0 itself, and has no coordinates to train (d = 0)")
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
    """Return whether a setting may name the same of the user's own elsewhere, which is then compared by its content."""
    if name == "dataset":
        rows = [[catalogue.dataset_entry(part) for part in catalogue.joined(each)] for each in (now, before)]
        return rows[0] == rows[1]
    if name == "model_name":
        return catalogue.standing_for(now, before) == before
    return name == "tokenizer" and not {now, before} & {*BUILT_IN}
