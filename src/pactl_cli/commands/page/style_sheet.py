"""A reader of the page's style sheet for the printed style of a plot's elements; it knows only the CSS used there."""

from __future__ import annotations

import re
from importlib.resources import files
from xml.etree.ElementTree import Element

_MEDIA = re.compile(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}")
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_SELECTOR = re.compile(r"([a-z]*)((?:\.[\w-]+)*)")


class StyleSheet:
    """The rules of `page.css`; only the last part of a selector counts."""

    def __init__(self) -> None:
        sheet = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
        printed = next(block for block in _MEDIA.findall(sheet) if block.startswith("@media print"))
        roots = [re.search(r":root \{([^}]*)", text) for text in (sheet, printed)]
        self._colours = _declared(roots[0]) | _declared(roots[1])
        self._rules: list[tuple[str, set[str], dict[str, str]]] = []
        for rule in _RULE.finditer(_MEDIA.sub("", sheet)):
            for selector in rule[1].split(","):
                if found := _SELECTOR.fullmatch(selector.split()[-1]):
                    self._rules.append((found[1], {*found[2].split(".")} - {""}, _declared(rule, 2)))

    def style_of(self, element: Element) -> dict[str, str]:
        """Return the declarations for an element; a later rule wins."""
        classes, said = {*element.get("class", "").split()}, dict[str, str]()
        for name, needed, declared in self._rules:
            if (name or needed) and name in ("", element.tag) and needed <= classes:
                said |= declared
        return {name: self._colours.get(value[4:-1], value) for name, value in said.items()}


def _declared(found: re.Match[str] | None, group: int = 1) -> dict[str, str]:
    """Return the declarations of a match, those between braces."""
    lines = found[group].split(";") if found else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines) if value}
