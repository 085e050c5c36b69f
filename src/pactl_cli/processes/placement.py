"""The rank of this process among several, which `pactl launch`, torchrun or a Slurm script set in the environment."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass

from pactl_cli.errors import FAILED, PactlError

HANDOFF = "_PACTL_LAUNCH"
"""The environment variable that `pactl launch` sets for the processes it starts. It is not a setting for users."""

TIMEOUT_SECONDS = 1800.0
"""How long a process waits for the others during work before it reports an error."""
MEETING_SECONDS = 300.0
"""The least time that processes wait for the others at the start: machines start at different speeds."""
_RESOLVING_SECONDS = 60


@dataclass(frozen=True)
class Handoff:
    """The facts that `pactl launch` hands to each process in one variable, beside the usual ones.

    Attributes:
        launcher: the launcher's process id; the process ends when the launcher does.
        timeout_seconds: the timeout in place of `TIMEOUT_SECONDS`.
        called: the launcher's own command line, up to the command that it launches.
        store_prefix: the prefix of the keys in the launchers' store at MASTER_PORT under which the processes meet.
        again: whether to resume a run that this launch has begun.
    """

    launcher: int
    timeout_seconds: float
    called: str
    store_prefix: str
    again: bool

    @classmethod
    def received(cls) -> Handoff | None:
        """Return the handoff in the environment; None without a launcher."""
        text = os.environ.get(HANDOFF)
        return cls(**json.loads(text)) if text else None

    def as_variable(self) -> dict[str, str]:
        """Return the environment variable that carries the handoff, as a dict."""
        return {HANDOFF: json.dumps(asdict(self))}


@dataclass(frozen=True)
class Placement:
    """The place of a process among several.

    Attributes:
        rank: from 0 to size - 1; rank 0 alone writes files and prints.
        size: the number of all processes.
        local_rank: the rank among the processes of this machine, and the number of its GPU.
        local_size: the number of processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def here(cls) -> Placement | None:
        """Return the place of this process; None if it is the only one.

        Raises:
            PactlError: if the environment contradicts itself.
        """
        found = [os.environ.get(name) for name in ("RANK", "WORLD_SIZE")]
        if None in found or not any(found):  # templates of jobs leave empty what they do not know
            return None
        rank, size = _number("RANK", 0), _number("WORLD_SIZE", 1)
        if rank >= size:
            raise PactlError(f"RANK {rank} is not below WORLD_SIZE {size}")
        if size == 1:
            return None
        if not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
            raise PactlError(
                f"WORLD_SIZE {size}: MASTER_ADDR and MASTER_PORT are not set",
                "they say where rank 0 answers; pactl launch sets them all",
            )
        if "LOCAL_RANK" not in os.environ:  # one process per machine, as in a PyTorchJob of Kubernetes
            return cls(rank, size)
        local_size = _number("LOCAL_WORLD_SIZE", 1) if "LOCAL_WORLD_SIZE" in os.environ else size
        return cls(rank, size, _number("LOCAL_RANK", 0), local_size)


def _number(name: str, least: int) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal() or int(text) < least:
        raise PactlError(f"{name} {text or 'is not set'}: must be a whole number, {least} or more", "unset RANK")
    return int(text)


def require_known(host: str) -> None:
    """Raise PactlError if a host name cannot be resolved within a minute: a machine that just starts may be late."""
    for _ in range(_RESOLVING_SECONDS):
        with suppress(OSError):
            socket.getaddrinfo(host, None)
            return
        time.sleep(1)
    raise PactlError(f"the host {host} is not known on this machine", "is it spelt right?", FAILED)
