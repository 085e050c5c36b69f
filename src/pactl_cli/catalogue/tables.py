"""Tables of things that have a name: one row says all that help, settings, messages and builders know of one thing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Generic, TypeVar

from pactl_cli.errors import PactlError


@dataclass(frozen=True)
class Row:
    """A thing that has a name.

    Attributes:
        name: as an option takes it, and as it is written.
        summary: one line for help and documentation.
        made_by: where it is built, `module:function`; the module is imported when the thing is used.
    """

    name: str
    summary: str
    made_by: str

    def maker(self) -> Any:
        """Return the function, or other object, that `made_by` names."""
        return imported(self.made_by)


def imported(reference: str) -> Any:
    """Return what `module:name` names, for references of this program's own tables, never a user's or a stranger's."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


_FEW = 20
R = TypeVar("R", bound=Row)


class Table(dict[str, R], Generic[R]):
    """Rows by name, in order. A place in a table may be part of the message format, so new rows go to the end.

    Args:
        option: the command line's option or argument that takes a name.
        title: what the things are called, in the plural.
        rows: of distinct names.
    """

    def __init__(self, option: str, title: str, rows: Iterable[R]) -> None:
        super().__init__()
        self.option, self.title = option, title
        for row in rows:
            self.add(row)

    @property
    def kind(self) -> str:
        """What `pactl names` calls the things: `networks`, `data`, ..."""
        return self.title.split()[0].lower()

    @property
    def choices(self) -> str:
        """The names, or, of many, the command that lists them."""
        return ", ".join(self) if len(self) <= _FEW else f"what pactl names {self.kind} lists"

    def add(self, row: R) -> None:
        """Append a row; raise ValueError if its name is taken."""
        if row.name in self:
            raise ValueError(f"{self.title} has a {row.name} already")
        self[row.name] = row

    def resolve(self, name: str, choices: str = "") -> str:
        """Return a name that is in the table.

        Args:
            choices: what to say there is; the table's own words where nothing is given.

        Raises:
            PactlError: naming the option and the nearest name.
        """
        if name in self:
            return name
        near = get_close_matches(name.lower(), self, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise PactlError(f"{self.option} {name!r} is not known", f"{hint}choose from {choices or self.choices}")
