"""torch's elastic agent, which starts the processes of this machine, watches over them and starts them again.

What is added to it: who is to blame, and what that process said; stops that are over in seconds; a store that, for one
machine, only that machine sees; and ranks that meet in a new corner of the launchers' store each time, where torch
keeps the first round's address, and what was written there, for machines that come later.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self
from urllib.parse import quote

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic import rendezvous
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, LogsDest, SignalException, Std
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend, create_backend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler, RendezvousTimeout

from pactl_cli.commands.launch import CrewOptions
from pactl_cli.data.files.capacity import cores
from pactl_cli.errors import BAD_INPUT, BOUND_EXCEEDED, FAILED, INTERRUPTED, PEER_LOST, PactlError
from pactl_cli.processes.interruption import Interruption, interruptibly
from pactl_cli.processes.placement import MEETING_SECONDS, Handoff, require_known

OTHERS_END_SECONDS, SAVE_SECONDS = 5.0, 30.0
"""How long the others have when one has failed, and all after an interruption."""
_OTHERS_MAY_COME_SECONDS, _ALIVE_EVERY_SECONDS = 10, 3
"""How long the least number of machines waits for more; one of which nothing is heard three times is gone."""
_COMPLAINT_BYTES = 1 << 14
_ROUND, _BEFORE = "pactl/round", "pactl/before"
_LOOPBACK = "127.0.0.1"


class _Meeting(DynamicRendezvousHandler):
    """Where the launchers of a job meet, in each round those that are there, and tell their ranks what they need."""

    @classmethod
    def at(cls, options: CrewOptions, state: Callable[[], str]) -> Self:
        """Return the meeting at which this launcher has arrived; `state` changes when a run is begun."""
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        store, endpoint = _store(options)
        run_id, rank = quote(options.rdzv_id, safe=""), options.node_rank
        patience = timedelta(seconds=max(MEETING_SECONDS, options.timeout))
        found: Self = cls.from_backend(
            run_id,
            store,
            C10dRendezvousBackend(store, run_id),
            *options.machines(),
            socket.gethostname() if rank is None else f"{rank:06}",  # they are ranked in the order of these names
            RendezvousTimeout(patience, timedelta(seconds=_OTHERS_MAY_COME_SECONDS)),
            _ALIVE_EVERY_SECONDS,
        )
        found._told = (options, state, endpoint)
        return found

    def next_rendezvous(self) -> rendezvous.RendezvousInfo:
        """Return who takes part in a round, and where its ranks meet."""
        options, state, endpoint = self._told
        found = super().next_rendezvous()
        before = self._store.compare_set(f"{_BEFORE}/{self.get_run_id()}", "", state()).decode()
        if found.rank == 0:
            found.store.set(_ROUND, json.dumps([f"{_ROUND}/{self._store.add(_ROUND, 1)}", state() != before]))
        handoff = Handoff(os.getpid(), options.timeout, options.called(), *json.loads(found.store.get(_ROUND)))
        os.environ.update(handoff.left())
        where = rendezvous.RendezvousStoreInfo(*endpoint)
        return rendezvous.RendezvousInfo(found.store, found.rank, found.world_size, where)

    _told: tuple[CrewOptions, Callable[[], str], tuple[str, int]]


def _store(options: CrewOptions) -> tuple[TCPStore, tuple[str, int]]:
    """The launchers' store, and where it is."""
    if (endpoint := options.endpoint()) is None:
        listener = socket.create_server((_LOOPBACK, 0))
        where = (_LOOPBACK, listener.getsockname()[1])
        return TCPStore(*where, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()), where
    require_known(endpoint[0])
    host: dict[str, Any] = {} if options.node_rank is None else {"is_host": options.node_rank == 0}
    at, patience = ":".join(map(str, endpoint)), round(MEETING_SECONDS)
    asked = rendezvous.RendezvousParameters("c10d", at, "meeting", 1, 1, read_timeout=patience, **host)
    found: list[Any] = []
    try:
        interruptibly(lambda: found.append(create_backend(asked)[1]), patience)
    except (rendezvous.RendezvousError, TimeoutError) as error:
        if "EADDRINUSE" in str(error.__cause__):
            raise PactlError(f"cannot listen at {at}: the port is in use", "choose another, on all", FAILED) from error
        raise PactlError(
            f"no pactl launch answers at {at}", "is it another machine's address, and the port open and ours?", FAILED
        ) from error
    return found[0], endpoint


