"""Several processes as one: who takes which examples, sums over all, and what ends them together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, TypeVar

import torch
from torch import Tensor

from pactl_cli.errors import FAILED, PactlError, PeerLostError, StoppedError
from pactl_cli.processes.interruption import interruptibly
from pactl_cli.processes.placement import MEETING_SECONDS, TIMEOUT_SECONDS, Handoff, Placement, require_known

_T = TypeVar("_T")
_COMPLAINTS, _ARRIVED, _ALL_ARRIVED = "pactl/complaints", "pactl/arrived", "pactl/all-arrived"
_DONE, _GONE = "pactl/done", "pactl/gone"
_POLL_SECONDS = 0.01
_PORT_IN_USE = "EADDRINUSE"


@dataclass(frozen=True)
class Share:
    """What one process has of a batch.

    Attributes:
        part: indices of examples, never none.
        weight: their number over the whole batch's; 0 if they are another process's too, so that they do not count.
        whole: examples in the batch.
    """

    part: Tensor
    weight: float
    whole: int


@dataclass(frozen=True)
class World(Placement):
    """The processes that share a piece of work, seen from one. All of them make the same calls in the same order.

    Attributes:
        joined: whether there is a group to talk to; a single process needs none.
        timeout_seconds: how long to wait for the others.
    """

    joined: bool = False
    timeout_seconds: float = TIMEOUT_SECONDS

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Share:
        """This process's part of a batch, of at least two examples if the batch has them.

        Where a batch is too small for all, those left over repeat the first part, with weight 0: so every process
        makes the same step.
        """
        parts = batch.tensor_split(max(1, min(self.size, len(batch) // 2)))
        idle = self.rank >= len(parts)
        part = parts[0 if idle else self.rank]
        return Share(part, 0.0 if idle else len(part) / len(batch), len(batch))

    def total(self, values: Tensor) -> Tensor:
        """The sum of every process's values, the same to the last bit for all."""
        if not self.joined:
            return values
        carried = values if values.is_cuda else values.cpu()
        with self._together():
            torch.distributed.all_reduce(carried)
        return carried.to(values.device)

    def any(self, wish: bool) -> bool:
        """Whether any process wishes something."""
        return bool(self.total(torch.tensor(float(wish))) > 0)

    @torch.no_grad()
    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Gives every process's tensors the values that rank 0 has."""
        if self.joined:
            for tensor in tensors:
                carried = tensor.detach() if tensor.is_cuda else tensor.detach().cpu()
                carried = carried.contiguous()
                with self._together():
                    torch.distributed.broadcast(carried, 0)
                tensor.copy_(carried)

    def from_first(self, make: Callable[[], _T]) -> _T:
        """What `make` gives on rank 0, which alone calls it; it can be pickled.

        Raises:
            PactlError: on rank 0 what `make` raises.
        """
        made = [make() if self.leads else None]
        if self.joined:
            with self._together():
                torch.distributed.broadcast_object_list(made, 0)
        return made[0]  # type: ignore[return-value]

    def require_same(self, what: str, data: bytes) -> None:
        """Raises PactlError on every process unless all have the same bytes."""
        digest = sha256(data).digest()
        if self.any(self.from_first(lambda: digest) != digest):
            raise PactlError(
                f"the processes disagree on {what}", "do their machines differ? use one kind, or one process", FAILED
            )

    @contextmanager
    def _together(self) -> Generator[None, None, None]:
        """Says in words what is wrong when the others do not answer."""
        started = time.monotonic()
        try:
            yield
        except RuntimeError as error:
            if time.monotonic() - started < 0.9 * self.timeout_seconds:
                raise PeerLostError("another process has ended", "see what it said", FAILED) from error
            raise StoppedError(
                f"rank {self.rank} has waited {self.timeout_seconds:g} s for the other processes: one of them hangs",
                "",
                FAILED,
            ) from error


ALONE = World()
"""One process, as usual."""


@contextmanager
def joined() -> Iterator[World]:
    """The world that the environment describes, for the time of a command; it ends when all have done their work.

    Raises:
        PactlError: if the others are not found.
    """
    placement = Placement.here()
    if placement is None or placement.size == 1:
        yield ALONE
        return
    world = _join(placement, Handoff.received())
    yield world
    _part(world)


def _join(place: Placement, handoff: Handoff | None) -> World:
    """Meets the others. Tensors on GPUs go by NCCL, all others by gloo."""
    seconds = handoff.timeout_seconds if handoff else TIMEOUT_SECONDS
    gpus = torch.cuda.is_available() and torch.distributed.is_nccl_available()
    group: dict[str, Any] = {"backend": "cpu:gloo,cuda:nccl" if gpus else "gloo", "timeout": timedelta(seconds=seconds)}

    def meet() -> None:
        own: dict[str, Any] = {}
        if handoff:
            own = {"store": _store(place, handoff), "rank": place.rank, "world_size": place.size}
        else:
            require_known(os.environ["MASTER_ADDR"])
        torch.distributed.init_process_group(**group, **own)

    try:
        interruptibly(meet)
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        if _PORT_IN_USE in str(error):
            raise PactlError(
                f"rank {place.rank} cannot listen at {where}: the port is in use",
                "choose another, on all machines",
                FAILED,
            ) from error
        raise PeerLostError(
            f"rank {place.rank} has not met the other {place.size - 1} at {where}: {str(error).splitlines()[0]}",
            "is the address rank 0's, and the port free and open?",
            FAILED,
        ) from error
    return World(place.rank, place.size, place.local_rank, place.local_size, True, seconds)


def _part(world: World) -> None:
    """Ends the group in order.

    None leaves before all are done: rank 0 may still have to write. Nobody closes a connection while another still
    listens to it for what has been sent, nor rank 0, with which the store may end, before all have looked into it.
    """
    world.total(torch.zeros(1))
    store = torch.distributed.distributed_c10d._get_default_store()
    deadline = time.monotonic() + world.timeout_seconds
    with suppress(RuntimeError):  # the work is done
        for key in (_DONE, _GONE):
            arrived = store.add(key, 1)
            while arrived < world.size and (key == _DONE or world.leads) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                arrived = store.add(key, 0)
    torch.distributed.destroy_process_group()


def _store(place: Placement, handoff: Handoff) -> Any:
    """Where the processes of one start meet, when all have come: a corner of the launchers' store."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    patience = timedelta(seconds=max(MEETING_SECONDS, handoff.timeout_seconds))
    whole = TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=patience, wait_for_workers=False
    )
    store = PrefixStore(handoff.corner, whole)
    if store.add(_ARRIVED, 1) == place.size:
        store.set(_ALL_ARRIVED, "")
    store.wait([_ALL_ARRIVED], patience)  # they start at different speeds: the short timeout is for later
    return store


def claims_to_speak(place: Placement) -> bool:
    """Whether this process is the first to complain, where no launcher of ours sorts complaints out."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        with suppress(Exception):  # rank 0, and the store with it, may be gone
            return bool(torch.distributed.distributed_c10d._get_default_store().add(_COMPLAINTS, 1) == 1)
    return place.local_rank == 0
