"""Settings in YAML, which may be a stranger's and are read without harm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pactl_cli.errors import PactlError, reason
from pactl_cli.runs.plain_files import read_plain_file

LARGEST = 1 << 18
_MOST_BITS = 1 << 12
_ODD_NUMBER = re.compile(r"[-+]?(0[0-9_]+|[0-9_.]+:[0-9_.:]+)")
"""Numbers to the base of 8 or 60, as which YAML reads 010 and 1:30."""
_HINT = "it must be YAML: option: value"


class _PlainLoader(yaml.SafeLoader):
    """A loader of plain values; it refuses references, which can grow without end, huge integers and repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("references are not allowed")
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        value = super().construct_object(node, deep)
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise yaml.YAMLError("a number is too large")
        if isinstance(value, int | float) and (odd := _ODD_NUMBER.fullmatch(str(node.value))):
            raise yaml.YAMLError(f"{odd[0]} is {value} in YAML: write {value}, or put a text in quotation marks")
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping, seen = super().construct_mapping(node, deep), set()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value):
            if key in seen:
                raise yaml.YAMLError(f"{key!r} occurs twice")
            seen.add(key)
        return mapping


def config_text(settings: dict[str, Any]) -> str:
    """Return settings as YAML in ASCII, as YAML would turn other line breaks, which a path can have, into blanks.

    Raises:
        PactlError: if the text is longer than a file that can be read again.
    """
    text = yaml.safe_dump(settings, sort_keys=False)
    if len(text) > LARGEST:
        raise PactlError(
            f"the settings take {len(text):,} bytes with the names of all classes and categories, and config.yml may "
            f"have at most {LARGEST:,}",
            "number the classes from 0, or give them shorter names; list fewer --categories",
        )
    return text


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the mapping from names to values in a YAML file of the user's own.

    Raises:
        PactlError: if it is missing, unreadable or something else.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise PactlError(f"--config {path} cannot be read: {error.strerror}", "name a YAML file") from error
    return parse_config(data, path)


def read_plain_config(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file of a run directory, which may be a stranger's: no link is followed.

    Raises:
        PactlError: if it is missing, unreadable, no plain file or something else.
    """
    try:
        data = read_plain_file(path, LARGEST)
    except (OSError, ValueError) as error:
        raise PactlError(f"{path} cannot be read: {reason(error)}", _HINT) from error
    return parse_config(data, path)


def read_lists(path: Path) -> dict[str, list[str]]:
    """Return the lists by name in a YAML or JSON file; each value is read as text.

    Raises:
        PactlError: if it is missing, unreadable or something else.
    """
    hint = "it must be YAML or JSON: name: [value, value]"
    try:
        content = yaml.load(path.read_bytes().decode("utf-8-sig"), yaml.BaseLoader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise PactlError(f"{path} cannot be read: {reason(error)}", hint) from error
    lists = content.values() if isinstance(content, dict) else [content]
    if not all(isinstance(row, list) and all(isinstance(value, str) for value in row) for row in lists):
        raise PactlError(f"{path} does not hold lists of values", hint)
    return dict(content)


def parse_config(data: bytes, path: Path) -> dict[str, Any]:
    """Return the mapping from names to values in `data`, the bytes of the YAML file at `path`.

    Raises:
        PactlError: if they are something else.
    """
    try:
        if len(data) > LARGEST:
            raise ValueError("the file is too large")
        content = yaml.load(data.decode(), _PlainLoader)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, yaml.YAMLError, RecursionError) as error:
        raise PactlError(f"{path} cannot be read: {_explained(error)}", _HINT) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise PactlError(f"{path} does not hold settings", _HINT)
    return content


def _explained(error: Exception) -> str:
    """Return what is wrong with a file, with the line if YAML tells it."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error)
