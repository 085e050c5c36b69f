"""The command that finishes an incomplete run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pactl_cli import catalogue
from pactl_cli.errors import PactlError, shell_command
from pactl_cli.runs.settings import TrainSettings, TransferSettings


def finishing(path: Path, kind: str, read: Callable[[], TrainSettings]) -> str:
    """Return a hint how to finish a run; code that the run names is to be trusted first.

    Args:
        path: the run directory.
        kind: the command that began the run.
        read: a function that returns its settings, or raises PactlError.
    """
    with suppress(PactlError):
        settings = read()
        source = (settings.source,) if isinstance(settings, TransferSettings) else ()
        line = shell_command(kind, *source, resume=True, out=path)
        model, data = settings.model_name, settings.dataset
        code = f"--model-name {model}" if model and catalogue.is_brought(model) else ""
        code += f" --dataset {data}" if catalogue.dataset_entry(data).is_code else ""
        return f"finish it with: {line}{code and f', and {code.strip()} if you trust it'}"
    return "begin it again with --force"
