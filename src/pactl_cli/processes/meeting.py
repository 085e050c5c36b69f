"""Where the launchers of one job meet: at a store in the one of them that is at the endpoint, or in the only one."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any, Self
from urllib.parse import quote

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousError,
    RendezvousInfo,
    RendezvousStoreInfo,
    RendezvousTimeoutError,
)
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler, RendezvousTimeout

from pactl_cli.errors import FAILED, PactlError
from pactl_cli.processes.crew import Crew
from pactl_cli.processes.interruption import interruptibly
from pactl_cli.processes.placement import MEETING_SECONDS, Handoff, require_known

_LOOPBACK = "127.0.0.1"
_OTHERS_MAY_COME_SECONDS = 10
"""How long the least number of machines waits for more."""
_ALIVE_EVERY_SECONDS = 3
"""A machine is given up when it has not been heard of three times."""
_READ_SECONDS = 60
_ROUND, _BEFORE = "pactl/round", "pactl/before"


class Meeting(DynamicRendezvousHandler):
    """torch's rendezvous. The ranks meet in the launchers' store, in a corner of its own for each round.

    torch's own shared store would keep the first round's address for machines that come later, and what the ranks of
    earlier rounds have written.
    """

    _crew: Crew
    _endpoint: tuple[str, int]
    _begun = False

    @classmethod
    def at(cls, crew: Crew) -> Self:
        """Return the meeting of a job's launchers, at which this one has arrived.

        Raises:
            PactlError: if it cannot be found, or the port is somebody else's.
        """
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        run_id = quote(crew.run_id, safe="")
        store, endpoint = _store(crew)
        patience = timedelta(seconds=max(MEETING_SECONDS, crew.timeout_seconds))
        last_call = timedelta(seconds=_OTHERS_MAY_COME_SECONDS)
        host = socket.gethostname() if crew.machine is None else f"{crew.machine:06}"
        found: Self = cls.from_backend(
            run_id,
            store,
            C10dRendezvousBackend(store, run_id),
            *crew.machines,
            host,  # machines are ranked in the order of their names
            RendezvousTimeout(patience, last_call),
            _ALIVE_EVERY_SECONDS,
        )
        found._crew, found._endpoint = crew, endpoint
        return found

    def next_rendezvous(self) -> RendezvousInfo:
        """Return who takes part in a round, and where its ranks meet; they are told whether to go on with a run."""
        found = super().next_rendezvous()
        before = self._store.compare_set(f"{_BEFORE}/{self.get_run_id()}", "", self._crew.state()).decode()
        if found.rank == 0:
            round_ = self._store.add(_ROUND, 1)
            found.store.set(_ROUND, json.dumps([f"pactl/{round_}", self._crew.state() != before]))
        corner, again = json.loads(found.store.get(_ROUND))
        handoff = Handoff(os.getpid(), self._crew.timeout_seconds, self._crew.called, corner, again)
        os.environ.update(handoff.left())
        self._begun = True
        return RendezvousInfo(found.store, found.rank, found.world_size, RendezvousStoreInfo(*self._endpoint))

    def require_begun(self, error: RendezvousError) -> None:
        """Raises PactlError if no round has begun, with what the matter was."""
        if not self._begun:
            least, where = self._crew.machines[0], ":".join(map(str, self._endpoint))
            words = {
                RendezvousTimeoutError: f"fewer than {least} machines have come to {where}",
                RendezvousClosedError: f"the run at {where} has ended",
            }.get(type(error), f"the launcher at {where} does not answer any more")
            raise PactlError(words, "start all of them again", FAILED) from error


def _store(crew: Crew) -> tuple[TCPStore, tuple[str, int]]:
    """The launchers' store and where it is: here if the endpoint is this machine, and none has it yet."""
    listener = _listener(crew)
    host, port = crew.endpoint or (_LOOPBACK, 0)
    if listener is None:
        _await_listener(host, port)
    own: dict[str, Any] = {"wait_for_workers": False, "timeout": timedelta(seconds=_READ_SECONDS)}
    if listener is not None:
        port = listener.getsockname()[1]
        own |= {"is_master": True, "master_listen_fd": listener.detach()}
    found: list[TCPStore] = []
    try:
        interruptibly(lambda: found.append(TCPStore(host, port, **own)), _READ_SECONDS)
    except (RuntimeError, TimeoutError) as error:
        raise PactlError(
            f"{host}:{port} does not answer as pactl launch does", "has another program this port?", FAILED
        ) from error
    return found[0], (host, port)


def _listener(crew: Crew) -> socket.socket | None:
    """A socket that listens where all meet; None if that is another launcher's to do."""
    if crew.endpoint is None:
        return socket.create_server((_LOOPBACK, 0))
    host, port = crew.endpoint
    require_known(host)
    if (crew.machine is not None and crew.machine > 0) or (crew.machine is None and not _is_here(host)):
        return None
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE and crew.machine is None:  # by a launcher that was here before, we hope
            return None
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise PactlError(
            f"cannot listen at {host}:{port}: {reason}", "choose another, on all machines", FAILED
        ) from error


def _is_here(host: str) -> bool:
    """Whether a name is this machine's."""
    for family, kind, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
        with suppress(OSError), socket.socket(family, kind) as probe:
            probe.bind(address)
            return True
    return False


def _await_listener(host: str, port: int) -> None:
    """Waits until somebody listens there: machines start in any order."""
    deadline = time.monotonic() + MEETING_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise PactlError(
                    f"nobody answers at {host}:{port}: {error.strerror or error}",
                    "is it another machine's address, and the port open?",
                    FAILED,
                ) from error
        time.sleep(0.2)
