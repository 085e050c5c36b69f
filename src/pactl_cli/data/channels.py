"""The axis of an array that counts the channels: the user names it, or the shape implies it; otherwise an error."""

from __future__ import annotations

from collections.abc import Sequence

from pactl_cli.errors import PactlError

FIRST, LAST = "first", "last"
_COMMON = ((1, 3), (4,))
"""Numbers of channels that identify their axis, if they occur on one side only: grey or colour, then with alpha."""


def has_channels_last(array: str, what: str, shape: Sequence[int], said: str | None, notes: list[str]) -> bool:
    """Return whether the last axis of images, shape (n, a, b, c), counts the channels, rather than the second.

    Args:
        array, what: the array's name, and its name for messages.
        said: `first`, `last`, or None if the shape is to decide.
        notes: gets a note if the decision may surprise.

    Raises:
        PactlError: if the shape does not decide.
    """
    if said:
        return said == LAST
    _, first, middle, last = shape
    sides = {FIRST: min(middle, last), LAST: min(first, middle)}
    counts = {FIRST: first, LAST: last}
    for common in _COMMON:
        found = [axis for axis, count in counts.items() if count in common]
        if len(found) == 1 and (common == _COMMON[0] or counts[found[0]] <= sides[found[0]]):
            return found[0] == LAST
    possible = [axis for axis, count in counts.items() if count <= sides[axis]]
    readings = {
        FIRST: f"{first} channels of {middle} x {last}",
        LAST: f"{last} channels of {first} x {middle}",
    }
    called = f"of (n, {first}, {middle}, {last})"
    if len(possible) != 1:
        raise PactlError(
            f"{what} {called} may be {readings[FIRST]}, or {readings[LAST]}",
            "say which axis counts the channels: --channels first, or --channels last",
        )
    notes.append(
        f"{array} {called} is read as {readings[possible[0]]}, {possible[0]} axis; --channels first|last says otherwise"
    )
    return possible[0] == LAST
