"""SIGINT and SIGTERM as a wish that the loop honours between two steps."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self


class Interruption:
    """While entered, remembers that SIGINT or SIGTERM came, instead of dying of it. A second one kills."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._note) for number in self._SIGNALS}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            self.__exit__()
            signal.raise_signal(number)
        self.requested = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
