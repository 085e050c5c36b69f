"""The launcher of processes, on torch's elastic agent, which starts and restarts the processes of this machine.

It adds to the agent: a report of the process to blame and of what that process said; stops that take seconds; a store
that only this machine can reach, if there is one machine; and a new prefix in the store for each start.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic import rendezvous
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend, create_backend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler, create_handler

from pactl_cli.commands.launch import LaunchOptions, state_of
from pactl_cli.data.files.capacity import cores
from pactl_cli.errors import BAD_INPUT, BOUND_EXCEEDED, FAILED, INTERRUPTED, PEER_LOST, PactlError
from pactl_cli.processes.interruption import Interruption, interruptibly
from pactl_cli.processes.placement import MEETING_SECONDS, Handoff, require_known

OTHERS_END_SECONDS, SAVE_SECONDS = 5, 30
"""How long other processes may go on after one has failed, and all after an interruption (the latter is torch's)."""
_OTHERS_MAY_COME_SECONDS, _ALIVE_EVERY_SECONDS = 10, 3
"""How long the least number of machines waits for more; how often one says that it is alive (gone after three)."""
_COMPLAINT_BYTES = 1 << 14
_ROUND, _BEFORE = "pactl/round", "pactl/before"


class _Environment(LogsSpecs):
    """The environment variables and the streams of each process of this machine.

    Rank 0 has the launcher's own streams. The stderr of any other goes to a nameless file, in case it is to blame.
    """

    root_log_dir = ""

    def __init__(self) -> None:
        super().__init__()
        self.files, self.variables = ExitStack(), dict[str, str]()

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Return where each process writes, and add to its variables; those that the user has set stay."""
        ranks = {local: int(env["RANK"]) for local, env in envs.items()}
        self._said = {rank: self.files.enter_context(TemporaryFile()) for rank in ranks.values()}  # noqa: SIM115
        for env in envs.values():
            env |= {name: os.environ.get(name, value) for name, value in self.variables.items()}
        return LogsDest(
            stdouts={local: os.devnull if rank else "" for local, rank in ranks.items()},
            stderrs={local: f"/dev/fd/{self._said[rank].fileno()}" if rank else "" for local, rank in ranks.items()},
            error_files=dict.fromkeys(envs, ""),
        )

    def said(self, rank: int) -> str:
        """Return the end of what a process other than rank 0 has written to stderr."""
        self._said[rank].seek(0)
        return self._said[rank].read()[-_COMPLAINT_BYTES:].decode(errors="replace")


class _Agent(LocalElasticAgent):
    """torch's agent, made to end the other processes within seconds when one has failed.

    Attributes:
        blamed: rank, exit code and words of the first process that failed; None if none has.
    """

    blamed: tuple[int, int, str] | None = None

    def __init__(self, spec: WorkerSpec, options: LaunchOptions, store: TCPStore, target: Path | None) -> None:
        self.environment, self._interruption = _Environment(), Interruption(echo_seconds=1)
        super().__init__(spec, self.environment, exit_barrier_timeout=SAVE_SECONDS)
        self._options, self._job_store, self._target = options, store, target

    def codes(self) -> dict[int, int | None]:
        """Return the exit codes of the current processes by rank; None for one that runs."""
        handlers = getattr(self._pcontext, "subprocess_handlers", {})
        pairs = zip(self.get_worker_group().workers, handlers.values(), strict=False)  # no handlers before the start
        return {worker.global_rank: handler.proc.poll() for worker, handler in pairs}

    def end(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Ask all processes to end, and kill those that have not within seconds."""
        if self._pcontext:
            self._pcontext.close(by, OTHERS_END_SECONDS)

    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        self._interruption.__exit__()  # a signal must end the wait for machines, not only be noted
        if self._interruption.requested:
            raise KeyboardInterrupt
        if self._pcontext:
            rank, code, said = self.blamed or (0, 0, "")
            why = _ending(rank, code) if code else "a machine has come"
            print(f"{said}pactl: note: {why}: all start again", file=sys.stderr, flush=True)
        super()._rendezvous(worker_group)
        self._interruption.__enter__()
        self.blamed, self._failed_at = None, float("inf")
        options, state = self._options, state_of(self._target)
        before = self._job_store.compare_set(f"{_BEFORE}/{options.rdzv_id}", "", state).decode()
        store: Any = worker_group.store  # shared by the machines that take part in this start
        if worker_group.group_rank == 0:
            store.set(_ROUND, json.dumps([uuid4().hex, state != before]))
        handoff = Handoff(os.getpid(), options.timeout, options.called(), *json.loads(store.get(_ROUND)))
        threads = max(1, cores() // worker_group.spec.local_world_size)
        variables = {"OMP_NUM_THREADS": str(threads), **handoff.as_variable()}
        if options.machines()[1] == 1:  # gloo would resolve the host's name, which some machines cannot
            variables["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
        self.environment.variables = variables

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        if self._interruption.requested:
            raise KeyboardInterrupt
        codes, machines = self.codes(), self._options.machines()
        if failed := [(code in (PEER_LOST, INTERRUPTED), rank, code) for rank, code in codes.items() if code]:
            is_consequence, rank, code = min(failed)
            self._failed_at = min(self._failed_at, time.monotonic())
            waits = SAVE_SECONDS if code == INTERRUPTED and None in codes.values() else OTHERS_END_SECONDS
            may_learn_why = None in codes.values() or machines[1] > 1  # from a process here or on another machine
            if is_consequence and may_learn_why and time.monotonic() - self._failed_at < waits:
                return RunResult(WorkerState.HEALTHY)
            self.end()
            self.blamed = rank, code, self.environment.said(rank) if 0 < code != PEER_LOST else ""
            if code in (BAD_INPUT, BOUND_EXCEEDED) or (code == INTERRUPTED and machines[0] == machines[1]):
                self._remaining_restarts = 0
        return super()._monitor_workers(worker_group)  # type: ignore[no-any-return]


def run_processes(
    options: LaunchOptions, words: list[str], target: Path | None, advice: Callable[[], str]
) -> tuple[int, str]:
    """Run a command line on several processes to their end. No process outlives this one, not even if it is killed.

    Args:
        target: the run directory that the command begins, and resumes when it starts again.
        advice: what to do after an interruption, or after a process was killed.

    Returns:
        The exit code, and a line or the words of the process to blame, if these are still to be printed, or "".

    Raises:
        PactlError: if the machines do not meet.
    """
    logging.disable()  # the agent logs each signal and each failure in several lines
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # no process may wait for input
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = ""  # the agent would not take a second signal for a repeat
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # it would be sought at the name that `--node-rank` replaces
    meeting, store, (host, port) = _meeting(options)
    args = ("-P", "-m", "pactl_cli", *(word.replace("$", "$$") for word in words))  # the agent expands templates
    size, restarts = options.gpus or options.cpus or 1, options.max_restarts
    spec = WorkerSpec("rank", size, meeting, None, sys.executable, args, restarts, master_addr=host, master_port=port)
    agent = _Agent(spec, options, store, target)
    least, most = options.machines()
    interrupted = False
    try:
        agent.run()
    except KeyboardInterrupt:
        interrupted = True
    except rendezvous.RendezvousTimeoutError as error:
        raise PactlError(f"fewer than {least} machines have come", "start all of them", FAILED) from error
    except rendezvous.RendezvousError:
        agent.blamed = 0, PEER_LOST, ""
    finally:
        agent.end(signal.SIGKILL)
        agent.environment.files.close()
        if not interrupted or least == most:  # otherwise the other machines go on
            meeting.shutdown()
    return _verdict(agent, interrupted, advice)


def _meeting(options: LaunchOptions) -> tuple[DynamicRendezvousHandler, TCPStore, tuple[str, int]]:
    """Return the rendezvous of a job's launchers, its store, and the store's host and port."""
    endpoint, rank = options.endpoint(), options.node_rank
    asked = rendezvous.RendezvousParameters(
        "c10d",
        ":".join(map(str, endpoint or ())),
        quote(options.rdzv_id, safe=""),
        *options.machines(),
        socket.gethostname() if rank is None else f"{rank:06}",  # torch ranks machines in the order of these names
        join_timeout=round(max(MEETING_SECONDS, options.timeout)),
        last_call_timeout=_OTHERS_MAY_COME_SECONDS,
        keep_alive_interval=_ALIVE_EVERY_SECONDS,
        read_timeout=round(MEETING_SECONDS),
        **({} if rank is None else {"is_host": rank == 0}),
    )
    if endpoint is None:
        listener = socket.create_server(("127.0.0.1", 0))
        endpoint = "127.0.0.1", int(listener.getsockname()[1])
        store: Any = TCPStore(*endpoint, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
        return create_handler(store, C10dRendezvousBackend(store, asked.run_id), asked), store, endpoint
    require_known(endpoint[0])
    try:
        backend, store = interruptibly(lambda: create_backend(asked), MEETING_SECONDS)
    except (rendezvous.RendezvousError, TimeoutError) as error:
        at, hint = asked.endpoint, "is it another machine's address, and the port open and ours?"
        words = f"no pactl launch answers at {at}"
        if "EADDRINUSE" in str(error.__cause__):
            words, hint = f"cannot listen at {at}: the port is in use", "choose another, on all machines"
        raise PactlError(words, hint, FAILED) from error
    return create_handler(store, backend, asked), store, endpoint


def _verdict(agent: _Agent, interrupted: bool, advice: Callable[[], str]) -> tuple[int, str]:
    """Return the exit code of the launch and what is still to be printed."""
    codes = agent.codes()
    if codes and not any(codes.values()):
        return 0, ""
    if 0 < (first := codes.get(0) or 0) != PEER_LOST:  # rank 0 has printed why
        return first, ""
    if interrupted or agent.blamed is None:
        return INTERRUPTED, f"pactl: interrupted ({advice()})\n"
    rank, code, said = agent.blamed
    hint = f" ({advice()})" if code < 0 else ": that machine shows why" if code == PEER_LOST else ""
    return code if 0 < code != PEER_LOST else FAILED, said or f"pactl: {_ending(rank, code)}{hint}\n"


def _ending(rank: int, code: int) -> str:
    """Return in words how a process ended."""
    if code == PEER_LOST:
        return "the processes of another machine have ended"
    known = {each.value: each.name for each in signal.Signals}
    how = f"was killed by {known.get(-code, f'signal {-code}')}" if code < 0 else f"has ended with exit code {code}"
    return f"rank {rank} {how}"
