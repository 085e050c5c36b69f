"""HTML and SVG elements from Python. All text is escaped, so that no words of a run directory become markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

_LONGEST = 300
_LONGEST_ATTRIBUTE = 1 << 16
_VOID = frozenset({"meta"})


class Markup(str):
    """Text that is already markup and is not escaped again."""

    __slots__ = ()


Child = Markup | str | Iterable["Child"] | None


def plain(text: object, longest: int = _LONGEST) -> str:
    """Return text that is safe to show: no control characters, none that turn the writing direction, not too long."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def join(children: Child) -> Markup:
    """Return the markup of children one after the other; text is escaped, None is nothing."""
    if children is None:
        return Markup()
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return Markup(escape(plain(children, 4 * _LONGEST)))
    return Markup("".join(map(join, children)))


def tag(element: str, /, *children: Child, **attributes: Any) -> Markup:
    """Return an element. `class_` stands for class, `stroke_width` for stroke-width; None leaves an attribute out."""
    words = [element]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if element in _VOID else f"{opening}{join(children)}</{element}>")


def _number(value: object) -> str:
    """Return the text of an attribute; a float has at most four decimals."""
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else plain(value, _LONGEST_ATTRIBUTE)
