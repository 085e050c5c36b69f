"""torch's elastic agent: it starts the processes of this machine and watches over them, and starts them again.

What is added to it: who is to blame and what that process said, stops that are over in seconds, and ranks that meet in
the agents' own store, a new corner of it each time.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, LogsDest, SignalException, Std
from torch.distributed.elastic.rendezvous import RendezvousError

from pactl_cli.data.files.capacity import cores
from pactl_cli.errors import BAD_INPUT, BOUND_EXCEEDED, FAILED, INTERRUPTED, PEER_LOST
from pactl_cli.processes.crew import Crew
from pactl_cli.processes.meeting import Meeting

OTHERS_END_SECONDS = 5.0
"""How long those that are left have after one has failed: they notice by themselves, unless they hang."""
SAVE_SECONDS = 30.0
"""How long all have after an interruption."""
ECHO_SECONDS = 0.3
_COMPLAINT_BYTES = 1 << 14
_CONSEQUENCES, _NO_USE_AGAIN = (PEER_LOST, INTERRUPTED), (BAD_INPUT, BOUND_EXCEEDED)
"""Exit codes: of those that end since another did, and of what would end in the same way each time."""


@dataclass(frozen=True)
class Blamed:
    """The process whose end was the first: its rank, its exit code, and the end of what it wrote to stderr."""

    rank: int
    code: int
    said: str

    def __str__(self) -> str:
        if self.code >= 0:
            return f"rank {self.rank} has ended with exit code {self.code}"
        with suppress(ValueError):
            return f"rank {self.rank} was killed by {signal.Signals(-self.code).name}"
        return f"rank {self.rank} was killed by signal {-self.code}"


class _Logs(DefaultLogsSpecs):
    """Rank 0 speaks for itself; what others say is kept, in case that one of them is to blame."""

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Return where each process of this machine writes."""
        self._redirects = {local: Std.NONE if env["RANK"] == "0" else Std.ALL for local, env in envs.items()}
        return super().reify(envs)


class _Agent(LocalElasticAgent):
    """torch's, which waits half a minute where one process has failed, and whose signal handlers let none be ignored.

    Attributes:
        blamed: whose end was the first, since the last start.
    """

    def __init__(self, spec: WorkerSpec, logs: _Logs, crew: Crew, listen: Callable[[], None]) -> None:
        super().__init__(spec, logs, exit_barrier_timeout=SAVE_SECONDS)
        self.blamed: Blamed | None = None
        self._crew, self._listen = crew, listen
        self._first_loss = float("inf")

    def processes(self) -> dict[int, subprocess.Popen[bytes]]:
        """Return those that were started last, by rank."""
        handlers = getattr(self._pcontext, "subprocess_handlers", {})
        workers = self.get_worker_group().workers
        return {each.global_rank: handlers[each.local_rank].proc for each in workers if each.local_rank in handlers}

    def end(self, seconds: float) -> None:
        """Asks all for an end, without the processes that they have of their own, and then kills."""
        deadline = time.monotonic() + seconds
        for process in self.processes().values():
            process.terminate()
        for process in self.processes().values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        if self._pcontext:
            self._pcontext.close(signal.SIGKILL, round(OTHERS_END_SECONDS))

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        started = super()._start_workers(worker_group)
        self._listen()
        self._first_loss = float("inf")
        return started

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:
        self.end(SAVE_SECONDS)
        super()._shutdown(death_sig, timeout)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        codes = {rank: process.poll() for rank, process in self.processes().items()}
        failed = [(code in _CONSEQUENCES, rank, code) for rank, code in codes.items() if code]
        if not failed:
            return super()._monitor_workers(worker_group)
        is_consequence, rank, code = min(failed)
        if is_consequence and self._may_still_learn_why(None in codes.values(), code):
            return RunResult(WorkerState.HEALTHY)
        self.end(OTHERS_END_SECONDS)
        self.blamed = Blamed(rank, code, self._said(rank))
        if code in _NO_USE_AGAIN or (code == INTERRUPTED and not self._crew.is_elastic):
            self._remaining_restarts = 0
        return super()._monitor_workers(worker_group)

    def _may_still_learn_why(self, some_run: bool, code: int) -> bool:
        """Whether to wait: a process that was lost may be seen to have ended, or another machine start again."""
        self._first_loss = min(self._first_loss, time.monotonic())
        patience = SAVE_SECONDS if some_run and code == INTERRUPTED else OTHERS_END_SECONDS
        return (some_run or self._crew.machines[1] > 1) and time.monotonic() - self._first_loss < patience

    def _said(self, rank: int) -> str:
        worker = next(each for each in self.get_worker_group().workers if each.global_rank == rank)
        path = self._pcontext.stderrs[worker.local_rank] if self._pcontext else ""
        return Path(path).read_bytes()[-_COMPLAINT_BYTES:].decode(errors="replace") if path else ""

    def _restart_workers(self, worker_group: WorkerGroup) -> None:
        said, why = (self.blamed.said, self.blamed) if self.blamed else ("", "a machine has come or gone")
        print(f"{said}pactl: note: {why}: all start again", file=sys.stderr, flush=True)
        self.blamed = None
        super()._restart_workers(worker_group)


