"""Which axis of an array counts the channels: said by the user, or certain from the shape, and else refused."""

from __future__ import annotations

from collections.abc import Sequence

from pactl_cli.errors import PactlError

FIRST, LAST = "first", "last"
_COMMON = ((1, 3), (4,))
"""Grey and colour decide where they can be on one side only; else colour with alpha does."""


def has_channels_last(array: str, what: str, shape: Sequence[int], said: str | None, notes: list[str]) -> bool:
    """Return whether the last axis of images, shape (n, a, b, c), counts their channels, and not the second.

    Args:
        array, what: its name, and what messages call it.
        said: `first`, `last`, or None where the shape has to say it.
        notes: where a reading that is not the usual one is said.

    Raises:
        PactlError: if the shape does not say it.
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
