"""The generated pages of the documentation: `python -m pactl_cli.commands.reference docs` writes them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from pactl_cli import catalogue
from pactl_cli.commands.layout import help_of
from pactl_cli.commands.names import defaults, line


def catalogue_page() -> str:
    """Return `docs/catalogue.md`."""
    parts = ["# Names", "Every name that an option takes. This page is generated from the program."]
    for table in catalogue.TABLES:
        rows = ((f"`{name}`", line(row)) for name, row in table.items())
        parts += [f"## {table.title}: `{table.option}`", _table(("name", ""), rows)]
        if table is catalogue.DATASETS:
            parts += [
                "The defaults of `train` for each data set, as `--print-config` shows them:",
                _defaults_table(),
            ]
    return "\n\n".join(parts) + "\n"


def _defaults_table() -> str:
    """Return the table of the defaults that differ by data set."""
    rows = ((f"`{entry.name}`", *_known(defaults(entry), entry)) for entry in catalogue.DATASETS.values())
    header = ("data set", "network", "epochs", "batch", "lr", "d", "calibration examples", "view")
    return _table(header, rows)


def _known(values: Mapping[str, Any], entry: catalogue.Dataset) -> Iterator[str]:
    """Yield default values as cells, with a rule in place of a value that depends on the data's content."""
    of_tokens = entry.for_inputs("tokens")
    open_ones = {"intrinsic_dim": "a tenth of S", "calibration_examples": "512 with BatchNorm"}
    open_ones["augment"] = f"{catalogue.COLOUR_VIEW} of colour images of bytes"
    for name, field in (("model_name", "model"), *((name, name) for name in ("epochs", "batch_size", "lr"))):
        own, other = getattr(entry, field), getattr(of_tokens, field)
        open_ones[name] = str(own) if own == other else f"{own}; of tokens {other}"
    for name, value in values.items():
        yield open_ones[name] if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def commands_page() -> str:
    """Return `docs/commands.md`."""
    from pactl_cli.commands.app import app

    parts = ["# Commands", "Every command and option, as `--help` says it. This page is generated from the program."]
    commands: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        arguments = "".join(f" {p.display_name_raw}" for p in command.params if p.param_type_name == "argument")
        parts += [f"## `pactl {name}{arguments}`", _plain(command.help), *_examples(command.epilog)]
        options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
        parts.append(_table(("option", ""), ((_spelling(p), _plain(help_of(p))) for p in options)))
    return "\n\n".join(filter(None, parts)) + "\n"


def _spelling(option: Any) -> str:
    return ", ".join(f"`{text}`" for text in (*option.opts, *option.secondary_opts))


def _examples(epilog: str | None) -> Iterator[str]:
    """Yield the example or the examples at the end of a command's help, each on one line."""
    first, *more = (epilog or "").split("\n\n")
    for example in more if first == "Examples:" else [first.removeprefix("Example:")]:
        yield example and f"`{' '.join(example.replace(chr(92), '').split())}`"


def _plain(text: str | None) -> str:
    """Return help on one line, as a cell of a table."""
    return " ".join((text or "").split()).replace("[default:", "(default:").replace("]", ")").replace("|", "\\|")


def _table(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


PAGES = {"catalogue.md": catalogue_page, "commands.md": commands_page}

if __name__ == "__main__":
    for page, write in PAGES.items():
        (Path(sys.argv[1]) / page).write_text(write(), encoding="utf-8")
