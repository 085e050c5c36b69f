"""SIGINT and SIGTERM as a wish that the loop honours between two steps."""

from __future__ import annotations

import signal
import time
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, Self


class Interruption:
    """While entered, remembers that SIGINT or SIGTERM came, instead of dying of it. A second one kills.

    Args:
        echo_seconds: for how long after the first a second one is taken for the same: where several processes are at
            work, a terminal and a launcher may both send it.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, echo_seconds: float = 0.0) -> None:
        self.requested = False
        self._echo_seconds = echo_seconds
        self._first = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if current_thread() is not main_thread():  # others get no signals, and may not ask for any
            return self
        ours = [number for number in self._SIGNALS if signal.getsignal(number) is not None]  # not C's, as embedded
        self._previous = {number: signal.signal(number, self._note) for number in ours}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and time.monotonic() - self._first >= self._echo_seconds:
            self.__exit__()
            signal.raise_signal(number)
        if not self.requested:
            self.requested, self._first = True, time.monotonic()

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
