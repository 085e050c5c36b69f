"""Interruptions from outside: SIGINT and SIGTERM during a loop or a wait, and the end of the launcher."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import Any, Self, TypeVar

from pactl_cli.errors import FAILED
from pactl_cli.processes.placement import HANDOFF

_T = TypeVar("_T")
_WATCH_SECONDS = 0.5


class Interruption:
    """A context that notes SIGINT or SIGTERM in `requested` instead of ending the process; a second signal ends it.

    Args:
        echo_seconds: how long a second signal counts as a repeat of the first: both a terminal and a launcher may send
            it to one of several processes. At least one second under `pactl launch`.
    """

    def __init__(self, echo_seconds: float = 0.0) -> None:
        self.requested = False
        self._echo_seconds = max(echo_seconds, float(HANDOFF in os.environ))
        self._first = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if current_thread() is not main_thread():  # Python delivers signals to the main thread only
            return self
        both = signal.SIGINT, signal.SIGTERM
        ours = [number for number in both if signal.getsignal(number) is not None]  # None: a handler of a host in C
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


def interruptibly(wait: Callable[[], _T], seconds: float | None = None) -> _T:
    """Return the result of `wait`, called in another thread: torch lets no SIGINT or SIGTERM through while it waits.

    Raises:
        TimeoutError: if it takes longer than `seconds`.
    """
    done: Future[_T] = Future()

    def work() -> None:
        try:
            done.set_result(wait())
        except Exception as error:
            done.set_exception(error)

    Thread(target=work, daemon=True).start()
    return done.result(seconds)


def end_with(launcher: int) -> None:
    """Watch the parent process, and end this one soon after it; every file on the disk is whole at any time."""

    def follow() -> None:
        while os.getppid() == launcher:
            time.sleep(_WATCH_SECONDS)
        os._exit(FAILED)

    Thread(target=follow, daemon=True).start()
