"""What ends work from outside: SIGINT and SIGTERM, in a loop and in a wait, and a launcher that is gone."""

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
    """While entered, remembers that SIGINT or SIGTERM came, instead of dying of it. A second one kills.

    Args:
        echo_seconds: for how long after the first a second one is taken for the same: where several processes are at
            work, a terminal or a scheduler and a launcher may both send it; at least a second if a launcher is there.
    """

    def __init__(self, echo_seconds: float = 0.0) -> None:
        self.requested = False
        self._echo_seconds = max(echo_seconds, float(HANDOFF in os.environ))
        self._first = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if current_thread() is not main_thread():  # others get no signals, and may not ask for any
            return self
        both = signal.SIGINT, signal.SIGTERM
        ours = [number for number in both if signal.getsignal(number) is not None]  # not C's, as embedded
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
    """Return what another thread has waited for: in this one torch would let no Ctrl-C and no SIGTERM through.

    Raises:
        TimeoutError: if it takes longer than so many seconds.
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
    """Ends this process soon after the one that started it, however that ended: what is on the disk is whole."""

    def follow() -> None:
        while os.getppid() == launcher:
            time.sleep(_WATCH_SECONDS)
        os._exit(FAILED)

    Thread(target=follow, daemon=True).start()
