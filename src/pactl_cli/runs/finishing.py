"""Which command finishes a run that is incomplete."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pactl_cli import catalogue
from pactl_cli.errors import PactlError, shell_command
from pactl_cli.runs.settings import TrainSettings, TransferSettings


def finishing(path: Path, kind: str, read: Callable[[], TrainSettings]) -> str:
    """Return how to finish a run, with code that its own files name only for those who trust it.

    Args:
        kind: the command that began it.
        read: gives its settings, or raises PactlError.
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
