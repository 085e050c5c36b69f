"""Regular expressions on the names of weights: a small language, matched in bounded time.

A message carries such a pattern, and a stranger may have written the message. Python's own `re` takes exponential time
for some patterns, and the meaning of its classes depends on its version. Here the set of places that a match has
reached in a name is an integer, one bit a place, and each step maps this set to the next: nothing is tried twice, and
the steps are counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import reduce
from operator import or_
from string import ascii_letters, digits

from pactl_cli.certificate.format import MAX_FREEZE_BYTES
from pactl_cli.errors import PactlError

_MOST_STEPS = 5_000_000
"""The most steps, for all names of a network together: a second or two."""
_CLASSES = {"d": frozenset(digits), "w": frozenset(ascii_letters + digits + "_")}
_SPECIAL = "*+?{}[]()|\\"

_Step = Callable[[str, int], int]
"""A function of a name and of the places that a match has reached, as bits; returns the places it reaches next."""


class NamePattern:
    """A compiled pattern, with the meaning that it has for Python's `re.search`.

    It has letters, `.`, `[a-z]`, `[^a-z]`, `\\d`, `\\w`, `\\.`, `^`, `$`, `|`, `( )`, `(?: )`, `(?! )` and `(?= )`,
    and `*`, `+` or `?` after any of these.

    Raises:
        PactlError: if the text is not such a pattern.
    """

    def __init__(self, text: str) -> None:
        self._text, self._place, self._in_lookahead, self._steps = text, 0, False, 0
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise PactlError("it is not valid Unicode") from error
        if size > MAX_FREEZE_BYTES:
            raise PactlError(f"it has {size} bytes, and a message carries at most {MAX_FREEZE_BYTES}")
        self._step = self._alternatives()
        if self._place < len(text):
            raise PactlError(f"the {self._text[self._place]} at {self._place + 1} closes nothing", "write \\) for it")

    def found_in(self, names: Iterable[str]) -> list[str]:
        """Return the names in which the pattern is found, anywhere.

        Raises:
            PactlError: if that takes too many steps.
        """
        self._steps = 0
        return [name for name in names if self._step(name, (2 << len(name)) - 1)]

    def _where(self, name: str, holds: Callable[[str], bool]) -> int:
        """Return the places of the characters of a name for which `holds` is true."""
        self._count(len(name))
        return sum(1 << place for place, character in enumerate(name) if holds(character))

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MOST_STEPS:
            raise PactlError("it takes too many steps", "write a simpler one")

    def _take(self, *tokens: str) -> str:
        """Consume the first of some tokens that is next in the text, and return it; "" if none is."""
        for token in tokens:
            if self._text.startswith(token, self._place):
                self._place += len(token)
                return token
        return ""

    def _alternatives(self) -> _Step:
        steps = [self._sequence()]
        while self._take("|"):
            steps.append(self._sequence())
        return steps[0] if len(steps) == 1 else lambda name, places: reduce(or_, (step(name, places) for step in steps))

    def _sequence(self) -> _Step:
        steps: list[_Step] = []
        while self._place < len(self._text) and self._text[self._place] not in "|)":
            step = self._atom()
            if count := self._take("*", "+", "?"):
                step = _repeated(step, count)
            steps.append(step)

        def run(name: str, places: int) -> int:
            self._count(1 + len(steps))  # empty brackets take time too
            for step in steps:
                places = step(name, places)
            return places

        return run

    def _atom(self) -> _Step:
        if opening := self._take("(?:", "(?!", "(?=", "("):
            return self._group(opening)
        if anchor := self._take("^", "$"):
            if self._text[self._place : self._place + 1] in {"*", "+", "?"}:
                raise PactlError(f"{anchor} cannot be repeated")
            return lambda name, places: places & (1 if anchor == "^" else 1 << len(name))
        holds = self._set() if self._take("[") else self._class(_SPECIAL)
        return lambda name, places: (places & self._where(name, holds)) << 1

    def _group(self, opening: str) -> _Step:
        is_lookahead = opening in ("(?!", "(?=")
        if is_lookahead and self._in_lookahead:
            raise PactlError(f"{opening} is inside another lookahead")
        self._in_lookahead |= is_lookahead
        step = self._alternatives()
        self._in_lookahead &= not is_lookahead
        if not self._take(")"):
            raise PactlError(f"a {opening} is not closed", "write \\( for a bracket in a name")
        return _lookahead(step, wanted=opening == "(?=") if is_lookahead else step

    def _set(self) -> Callable[[str], bool]:
        """Return the test for a character class, after its opening bracket."""
        negated, parts = bool(self._take("^")), [self._class("[]\\")]
        while not self._take("]"):
            parts.append(self._class("[\\"))
        return lambda character: any(holds(character) for holds in parts) != negated

    def _class(self, special: str) -> Callable[[str], bool]:
        """Return the test for one character or, in square brackets, one range; the character may be escaped."""
        found = re.compile(r"\\(?P<escaped>.)|(?P<plain>.)", re.DOTALL).match(self._text, self._place)
        if found is None or (found["plain"] and found["plain"] in special):
            what = f"{found[0]} at {self._place + 1} has no meaning" if found else "it ends too early"
            raise PactlError(what, "write \\ before a character that stands for itself")
        self._place = found.end()
        escaped, first = found["escaped"], found["escaped"] or found["plain"]
        if escaped and escaped in _CLASSES:
            return _CLASSES[escaped].__contains__
        if escaped and escaped.isalnum():
            raise PactlError(f"\\{escaped} has no meaning", "the classes are \\d and \\w")
        if special == _SPECIAL:
            return (lambda _: True) if found["plain"] == "." else first.__eq__
        last = first
        if self._text.startswith("-", self._place) and not self._text.startswith("-]", self._place):
            last = self._text[self._place + 1 : self._place + 2]
            self._place += 2
            if not first.isalnum() or not last.isalnum() or first > last:
                raise PactlError(f"{first}-{last} is not a range")
        return lambda character: first <= character <= last


def _repeated(step: _Step, count: str) -> _Step:
    """Return the step for `step` repeated as `*`, `+` or `?` says."""

    def run(name: str, places: int) -> int:
        new = step(name, places)
        ends = new if count == "+" else new | places
        while new and count != "?":
            new = step(name, new) & ~ends
            ends |= new
        return ends

    return run


def _lookahead(step: _Step, *, wanted: bool) -> _Step:
    """Return the step for a lookahead: it keeps the places from which `step` matches, or those from which it fails."""

    def run(name: str, places: int) -> int:
        each = (1 << place for place in range(len(name) + 1) if places >> place & 1)
        return sum(place for place in each if (step(name, place) != 0) == wanted)

    return run
