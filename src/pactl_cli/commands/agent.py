"""torch's elastic agent, which starts the processes of this machine, watches over them and starts them again.

What is added to it: who is to blame, and what that process said; stops that are over in seconds; a store that, for one
machine, only that machine sees; and ranks that meet in a new corner of that store each time.
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

from pactl_cli.commands.launch import CrewOptions, state_of
from pactl_cli.data.files.capacity import cores
from pactl_cli.errors import BAD_INPUT, BOUND_EXCEEDED, FAILED, INTERRUPTED, PEER_LOST, PactlError
from pactl_cli.processes.interruption import Interruption, interruptibly
from pactl_cli.processes.placement import MEETING_SECONDS, Handoff, require_known

OTHERS_END_SECONDS, SAVE_SECONDS = 5, 30
"""How long the others have when one has failed, and all after an interruption, which is what torch gives them."""
_OTHERS_MAY_COME_SECONDS, _ALIVE_EVERY_SECONDS = 10, 3
"""How long the least number of machines waits for more; one of which nothing is heard three times is gone."""
_COMPLAINT_BYTES = 1 << 14
_ROUND, _BEFORE = "pactl/round", "pactl/before"


class _Surroundings(LogsSpecs):
    """What each process of this machine finds: variables, unless the user has set them, and where it speaks.

    Rank 0 speaks for itself. What others say is kept, in files without a name, in case that one of them is to blame.
    """

    root_log_dir = ""

    def __init__(self) -> None:
        super().__init__()
        self.files, self.variables = ExitStack(), dict[str, str]()

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Return where each process writes, and add to its variables."""
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
        """Return the last words of a process that does not speak for itself."""
        self._said[rank].seek(0)
        return self._said[rank].read()[-_COMPLAINT_BYTES:].decode(errors="replace")


