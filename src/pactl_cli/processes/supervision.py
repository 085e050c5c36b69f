"""Starts the processes of one machine, and sees to it that they end together.

torch's own agent is not used: how each process ended, also one that had to be stopped, is what tells a run that was
saved from one that was not, and a stop must be over in seconds, where the agent waits for thirty. What is started here
torchrun can start too: the variables are the same.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from types import FrameType
from typing import IO

from pactl_cli.data.files.capacity import cores
from pactl_cli.errors import FAILED, INTERRUPTED, PEER_LOST
from pactl_cli.processes.placement import Handoff

POLL_SECONDS = 0.05
OTHERS_END_SECONDS = 5.0
"""How long those that are left have after one has failed: they notice by themselves, unless they hang."""
SAVE_SECONDS = 30.0
"""How long all have after an interruption."""
ECHO_SECONDS = 0.3
_COMPLAINT_BYTES = 1 << 14
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Crew:
    """The processes to start on this machine.

    Attributes:
        words: the command line after `pactl`.
        size: how many.
        machines: how many machines there are, each with as many.
        machine: which of them this is, from 0.
        endpoint: host and port where rank 0 answers; None for a free port, on one machine.
        timeout_seconds: how long a process waits for the others.
        called: the command line before `words`.
    """

    words: Sequence[str]
    size: int
    machines: int = 1
    machine: int = 0
    endpoint: tuple[str, int] | None = None
    timeout_seconds: float = 1800.0
    called: str = ""

    def environment(self, local_rank: int, port: int, handoff: Handoff) -> dict[str, str]:
        """What torchrun would set, threads that do not get into each other's way, and what is between us alone."""
        host = self.endpoint[0] if self.endpoint else _LOOPBACK
        own = {
            "RANK": self.machine * self.size + local_rank,
            "WORLD_SIZE": self.machines * self.size,
            "LOCAL_RANK": local_rank,
            "LOCAL_WORLD_SIZE": self.size,
            "MASTER_ADDR": host,
            "MASTER_PORT": port,
        }
        gentle = {"OMP_NUM_THREADS": str(max(1, cores() // self.size))}
        if self.machines == 1:  # gloo would look up the host's name, which not every machine knows
            gentle["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
        return gentle | os.environ | {name: str(value) for name, value in own.items()} | handoff.left()


@dataclass
class _Member:
    """One process. What rank 0 says is heard at once, what another says only if it is the one to blame."""

    rank: int
    process: subprocess.Popen[bytes]
    complaint: IO[bytes] | None
    stopped_by_us: bool = False

    @property
    def is_to_blame(self) -> bool:
        """Whether it has ended for a reason of its own that is no success."""
        return self.process.poll() not in (None, 0, PEER_LOST) and not self.stopped_by_us

    def said(self) -> str:
        """The end of what it wrote to stderr."""
        if self.complaint is None:
            return ""
        self.complaint.seek(max(0, self.complaint.seek(0, os.SEEK_END) - _COMPLAINT_BYTES))
        return self.complaint.read().decode(errors="replace")


@dataclass
class _Signals:
    """How often somebody has asked for an end, by SIGINT or SIGTERM; repeats within `ECHO_SECONDS` count once."""

    asked: int = 0
    _last: float = float("-inf")

    def note(self, number: int, frame: FrameType | None) -> None:
        """Counts."""
        if time.monotonic() - self._last > ECHO_SECONDS:
            self.asked += 1
        self._last = time.monotonic()


@contextmanager
def _noted_signals() -> Generator[_Signals, None, None]:
    signals = _Signals()
    before = {number: signal.signal(number, signals.note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_crew(crew: Crew, advice: str) -> tuple[int, str]:
    """Runs processes to their end. None of them is left when this returns, nor if this process is killed.

    Args:
        advice: what to do after an interruption, or after one was killed.

    Returns:
        The exit code, and what is still to be said about it, if anything: a line, or what the process to blame said.
    """
    with ExitStack() as stack, _noted_signals() as signals:
        members = _start(crew, stack)
        try:
            first = _until_the_end(members, signals)
        finally:
            for member in members:
                with suppress(ProcessLookupError):
                    member.process.kill()
                member.process.wait()
        return _verdict(members, first, bool(signals.asked), advice)


def _start(crew: Crew, stack: ExitStack) -> list[_Member]:
    """All processes, each a session of its own, so that a terminal's Ctrl-C reaches only us, who pass it on once."""
    watch, held = os.pipe()
    stack.callback(os.close, held)
    members: list[_Member] = []
    listener = None if crew.endpoint else socket.create_server((_LOOPBACK, 0))
    port = crew.endpoint[1] if crew.endpoint else listener.getsockname()[1] if listener else 0
    try:
        for local_rank in range(crew.size):
            rank = crew.machine * crew.size + local_rank
            # The port is chosen by listening on it, and rank 0 inherits the listening socket: nobody can take it away.
            listen = listener.fileno() if listener and rank == 0 else None
            handoff = Handoff(watch, listener is not None, listen, crew.timeout_seconds, crew.called)
            complaint = stack.enter_context(TemporaryFile()) if rank else None  # noqa: SIM115
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pactl_cli", *crew.words],
                env=crew.environment(local_rank, port, handoff),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if rank else None,
                stderr=complaint,
                pass_fds=[watch] if listen is None else [watch, listen],
                start_new_session=True,
            )
            members.append(_Member(rank, process, complaint))
    except BaseException:
        for member in members:
            member.process.kill()
            member.process.wait()
        raise
    finally:
        os.close(watch)
        if listener:
            listener.close()
    return members


def _until_the_end(members: list[_Member], signals: _Signals) -> _Member | None:
    """Waits until all have ended; gives the first of them that is to blame for a failure."""
    first: _Member | None = None
    deadline, passed_on = float("inf"), 0
    while running := [member for member in members if member.process.poll() is None]:
        if signals.asked > passed_on:  # as SIGTERM, which ends at once a process that is not training
            passed_on = signals.asked
            deadline = min(deadline, time.monotonic() + SAVE_SECONDS)
            for member in running:
                member.process.terminate() if passed_on == 1 else member.process.kill()
        if len(running) < len(members) and any(member.process.returncode for member in members):
            first = first or next((member for member in members if member.is_to_blame), None)
            if not signals.asked:
                deadline = min(deadline, time.monotonic() + OTHERS_END_SECONDS)
        if time.monotonic() > deadline:
            for member in running:
                member.stopped_by_us = True
                member.process.kill()
        time.sleep(POLL_SECONDS)
    return first or next((member for member in members if member.is_to_blame), None)


def _verdict(members: list[_Member], first: _Member | None, interrupted: bool, advice: str) -> tuple[int, str]:
    codes = [member.process.returncode for member in members]
    if not any(codes):
        return 0, ""
    leader = members[0] if members[0].rank == 0 else None
    if leader and leader.is_to_blame and codes[0] > 0:  # it has said so itself
        return codes[0], ""
    if interrupted:
        return INTERRUPTED, f"pactl: interrupted ({advice})\n"
    if first is None:
        return FAILED, "pactl: the processes of another machine have ended: what they said is to be found there\n"
    code = first.process.returncode
    if code > 0:
        return code, first.said()
    return FAILED, f"pactl: rank {first.rank} was killed by {_name(-code)} ({advice})\n"


def _name(number: int) -> str:
    """Of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
