"""The names that help lists."""

from __future__ import annotations

from typing import Any

from pactl_cli import catalogue
from pactl_cli.runs.settings import TrainSettings, option_name


def names_epilog(example: str) -> str:
    """Return what a command's help ends with: an example, then every name that its options take, with a line each."""
    options = {option_name(field) for field in TrainSettings.model_fields}
    groups = [f"Example:  {example}"]
    for table in catalogue.TABLES:
        if table.option in options:
            width = max(map(len, table))
            lines = (f"  [cyan]{name:<{width}}[/cyan]  {line(row)}" for name, row in table.items())
            groups.append("\n".join([f"[bold]{table.title}[/bold] ({table.option})", *lines]))
    return "\n\n".join(groups)


def line(row: Any) -> str:
    """Return a row's summary, and its other names."""
    aliases: tuple[str, ...] = getattr(row, "aliases", ())
    return f"{row.summary} (also {', '.join(aliases)})" if aliases else str(row.summary)