class _Agent(LocalElasticAgent):
    """torch's, which would wait half a minute for the others where one process has failed.

    Attributes:
        blamed: rank and exit code of the process that was the first to end, if not in success, and what it said.
    """

    blamed: tuple[int, int, str] | None = None

    def __init__(self, spec: WorkerSpec, options: CrewOptions, store: TCPStore, target: Path | None) -> None:
        self.surroundings, self._wish = _Surroundings(), Interruption(echo_seconds=1)
        super().__init__(spec, self.surroundings, exit_barrier_timeout=SAVE_SECONDS)
        self._options, self._launchers, self._target = options, store, target

    def codes(self) -> dict[int, int | None]:
        """Return the exit codes of the processes that were started last, by rank."""
        handlers = getattr(self._pcontext, "subprocess_handlers", {})
        pairs = zip(self.get_worker_group().workers, handlers.values(), strict=False)  # no handlers before the start
        return {worker.global_rank: handler.proc.poll() for worker, handler in pairs}

    def end(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Asks all for an end, and soon kills them."""
        if self._pcontext:
            self._pcontext.close(by, OTHERS_END_SECONDS)

    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        self._wish.__exit__()  # a note would not end the waiting for machines
        if self._wish.requested:
            raise KeyboardInterrupt
        if self._pcontext:
            rank, code, said = self.blamed or (0, 0, "")
            why = _ending(rank, code) if code else "a machine has come"
            print(f"{said}pactl: note: {why}: all start again", file=sys.stderr, flush=True)
        super()._rendezvous(worker_group)
        self._wish.__enter__()
        self.blamed, self._lost = None, float("inf")
        options, state = self._options, state_of(self._target)
        before = self._launchers.compare_set(f"{_BEFORE}/{options.rdzv_id}", "", state).decode()
        store: Any = worker_group.store  # of the machines that take part, for this once
        if worker_group.group_rank == 0:
            store.set(_ROUND, json.dumps([uuid4().hex, state != before]))
        handoff = Handoff(os.getpid(), options.timeout, options.called(), *json.loads(store.get(_ROUND)))
        variables = {"OMP_NUM_THREADS": str(max(1, cores() // worker_group.spec.local_world_size)), **handoff.as_variable()}
        if options.machines()[1] == 1:  # gloo would look up the host's name, which not every machine knows
            variables["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
        self.surroundings.variables = variables

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        if self._wish.requested:
            raise KeyboardInterrupt
        codes, machines = self.codes(), self._options.machines()
        if failed := [(code in (PEER_LOST, INTERRUPTED), rank, code) for rank, code in codes.items() if code]:
            is_consequence, rank, code = min(failed)
            self._lost = min(self._lost, time.monotonic())
            waits = SAVE_SECONDS if code == INTERRUPTED and None in codes.values() else OTHERS_END_SECONDS
            may_learn_why = None in codes.values() or machines[1] > 1  # another ends, or starts again
            if is_consequence and may_learn_why and time.monotonic() - self._lost < waits:
                return RunResult(WorkerState.HEALTHY)
            self.end()
            self.blamed = rank, code, self.surroundings.said(rank) if 0 < code != PEER_LOST else ""
            if code in (BAD_INPUT, BOUND_EXCEEDED) or (code == INTERRUPTED and machines[0] == machines[1]):
                self._remaining_restarts = 0
        return super()._monitor_workers(worker_group)  # type: ignore[no-any-return]


def run_crew(options: CrewOptions, words: list[str], target: Path | None, advice: Callable[[], str]) -> tuple[int, str]:
    """Runs a command line on processes to their end. None of them is left when this returns, nor if this is killed.

    Args:
        target: where the command begins a run, with which it goes on where it starts again.
        advice: what to do after an interruption, or after one was killed.

    Returns:
        The exit code, and what is still to be said about it, if anything: a line, or what the process to blame said.

    Raises:
        PactlError: if the machines do not meet.
    """
    logging.disable()  # the agent tells of each signal and each failure in several lines
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # nobody reads what is typed
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = ""  # a second one would not pass for the same
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # of rank 0's machine: at the name by which it is ranked
    meeting, store, (host, port) = _meeting(options)
    args = ("-P", "-m", "pactl_cli", *(word.replace("$", "$$") for word in words))  # it takes them for templates
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
        agent.surroundings.files.close()
        if not interrupted or least == most:  # otherwise the others go on
            meeting.shutdown()
    return _verdict(agent, interrupted, advice)


def _meeting(options: CrewOptions) -> tuple[DynamicRendezvousHandler, TCPStore, tuple[str, int]]:
    """Where the launchers of a job meet, each time those that are there; its store, and where that is."""
    endpoint, rank = options.endpoint(), options.node_rank
    asked = rendezvous.RendezvousParameters(
        "c10d",
        ":".join(map(str, endpoint or ())),
        quote(options.rdzv_id, safe=""),
        *options.machines(),
        socket.gethostname() if rank is None else f"{rank:06}",  # they are ranked in the order of these names
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
    codes = agent.codes()
    if codes and not any(codes.values()):
        return 0, ""
    if 0 < (first := codes.get(0) or 0) != PEER_LOST:  # it has said so itself
        return first, ""
    if interrupted or agent.blamed is None:
        return INTERRUPTED, f"pactl: interrupted ({advice()})\n"
    rank, code, said = agent.blamed
    hint = f" ({advice()})" if code < 0 else ": what they said is to be found there" if code == PEER_LOST else ""
    return code if 0 < code != PEER_LOST else FAILED, said or f"pactl: {_ending(rank, code)}{hint}\n"


def _ending(rank: int, code: int) -> str:
    """How a process ended, in words."""
    if code == PEER_LOST:
        return "the processes of another machine have ended"
    known = {each.value: each.name for each in signal.Signals}
    how = f"was killed by {known.get(-code, f'signal {-code}')}" if code < 0 else f"has ended with exit code {code}"
    return f"rank {rank} {how}"
