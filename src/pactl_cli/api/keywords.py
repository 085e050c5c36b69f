"""Translation of command-line words into Python: `--intrinsic-dim 0` becomes `intrinsic_dim=0`."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pactl_cli import catalogue
from pactl_cli.certificate.questions import SHOWN
from pactl_cli.errors import PactlError, option_name
from pactl_cli.runs.fields import Settings
from pactl_cli.runs.kinds import KINDS
from pactl_cli.runs.settings import BoundSettings
from pactl_cli.stages.order import Order

ORDER = tuple(Order.__dataclass_fields__)
"""Keywords of a training call that are not settings of the run."""
_FLAGS = ("resume", "force")
_SPACED = r"(?<=\A--dataset )(?:npz|folder|csv|parquet):[^;]+?(?=: | has | is | fails| cannot )"
"""A path at the beginning of a message, which spaces do not end."""
_OPTION = re.compile(rf"""--(no-)?([a-z][a-z-]*)(?:([ =])({_SPACED}|"[^"]*"|'[^']*'|[^\s;,)]*[^\s;,):.]))?""")
_VALUE = re.compile(r"""["'].*|-?[0-9.][0-9.e+,-]*|[A-Z][A-Z_:]*|top-[0-9]+|\S*[:/.].+""")
_HELP = re.compile(r"see pactl (\w+) --help")
_COMMAND = re.compile(r"\bpactl [a-z]+ [^;]*$|\bpactl [a-z]+ [^;]*(?=;)")


def settings_of(model: type[Settings]) -> set[str]:
    """Return the names of the settings that a call takes; settings that only `config.yml` may have are left out."""
    extras: dict[str, Any] = {name: field.json_schema_extra for name, field in model.model_fields.items()}
    return {name for name, extra in extras.items() if extra["panel"]}


def require_known(call: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise PactlError if a call does not know a keyword, and suggest the nearest one."""
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"see help(pactl.{call})"
            raise PactlError(f"{call} has no setting {name}", hint)


def in_words_of_python(error: PactlError) -> PactlError:
    """Return the error with keywords in place of options, and with the hint as a part of its text."""
    error.message, error.hint = translated(error.message), translated(error.hint)
    error.args = (error.one_line(),)
    return error


def translated(text: str) -> str:
    """Return a text with options turned into keywords; commands for a shell stay the same."""
    text = _HELP.sub(r"see help(pactl.\1)", text)
    commands = [match.span() for match in _COMMAND.finditer(text)]

    def keyword(match: re.Match[str]) -> str:
        if any(start <= match.start() < end for start, end in commands):
            return match[0]
        return _keyword(match)

    return _OPTION.sub(keyword, text)


def _keyword(match: re.Match[str]) -> str:
    """Return an option as a keyword; take the next word as its value if it can be one."""
    negated, option, gap, word = match.groups()
    name = {option_name(each)[2:]: each for each in _names()}.get(option)
    if name is None:
        return match[0]
    rest = f"{gap}{word}" if word else ""
    if name in _FLAGS or "bool" in str(_names()[name]):
        return f"{name}={not negated}{rest}"
    if not word or not (_VALUE.fullmatch(word) or word in _words(name)):
        return f"{name}{rest}"
    is_literal = re.fullmatch(r"""["'].*|-?[0-9.][0-9.e+-]*|[A-Z][A-Z_:]*""", word)
    return f"{name}={word}" if is_literal else f'{name}="{word}"'


@cache
def _names() -> dict[str, Any]:
    """Return the types of all keywords of the interface, by name."""
    models: list[type[Settings]] = [*(kind.settings for kind in KINDS.values()), BoundSettings]
    return dict.fromkeys(ORDER) | {
        name: field.annotation for model in models for name, field in model.model_fields.items()
    }


def _words(name: str) -> set[str]:
    """Return the words that a setting allows, if it is a choice of words."""
    if name == "device":
        return {"auto", "cpu", "cuda", "mps"}
    if name in ("certify", "headline"):
        return {*SHOWN.split(", ")}
    members = get_args(_names()[name])
    words = {word for one in members if get_origin(one) is Literal for word in get_args(one)}
    if get_origin(_names()[name]) is Literal:
        words = set(members)
    return words.union(*(table for table in catalogue.TABLES if table.option == option_name(name)))
