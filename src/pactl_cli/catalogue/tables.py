"""Tables of named things: help, settings, messages and builders read the row of a thing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Generic, TypeVar

from pactl_cli.errors import PactlError


@dataclass(frozen=True)
class Row:
    """A named thing.

    Attributes:
        name: its name, in options and in files.
        summary: one line for help and documentation.
        made_by: the `module:function` that builds it; the module is imported when the thing is used.
    """

    name: str
    summary: str
    made_by: str

    def maker(self) -> Any:
        """Return the function, or another object, that `made_by` names."""
        return imported(self.made_by)


def imported(reference: str) -> Any:
    """Import the object of a `module:name`, which must come from this program's tables, never from a user or a file."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


_FEW = 20
R = TypeVar("R", bound=Row)


class Table(dict[str, R], Generic[R]):
    """Rows by name, in order. A place in a table may be part of the message format, so new rows go to the end.

    Args:
        option: the option or argument of the command line that takes a name.
        title: the word for the things, in the plural.
        rows: the rows, with distinct names.
    """

    def __init__(self, option: str, title: str, rows: Iterable[R]) -> None:
        super().__init__()
        self.option, self.title = option, title
        for row in rows:
            self.add(row)

    @property
    def kind(self) -> str:
        """The word for the things in `pactl names`: `networks`, `data`, ..."""
        return self.title.split()[0].lower()

    @property
    def choices(self) -> str:
        """The names or, if they are many, the command that lists them."""
        return ", ".join(self) if len(self) <= _FEW else f"what pactl names {self.kind} lists"

    def add(self, row: R) -> None:
        """Append a row; raise ValueError if its name is taken."""
        if row.name in self:
            raise ValueError(f"{self.title} has a {row.name} already")
        self[row.name] = row

    def resolve(self, name: str, choices: str = "") -> str:
        """Return a name that is in the table.

        Args:
            choices: the choices for the message; by default those of the table.

        Raises:
            PactlError: if there is no such name; it names the option and the nearest name.
        """
        if name in self:
            return name
        near = get_close_matches(name.lower(), self, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise PactlError(f"{self.option} {name!r} is not known", f"{hint}choose from {choices or self.choices}")