class _Logs(DefaultLogsSpecs):
    """Rank 0 speaks for itself; what others say is kept, in case that one of them is to blame."""

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Return where each process of this machine writes."""
        self._redirects = {local: Std.NONE if env["RANK"] == "0" else Std.ALL for local, env in envs.items()}
        return super().reify(envs)


class _Agent(LocalElasticAgent):
    """torch's, which would wait half a minute for the others where one process has failed.

    Attributes:
        blamed: rank, exit code and last words of the process that was the first to end, if not in success.
    """

    def __init__(self, spec: WorkerSpec, logs: _Logs, machines: tuple[int, int]) -> None:
        super().__init__(spec, logs, exit_barrier_timeout=SAVE_SECONDS)
        self.blamed: tuple[int, int, str] | None = None
        self._wish, self._machines, self._lost = Interruption(), machines, float("inf")

    def processes(self) -> dict[int, subprocess.Popen[bytes]]:
        """Return those that were started last, by rank."""
        handlers = getattr(self._pcontext, "subprocess_handlers", {})
        workers = self.get_worker_group().workers
        return {each.global_rank: handlers[each.local_rank].proc for each in workers if each.local_rank in handlers}

    def end(self, seconds: float) -> None:
        """Asks all for an end, but not the processes that they have of their own, and then kills."""
        deadline = time.monotonic() + seconds
        for process in self.processes().values():
            process.terminate()
        for process in self.processes().values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        if self._pcontext:
            self._pcontext.close(signal.SIGKILL, round(OTHERS_END_SECONDS))

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        started: dict[int, Any] = super()._start_workers(worker_group)
        self._wish.__enter__()  # after torch, whose handlers let no second signal pass for the same
        self.blamed, self._lost = None, float("inf")
        return started

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:
        self.end(SAVE_SECONDS)
        super()._shutdown(death_sig, timeout)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        if self._wish.requested:
            raise KeyboardInterrupt
        codes = {rank: process.poll() for rank, process in self.processes().items()}
        failed = [(code in (PEER_LOST, INTERRUPTED), rank, code) for rank, code in codes.items() if code]
        if failed:
            is_consequence, rank, code = min(failed)
            self._lost = min(self._lost, time.monotonic())
            waits = SAVE_SECONDS if code == INTERRUPTED and None in codes.values() else OTHERS_END_SECONDS
            may_learn_why = None in codes.values() or self._machines[1] > 1  # another ends, or starts again
            if is_consequence and may_learn_why and time.monotonic() - self._lost < waits:
                return RunResult(WorkerState.HEALTHY)
            self.end(OTHERS_END_SECONDS)
            self.blamed = rank, code, self._said(rank)
            if code in (BAD_INPUT, BOUND_EXCEEDED) or (code == INTERRUPTED and len({*self._machines}) == 1):
                self._remaining_restarts = 0
        found: RunResult = super()._monitor_workers(worker_group)
        return found

    def _said(self, rank: int) -> str:
        local = next(each.local_rank for each in self.get_worker_group().workers if each.global_rank == rank)
        path = self._pcontext.stderrs[local] if self._pcontext else ""
        return Path(path).read_bytes()[-_COMPLAINT_BYTES:].decode(errors="replace") if path else ""

    def _restart_workers(self, worker_group: WorkerGroup) -> None:
        self._stop_workers(worker_group)  # rank 0 may say something
        self._wish.__exit__()  # torch's, while it waits for machines
        rank, code, said = self.blamed or (0, 0, "")
        why = _ending(rank, code) if code else "a machine has come"
        print(f"{said}pactl: note: {why}: all start again", file=sys.stderr, flush=True)
        super()._restart_workers(worker_group)


def run_crew(
    options: CrewOptions, words: list[str], state: Callable[[], str], advice: Callable[[], str]
) -> tuple[int, str]:
    """Runs a command line on processes to their end. None of them is left when this returns, nor if this is killed.

    Args:
        state: what changes when the command has begun a run, with which it then goes on where it starts again.
        advice: what to do after an interruption, or after one was killed.

    Returns:
        The exit code, and what is still to be said about it, if anything: a line, or what the process to blame said.

    Raises:
        PactlError: if the machines do not meet.
    """
    before = dict(os.environ)
    try:
        return _run_crew(options, words, state, advice)
    finally:  # what is for the processes is for nobody who calls this
        os.environ.clear()
        os.environ.update(before)


def _run_crew(
    options: CrewOptions, words: list[str], state: Callable[[], str], advice: Callable[[], str]
) -> tuple[int, str]:
    size, machines = options.gpus or options.cpus or 1, options.machines()
    _prepare(size, machines)
    args = ("-P", "-m", "pactl_cli", *(word.replace("$", "$$") for word in words))  # it takes them for templates
    with TemporaryDirectory(prefix="pactl-launch-") as logs:
        meeting = _Meeting.at(options, state)
        spec = WorkerSpec("rank", size, meeting, None, sys.executable, args, options.max_restarts)
        agent = _Agent(spec, _Logs(logs), machines)
        interrupted = False
        try:
            agent.run()
        except (KeyboardInterrupt, SignalException):
            interrupted = True
        except rendezvous.RendezvousTimeoutError as error:
            raise PactlError(f"fewer than {machines[0]} machines have come", "start all of them", FAILED) from error
        except rendezvous.RendezvousError:
            agent.blamed = 0, PEER_LOST, ""
        finally:
            agent.end(0)
            if not interrupted or machines[0] == machines[1]:  # otherwise the others go on
                meeting.shutdown()
        return _verdict(agent, interrupted, advice)


def _prepare(size: int, machines: tuple[int, int]) -> None:
    """Makes this process one that launches; what it starts has its environment and its stdin."""
    logging.disable()  # the agent tells of each signal and each failure in several lines
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // size)))
    if machines[1] == 1:  # gloo would look up the host's name, which not every machine knows
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # nobody reads what is typed
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGTERM,SIGINT"  # not SIGHUP, which nohup ignores


def _verdict(agent: _Agent, interrupted: bool, advice: Callable[[], str]) -> tuple[int, str]:
    codes = {rank: process.returncode for rank, process in agent.processes().items()}
    if codes and not any(codes.values()):
        return 0, ""
    if codes.get(0, 0) > 0 and codes[0] != PEER_LOST:  # it has said so itself
        return codes[0], ""
    if interrupted or agent.blamed is None:
        return INTERRUPTED, f"pactl: interrupted ({advice()})\n"
    rank, code, said = agent.blamed
    if code == PEER_LOST:
        return FAILED, f"pactl: {_ending(rank, code)}: what they said is to be found there\n"
    if code > 0:
        return code, said or f"pactl: {_ending(rank, code)}\n"
    return FAILED, f"pactl: {_ending(rank, code)} ({advice()})\n"


def _ending(rank: int, code: int) -> str:
    """How a process ended, in words."""
    if code == PEER_LOST:
        return "the processes of another machine have ended"
    if code >= 0:
        return f"rank {rank} has ended with exit code {code}"
    known = {each.value: each.name for each in signal.Signals}
    return f"rank {rank} was killed by {known.get(-code, f'signal {-code}')}"
