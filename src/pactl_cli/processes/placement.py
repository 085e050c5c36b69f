"""Which of several processes this one is, as `pactl launch`, torchrun or a Slurm script say in the environment."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

from pactl_cli.errors import PactlError

HANDOFF = "_PACTL_LAUNCH"
"""In the environment of what `pactl launch` starts, and of nothing else: no setting."""

TIMEOUT_SECONDS = 1800.0
"""How long a process waits for the others before it says so."""


@dataclass(frozen=True)
class Handoff:
    """What `pactl launch` has for a process beside the usual variables.

    Attributes:
        watch: a descriptor at whose other end is the launcher: it reads as ended when the launcher has.
        listens: whether the launcher has listened on MASTER_PORT already.
        listen: in rank 0, that socket.
        timeout_seconds: for `TIMEOUT_SECONDS`.
        called: its own command line, before the command's.
    """

    watch: int
    listens: bool
    listen: int | None
    timeout_seconds: float
    called: str = ""

    @classmethod
    def received(cls) -> Handoff | None:
        """What the launcher left, if there is one."""
        text = os.environ.get(HANDOFF)
        return cls(**json.loads(text)) if text else None

    def left(self) -> dict[str, str]:
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
        size = _number("WORLD_SIZE", 1)
        if not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
            if size == 1:
                return None
            raise PactlError(
                f"WORLD_SIZE {size}: MASTER_ADDR and MASTER_PORT are not set",
                "they say where rank 0 answers; pactl launch sets them all",
            )
        local_size = _number("LOCAL_WORLD_SIZE", 1) if "LOCAL_WORLD_SIZE" in os.environ else size
        alone = size == 1 and "LOCAL_RANK" not in os.environ  # as in a job of one pod
        placement = cls(_number("RANK", 0), size, 0 if alone else _number("LOCAL_RANK", 0), local_size)
        if placement.rank >= size:
            raise PactlError(f"RANK {placement.rank} is not below WORLD_SIZE {size}")
        return placement


def _number(name: str, least: int) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal() or int(text) < least:
        raise PactlError(f"{name} {text or 'is not set'}: must be a whole number, {least} or more", "unset RANK")
    return int(text)
