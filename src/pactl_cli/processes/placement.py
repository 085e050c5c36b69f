"""Which of several processes this one is, as `pactl launch`, torchrun or a Slurm script say in the environment."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass

from pactl_cli.errors import FAILED, PactlError

HANDOFF = "_PACTL_LAUNCH"
"""In the environment of what `pactl launch` starts, and of nothing else: no setting."""

TIMEOUT_SECONDS = 1800.0
"""How long a process waits for the others before it says so."""
MEETING_SECONDS = 300.0
"""How long they wait, if that is more, until all have come: machines and processes start at different speeds."""
_RESOLVING_SECONDS = 60


@dataclass(frozen=True)
class Handoff:
    """What `pactl launch` has for a process beside the usual variables.

    Attributes:
        launcher: its process id: who starts there has ended when it has.
        timeout_seconds: for `TIMEOUT_SECONDS`.
        called: its own command line, before the command's.
        store_prefix: the part of the store at MASTER_PORT, which is the launchers', where the processes meet.
        again: whether to go on with a run that was begun for this launch.
    """

    launcher: int
    timeout_seconds: float
    called: str
    store_prefix: str
    again: bool

    @classmethod
    def received(cls) -> Handoff | None:
        """What the launcher left, if there is one."""
        text = os.environ.get(HANDOFF)
        return cls(**json.loads(text)) if text else None

    def as_variable(self) -> dict[str, str]:
        """As a variable."""
        return {HANDOFF: json.dumps(asdict(self))}


@dataclass(frozen=True)
class Placement:
    """A process among others.

    Attributes:
        rank: from 0 to size - 1; rank 0 alone writes and speaks.
        size: of them all.
        local_rank: among those of this machine: which GPU is its own.
        local_size: how many this machine has.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def here(cls) -> Placement | None:
        """Where this process is; None if it is the only one.

        Raises:
            PactlError: if the environment contradicts itself.
        """
        if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
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
        if "LOCAL_RANK" not in os.environ:  # one process a machine, as in a PyTorchJob of Kubernetes
            return cls(rank, size)
        local_size = _number("LOCAL_WORLD_SIZE", 1) if "LOCAL_WORLD_SIZE" in os.environ else size
        return cls(rank, size, _number("LOCAL_RANK", 0), local_size)


def _number(name: str, least: int) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal() or int(text) < least:
        raise PactlError(f"{name} {text or 'is not set'}: must be a whole number, {least} or more", "unset RANK")
    return int(text)


def require_known(host: str) -> None:
    """Raises PactlError if a name is no machine's; that of one which starts now may be known a little later."""
    for _ in range(_RESOLVING_SECONDS):
        with suppress(OSError):
            socket.getaddrinfo(host, None)
            return
        time.sleep(1)
    raise PactlError(f"the host {host} is not known on this machine", "is it spelt right?", FAILED)
