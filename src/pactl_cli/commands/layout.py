"""The layout of help and of sentences: lines of 80 columns in which every word and every default stays whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import Any, TextIO

from rich.console import Console
from typer.core import TyperCommand, TyperGroup

_WIDTH = 79
_WIDEST_NAME = 30
_LONGEST_SENTENCE = 1000
_TOGETHER = "\N{NO-BREAK SPACE}"
_ARGUMENTS, _OPTIONS = "Arguments", "Options"
_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|\| pactl \w+ -""")
_COMMAND = re.compile(r"""\bpactl(?: (?:'[^']*'|"[^"]*"|[^\s'";)])+)+""")
"""A command in a sentence, up to the sentence's end or the bracket that closes it."""


class Command(TyperCommand):
    """A command whose help has this module's layout."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write("\n".join(_page(self, ctx, [])) + "\n")


class Group(TyperGroup):
    """The program itself, whose help lists its commands, each with its first sentence."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        commands = [(name, command.get_short_help_str(_LONGEST_SENTENCE)) for name, command in self.commands.items()]
        formatter.write("\n".join(_page(self, ctx, ["Commands:", *definitions(commands)])) + "\n")


def definitions(rows: Iterable[tuple[str, str]], width: int | None = _WIDTH) -> Iterator[str]:
    """Yield the lines of a list of names with their explanations; that of a long name stands below it.

    Args:
        width: the width of a line, which only a longer word may exceed; None for one line per name.
    """
    every = list(rows)
    column = min(max((len(name) for name, _ in every), default=0), _WIDEST_NAME) + 4
    for name, text in every:
        lines = wrapped(text, None if width is None else width - column)
        if len(name) + 4 > column:
            yield f"  {name}"
            name = ""
        for line in lines or [""]:
            yield f"  {name:<{column - 2}}{line}".rstrip()
            name = ""


def columns(stream: TextIO) -> int | None:
    """Return the width of lines on a terminal; None for another stream, where a sentence stays on one line."""
    return Console(file=stream).width - 1 if stream.isatty() else None


def wrapped(text: str, width: int | None, before: str = "") -> list[str]:
    """Return the lines of a text; none breaks a word, a number or a command.

    Args:
        width: the width of a line, which only a longer word may exceed; None for a single line.
        before: the beginning of the first line; the others begin with as many spaces.
    """
    whole = _COMMAND.sub(_joined, text).replace(" %", f"{_TOGETHER}%")
    return [before + text] if width is None else _filled(whole, width, before)


def command_lines(command: str, width: int | None, before: str = "  ") -> str:
    """Return a command after some words, on lines that a shell joins to one."""
    lines = [before + command] if width is None else _filled(_QUOTED.sub(_joined, command), width - 2, before)
    return " \\\n".join(lines)


def _filled(text: str, width: int, before: str) -> list[str]:
    """Return lines with as many words as fit."""
    margin = " " * len(before)
    lines = wrap(
        text, width, initial_indent=before, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(_TOGETHER, " ") for line in lines]


def _joined(found: re.Match[str]) -> str:
    """Return a match whose words stay on one line."""
    return found[0].replace(" ", _TOGETHER)


def _page(command: Any, ctx: Any, more: list[str]) -> Iterator[str]:
    """Yield the lines of a command's help: usage, what it does, arguments and options by panel, examples."""
    panels: dict[str, list[Any]] = {_ARGUMENTS: []}
    for parameter in command.get_params(ctx):
        own = _ARGUMENTS if parameter.param_type_name == "argument" else _OPTIONS
        panels.setdefault(getattr(parameter, "rich_help_panel", None) or own, []).append(parameter)
    words = ["COMMAND ..."] if more else [_name(parameter, ctx) for parameter in panels[_ARGUMENTS]]
    yield " ".join(["Usage:", ctx.command_path, "[OPTIONS]", *words])
    yield from ("", *wrapped(command.help or "", _WIDTH))
    if more:
        yield from ("", *more)
    for title, parameters in sorted(panels.items(), key=lambda panel: panel[0] == _OPTIONS):
        if parameters:
            yield from ("", f"{title}:", *definitions((_name(each, ctx), help_of(each)) for each in parameters))
    if command.epilog:
        yield from ("", command.epilog)


def _name(parameter: Any, ctx: Any) -> str:
    """Return the name of an argument, or of an option with its metavar."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join(sorted(parameter.opts, key=len))
    if parameter.is_flag:
        return f"--[no-]{names[2:]}" if parameter.secondary_opts else names
    kind = parameter.display_type_rich(ctx).strip("<>").split()[0].upper()
    return f"{names} {parameter.metavar or ('TEXT' if kind == 'STR' else kind)}"


def help_of(parameter: Any) -> str:
    """Return a parameter's help, with the default that the parser knows."""
    shown = parameter.show_default if parameter.param_type_name == "option" else False
    default = shown if isinstance(shown, str) else parameter.default if shown else None
    return with_default(str(parameter.help or ""), None if default is False else default)


def with_default(text: str, default: object) -> str:
    """Return an option's help with its default, which no line separates from the word `default`."""
    return text if default is None else f"{text} [default:{_TOGETHER}{default}]"
