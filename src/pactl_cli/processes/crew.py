"""What `pactl launch` is to start on this machine, and with whom. No torch: the command line looks at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Crew:
    """The processes that `pactl launch` starts on this machine.

    Attributes:
        words: the command line after `pactl`.
        size: how many.
        state: something that is the same until the command has begun to write.
        machines: how many machines there are, at least and at most.
        machine: which of them this is, from 0, if somebody has said.
        endpoint: host and port where the machines meet; None for a free port, on one machine.
        run_id: what the launchers of one job have in common.
        max_restarts: how often to start again what has failed.
        timeout_seconds: how long a process waits for the others.
        called: the command line before `words`.
    """

    words: Sequence[str]
    size: int
    state: Callable[[], str]
    machines: tuple[int, int] = (1, 1)
    machine: int | None = None
    endpoint: tuple[str, int] | None = None
    run_id: str = "pactl"
    max_restarts: int = 0
    timeout_seconds: float = 1800.0
    called: str = ""

    @property
    def is_elastic(self) -> bool:
        """Whether a machine may leave, and the others go on."""
        return self.machines[0] < self.machines[1]
