"""How a model of settings is written: fields with help texts, and complaints in plain words."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from pactl_cli import catalogue
from pactl_cli.errors import PactlError, option_name, seek_help

DATA, NETWORK, SUBSPACE, TRAINING, MACHINE = "Data", "Network", "Subspace", "Training", "Machine"
QUANTISATION, CERTIFICATE = "Quantisation", "Certificate"


def setting(default: Any, panel: str, text: str, **constraints: Any) -> Any:
    """Return a field with its help text and the group of options it is shown in; `shown` says the default in words.

    `follows` names the field whose value it has where none is given.
    """
    follows = constraints.pop("follows", None)
    shown = constraints.pop("shown", None) or (follows and f"= {follows}")
    extra = {"panel": panel, "shown": shown, "follows": follows, "metavar": constraints.pop("metavar", None)}
    return Field(default, description=text, json_schema_extra=extra, **constraints)


def checked(look_up: Callable[[str], object]) -> AfterValidator:
    """Return a check of a name that a catalogue look-up knows; its complaint is what pydantic wants."""

    def check(name: str) -> str:
        try:
            found = look_up(name)
        except PactlError as error:
            raise ValueError(error.one_line()) from error
        return found if isinstance(found, str) else name

    return AfterValidator(check)


def named_in(table: catalogue.Table[Any]) -> AfterValidator:
    """Return a check of a name that a table has."""
    return checked(table.resolve)


class Settings(BaseModel):
    """Frozen, and without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
    command: ClassVar[str]

    @field_validator("*", mode="before")
    @classmethod
    def _no_words_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads yes and no as truth values, which Python takes for 1 and 0."""
        name = info.field_name or ""
        kinds = _alternatives(cls.model_fields[name].annotation)
        if isinstance(value, bool) and bool not in kinds:
            words = ", ".join(word for kind in kinds for word in (kind, *get_args(kind)) if isinstance(word, str))
            choices = next((t.choices for t in catalogue.TABLES if t.option == option_name(name)), words)
            raise ValueError(f"must not be true or false{choices and f': choose from {choices}'}")
        return value

    @classmethod
    def parse(cls, values: dict[str, Any], command: str = "") -> Self:
        """The settings, from options or a file.

        Args:
            command: whose they are; as the model says where nothing is given.

        Raises:
            PactlError: naming every wrong value at once.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise PactlError("; ".join(_complaints(error.errors())), seek_help(command or cls.command)) from error

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as written to `config.yml`."""
        return self.model_dump(mode="json")

    @classmethod
    def followed(cls) -> dict[str, str]:
        """Return, for each field that has another's value where none is given, that other field."""
        extras: dict[str, Any] = {name: field.json_schema_extra or {} for name, field in cls.model_fields.items()}
        return {name: extra["follows"] for name, extra in extras.items() if extra.get("follows")}


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, words spelt out, or the type alone."""
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
    "string_pattern_mismatch": "must be auto, cpu, cuda, cuda:1 or mps",  # a device: nothing else has a pattern
}
"""What pydantic says at more length."""
_NUMBER = re.compile(r"[-+]?[0-9.]{1,40}")
"""Text from the command line that is not quoted."""


def _complaints(items: Iterable[Any]) -> Iterator[str]:
    """Yield each wrong value in words: once, if it is none of several kinds."""
    for what, faults in groupby(map(_complaint, items), key=itemgetter(0)):
        first, *others = (text for _, text in faults)
        yield what + " or ".join([first, *(text.removeprefix("must be ") for text in others)])


def _complaint(item: Any) -> tuple[str, str]:
    """Where one wrong value is, if that is not said with the rest, and what is wrong with it."""
    field = str(item["loc"][0]) if item["loc"] else "settings"
    text = item["msg"].removeprefix("Value error, ")
    if text.startswith("--"):
        return "", str(text)
    if item["type"] == "extra_forbidden":
        return f"{field}: ", "there is no such setting"
    plainer, value = _PLAINER.get(item["type"]), item["input"]
    limits = {name: str(limit).removesuffix(".0") for name, limit in item.get("ctx", {}).items()}
    text = plainer.format_map(limits) if plainer else text.replace("Input should be", "must be")
    said = value if isinstance(value, str) and _NUMBER.fullmatch(value) else reprlib.repr(value)
    return f"{option_name(field)} {said}: ", f"{text[0].lower()}{text[1:]}"