def run_crew(crew: Crew, advice: Callable[[], str]) -> tuple[int, str]:
    """Runs processes to their end. None of them is left when this returns, nor if this process is killed.

    Args:
        advice: what to do after an interruption, or after one was killed.

    Returns:
        The exit code, and what is still to be said about it, if anything: a line, or what the process to blame said.

    Raises:
        PactlError: if the machines do not meet.
    """
    logging.disable()  # the agent tells of each signal and each failure in several lines
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // crew.size)))
    if crew.machines[1] == 1:  # gloo would look up the host's name, which not every machine knows
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # nobody reads what is typed
    words = [word.replace("$", "$$") for word in crew.words]  # which the agent takes for a template
    with TemporaryDirectory(prefix="pactl-launch-") as logs, _noted_signals() as listen:
        meeting = Meeting.at(crew)
        spec = WorkerSpec(
            role="rank",
            local_world_size=crew.size,
            rdzv_handler=meeting,
            entrypoint=sys.executable,
            args=("-P", "-m", "pactl_cli", *words),
            max_restarts=crew.max_restarts,
        )
        agent = _Agent(spec, _Logs(logs), crew, listen)
        interrupted = False
        try:
            agent.run()
        except (KeyboardInterrupt, SignalException):
            interrupted = True
        except RendezvousError as error:
            meeting.require_begun(error)
        finally:
            agent.end(0)
            if not (interrupted and crew.is_elastic):  # the others go on
                meeting.shutdown()
        return _verdict(agent, interrupted, advice)


@contextmanager
def _noted_signals() -> Generator[Callable[[], None], None, None]:
    """SIGINT and SIGTERM as KeyboardInterrupt, though not what follows at once on one; gives what asks for them."""
    last = float("-inf")

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal last
        earlier, last = last, time.monotonic()
        if last - earlier > ECHO_SECONDS:
            raise KeyboardInterrupt

    def listen() -> None:
        for number in before:
            signal.signal(number, note)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = ",".join(number.name for number in before)  # not what nohup ignores
    listen()
    try:
        yield listen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _verdict(agent: _Agent, interrupted: bool, advice: Callable[[], str]) -> tuple[int, str]:
    codes = {rank: process.returncode for rank, process in agent.processes().items()}
    blamed = agent.blamed
    if codes and not any(codes.values()):
        return 0, ""
    if codes.get(0, 0) > 0 and codes[0] != PEER_LOST:  # it has said so itself
        return codes[0], ""
    if interrupted:
        return INTERRUPTED, f"pactl: interrupted ({advice()})\n"
    if blamed is None or blamed.code == PEER_LOST:
        return FAILED, "pactl: the processes of another machine have ended: what they said is to be found there\n"
    if blamed.code > 0:
        return blamed.code, blamed.said or f"pactl: {blamed}\n"
    return FAILED, f"pactl: {blamed} ({advice()})\n"
