"""HTML and SVG from Python: what is not markup already is escaped, so that nothing from a run directory becomes it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

LONGEST = 300
_LONGEST_ATTRIBUTE = 1 << 16
_VOID = frozenset({"meta"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Child = Markup | str | Iterable["Child"] | None


def plain(text: object, longest: int = LONGEST) -> str:
    """Text that can be shown: no control characters, nothing that turns the direction of writing, not too long."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def join(children: Child) -> Markup:
    """Children one after the other, escaped where they are not markup; None is nothing."""
    if children is None:
        return Markup()
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return Markup(escape(plain(children, 4 * LONGEST)))
    return Markup("".join(map(join, children)))


def tag(element: str, /, *children: Child, **attributes: Any) -> Markup:
    """An element. `class_` stands for class, `stroke_width` for stroke-width; an attribute that is None is left out."""
    words = [element]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if element in _VOID else f"{opening}{join(children)}</{element}>")


def _number(value: object) -> str:
    """An attribute's value; a float with four digits behind the point."""
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else plain(value, _LONGEST_ATTRIBUTE)
