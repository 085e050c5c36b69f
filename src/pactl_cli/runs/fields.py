"""The base of models of settings: fields with help texts, and error messages in plain words."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator
from difflib import get_close_matches
from itertools import groupby
from operator import itemgetter
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from pactl_cli import catalogue
from pactl_cli.errors import PactlError, option_name, seek_help

DATA, NETWORK, SUBSPACE, TRAINING, MACHINE = "Data", "Network", "Subspace", "Training", "Machine"
QUANTISATION, CERTIFICATE = "Quantisation", "Certificate"


def setting(default: Any, panel: str, text: str, **constraints: Any) -> Any:
    """Return a field with its help text and its group of options.

    Args:
        default: the default value.
        panel: the title of the group.
        text: the help text.
        constraints: pydantic's constraints, and `metavar`, `shown`, the default in words, and `follows`, the field
            whose value is the default.
    """
    follows = constraints.pop("follows", None)
    shown = constraints.pop("shown", None) or (follows and f"= {follows}")
    extra = {"panel": panel, "shown": shown, "follows": follows, "metavar": constraints.pop("metavar", None)}
    return Field(default, description=text, json_schema_extra=extra, **constraints)


def checked(look_up: Callable[[str], object]) -> AfterValidator:
    """Return a validator of a name that `look_up` knows; its PactlError becomes the ValueError that pydantic wants."""

    def check(name: str) -> str:
        try:
            found = look_up(name)
        except PactlError as error:
            raise ValueError(error.one_line()) from error
        return found if isinstance(found, str) else name

    return AfterValidator(check)


def named_in(table: catalogue.Table[Any]) -> AfterValidator:
    """Return a validator of a name in a table."""
    return checked(table.resolve)


class Settings(BaseModel):
    """A model of settings: frozen, and without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
    command: ClassVar[str]

    @field_validator("*", mode="before")
    @classmethod
    def _no_words_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a truth value, which YAML reads for yes and no, as a number."""
        name = info.field_name or ""
        kinds = _alternatives(cls.model_fields[name].annotation)
        if isinstance(value, bool) and bool not in kinds:
            words = ", ".join(word for kind in kinds for word in (kind, *get_args(kind)) if isinstance(word, str))
            choices = next((t.choices for t in catalogue.TABLES if t.option == option_name(name)), words)
            raise ValueError(f"must not be true or false{choices and f': choose from {choices}'}")
        return value

    @classmethod
    def parse(cls, values: dict[str, Any], command: str = "") -> Self:
        """Return the settings from options or a file.

        Args:
            values: the settings by name.
            command: the command whose help an error names; the model's own if none is given.

        Raises:
            PactlError: naming every wrong value at once.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            said = "; ".join(_complaints(error.errors(), cls.model_fields))
            raise PactlError(said, seek_help(command or cls.command)) from error

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as values for `config.yml`."""
        return self.model_dump(mode="json")

    @classmethod
    def followed(cls) -> dict[str, str]:
        """Return the fields whose default is another field's value, each with that other field."""
        extras: dict[str, Any] = {name: field.json_schema_extra or {} for name, field in cls.model_fields.items()}
        return {name: extra["follows"] for name, extra in extras.items() if extra.get("follows")}


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, with the words of a literal one by one, or the type alone."""
    members = get_args(annotation) or (annotation,)
    return tuple(word for one in members for word in (get_args(one) if get_origin(one) is Literal else (one,)))


_PLAINER = {
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "string_type": "must be a text: put it in quotation marks",
    "string_pattern_mismatch": "must be auto, cpu, cuda, cuda:1 or mps",  # a device: nothing else has a pattern
}
"""Shorter texts for pydantic's errors, by type."""
_NUMBER = re.compile(r"[-+]?[0-9.]{1,40}")
"""Text that is shown without quotation marks."""


def _complaints(items: Iterable[Any], known: Collection[str]) -> Iterator[str]:
    """Yield each wrong value in words, once for all alternatives of a union. `known` are the names of all settings."""
    for what, faults in groupby((_complaint(item, known) for item in items), key=itemgetter(0)):
        first, *others = (text for _, text in faults)
        yield what + " or ".join([first, *(text.removeprefix("must be ") for text in others)])


def _complaint(item: Any, known: Collection[str]) -> tuple[str, str]:
    """Return the place of a wrong value, "" if the text names it, and the text that says what is wrong."""
    field = str(item["loc"][0]) if item["loc"] else "settings"
    text = item["msg"].removeprefix("Value error, ")
    if text.startswith("--"):
        return "", str(text)
    if item["type"] == "extra_forbidden":
        near = get_close_matches(field.lower().replace("-", "_"), known, n=1)
        return f"{field}: ", "there is no such setting" + (f": did you mean {near[0]}?" if near else "")
    plainer, value = _PLAINER.get(item["type"]), item["input"]
    limits = {name: str(limit).removesuffix(".0") for name, limit in item.get("ctx", {}).items()}
    text = plainer.format_map(limits) if plainer else text.replace("Input should be", "must be")
    value = ",".join(map(str, value)) if isinstance(value, list) else value
    said = value if isinstance(value, str) and _NUMBER.fullmatch(value) else reprlib.repr(value)
    return f"{option_name(field)} {said}: ", f"{text[0].lower()}{text[1:]}"
