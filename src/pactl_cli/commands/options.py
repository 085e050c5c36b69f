"""Decorators that make a command's options from a settings model or a dataclass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from pactl_cli.commands.completion import NAMES, STARTS, among
from pactl_cli.commands.layout import with_default
from pactl_cli.errors import option_name
from pactl_cli.runs.config_file import read_lists
from pactl_cli.runs.fields import Settings

_Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def with_settings(model: type[Settings], *, without: Collection[str] = ()) -> _Decorator:
    """Replace a command's `given` parameter by one option for each field of `model`.

    The command is called with `given`, a dict of the options that were on the command line. A field gets no option if
    the command has a parameter of that name.

    Args:
        without: names of fields and of panels that get no option.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = {parameter.name for parameter in _parameters(command)}
        options = [
            _parameter(name, field)
            for name, field in model.model_fields.items()
            if name not in own and (panel := _extra(field).get("panel")) and not {name, panel} & {*without}
        ]

        def given(**values: Any) -> dict[str, Any]:
            found = {name: value for name, value in values.items() if value is not None and value != []}
            return {
                name: read_lists(Path(value)) if _is_mapping(model.model_fields[name]) else value
                for name, value in found.items()
            }

        return _with(command, "given", options, given)

    return decorate


def with_options(group: type[Any]) -> _Decorator:
    """Replace a command's `options` parameter by the fields of a dataclass, which are annotated as typer's options."""
    return lambda command: _with(command, "options", _parameters(group), group)


def _with(
    command: Callable[..., None], replaced: str, options: list[inspect.Parameter], gather: Callable[..., Any]
) -> Callable[..., None]:
    """Return a command with options in place of one parameter; `gather` makes the parameter from their values."""

    def run(**arguments: Any) -> None:
        gathered = gather(**{option.name: arguments.pop(option.name) for option in options})
        command(**{replaced: gathered}, **arguments)

    parameters = options + [p for p in _parameters(command) if p.name != replaced]
    positional = [p for p in parameters if isinstance(_info(p), typer.models.ArgumentInfo)]
    rest = [p for p in parameters if p not in positional]
    run.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in positional + rest])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _parameters(source: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(source, eval_str=True).parameters.values())


def _info(parameter: inspect.Parameter) -> Any:
    return get_args(parameter.annotation)[1] if get_origin(parameter.annotation) is Annotated else None


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """Return a field as an option that is None unless given: a default must not override the value of a file."""
    extra = _extra(field)
    kind: Any = list[str] if _is_list(field) else _plain_type(field.annotation)
    words = [] if kind is bool else _words(field.annotation)
    option = typer.Option(
        f"{option_name(name)}/--no-{option_name(name)[2:]}" if kind is bool else option_name(name),
        help=_help(field),
        rich_help_panel=extra.get("panel"),
        show_default=False,
        metavar=extra.get("metavar") or (None if kind is bool else _metavar(name, field)),
        autocompletion=(NAMES | STARTS).get(option_name(name))
        or (among((word, "") for word in words) if words else None),
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _extra(field: FieldInfo) -> dict[str, Any]:
    """Return the facts of a setting for its option; a setting without a panel is for files only."""
    extra: Any = field.json_schema_extra or {}
    return dict(extra)


def _is_mapping(field: FieldInfo) -> bool:
    """Return whether a setting is a mapping, which an option names as a file."""
    return any(get_origin(member) is dict for member in _members(field.annotation))


def _is_list(field: FieldInfo) -> bool:
    """Return whether a setting is a list, whose option can be given several times."""
    return get_origin(field.annotation) is tuple and field.default is not None


def _members(annotation: Any) -> list[Any]:
    """Return the alternatives of a union other than None, or the type alone."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    args = get_args(annotation)
    if not args or get_origin(annotation) in (Literal, dict, tuple):
        return [annotation]
    return [member for arg in args if arg is not NoneType for member in _members(arg)]


def _plain_type(annotation: Any) -> Any:
    """Return the type that the parser checks: settings check the rest, with better messages."""
    members = _members(annotation)
    return members[0] if len(members) == 1 and members[0] in (bool, Path) else str


def _words(annotation: Any) -> list[str]:
    """Return the words that a choice is among."""
    return [word for member in _members(annotation) if get_origin(member) is Literal for word in get_args(member)]


def _metavar(name: str, field: FieldInfo) -> str:
    """Return `NAME`, `INT`, `INT|auto`, ...; `WORD` for a choice whose words the description lists."""
    kinds = [member.__name__.upper() for member in _members(field.annotation) if get_origin(member) is not Literal]
    words, text = _words(field.annotation), "NAME" if option_name(name) in NAMES else "TEXT"
    if not kinds and all(word in (field.description or "") for word in words):
        return "WORD"
    return "|".join([text if kind == "STR" else kind for kind in kinds] + words)


def _help(field: FieldInfo) -> str:
    """Return a field's description with its default, which the parser does not know."""
    extra = _extra(field)
    return with_default(
        field.description or "", extra.get("shown") or (None if field.default is False else field.default)
    )
