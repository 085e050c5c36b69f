"""Several processes that work as one: their shares of a batch, sums over all of them, and their common end."""

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
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.utils.store import barrier

from pactl_cli.errors import FAILED, PactlError, PeerLostError, StoppedError
from pactl_cli.processes.interruption import interruptibly
from pactl_cli.processes.placement import MEETING_SECONDS, TIMEOUT_SECONDS, Handoff, Placement, require_known

_T = TypeVar("_T")
_COMPLAINTS, _ARRIVED, _DONE = "pactl/complaints", "pactl/arrived", "pactl/done"


@dataclass(frozen=True)
class Share:
    """The part of a batch that one process works on.

    Attributes:
        part: indices of examples, at least one.
        weight: the share of the batch; 0 if another process has the same part, so that it counts once.
        whole: the number of examples in the batch.
    """

    part: Tensor
    weight: float
    whole: int


@dataclass(frozen=True)
class World(Placement):
    """The processes that share a piece of work, seen from one of them. All make the same calls in the same order.

    Attributes:
        joined: whether there is a process group; a single process has none.
        timeout_seconds: how long to wait for the others.
    """

    joined: bool = False
    timeout_seconds: float = TIMEOUT_SECONDS

    @property
    def leads(self) -> bool:
        """Whether this process is rank 0, which writes files and prints."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Share:
        """Return this process's part of a batch: at least two examples, if the batch has as many.

        If a batch is too small for all, the processes left over repeat the first part with weight 0, so that every
        process makes the same step.
        """
        parts = batch.tensor_split(max(1, min(self.size, len(batch) // 2)))
        idle = self.rank >= len(parts)
        part = parts[0 if idle else self.rank]
        return Share(part, 0.0 if idle else len(part) / len(batch), len(batch))

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of the values of all processes, which is the same to the last bit on each."""
        if not self.joined:
            return values
        carried = values if values.is_cuda else values.cpu()
        with self._together():
            torch.distributed.all_reduce(carried)
        return carried.to(values.device)

    def any(self, wish: bool) -> bool:
        """Return whether `wish` is true on any process."""
        return bool(self.total(torch.tensor(float(wish))) > 0)

    @torch.no_grad()
    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the tensors of every process with those of rank 0."""
        if self.joined:
            for tensor in tensors:
                tensor.copy_(self.from_first(tensor.detach().cpu().clone))  # a view would be sent with its whole base

    def from_first(self, make: Callable[[], _T]) -> _T:
        """Return on every process the result of `make`, which only rank 0 calls and which can be pickled."""
        made = [make() if self.leads else None]
        if self.joined:
            with self._together():
                torch.distributed.broadcast_object_list(made, 0)
        return made[0]  # type: ignore[return-value]

    def require_same(self, what: str, data: bytes) -> None:
        """Raise PactlError on every process unless all have the same bytes."""
        digest = sha256(data).digest()
        if self.any(self.from_first(lambda: digest) != digest):
            raise PactlError(
                f"the processes disagree on {what}", "do their machines differ? use one kind, or one process", FAILED
            )

    @contextmanager
    def _together(self) -> Generator[None, None, None]:
        """Raise PeerLostError if another process has ended meanwhile, and StoppedError if one does not answer."""
        started = time.monotonic()
        try:
            yield
        except RuntimeError as error:
            if time.monotonic() - started < 0.9 * self.timeout_seconds:
                raise PeerLostError("another process has ended", "see what it said", FAILED) from error
            words = f"rank {self.rank} has waited {self.timeout_seconds:g} s for the other processes: one of them hangs"
            raise StoppedError(words, exit_code=FAILED) from error


ALONE = World()
"""The world of a single process."""


@contextmanager
def joined() -> Iterator[World]:
    """Yield the world that the environment describes; at the end, wait until all processes have done their work.

    Raises:
        PactlError: if the other processes are not found.
    """
    placement = Placement.here()
    if placement is None:
        yield ALONE
        return
    world = _join(placement, Handoff.received())
    yield world
    _part(world)


def _join(place: Placement, handoff: Handoff | None) -> World:
    """Return the world, once all processes have come. Tensors on GPUs go by NCCL, all others by gloo."""
    seconds = handoff.timeout_seconds if handoff else TIMEOUT_SECONDS
    gpus = torch.cuda.is_available() and torch.distributed.is_nccl_available()
    backend, where = "cpu:gloo,cuda:nccl" if gpus else "gloo", (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"])

    def meet() -> None:
        own: dict[str, Any] = {}
        if handoff:  # meet in the launchers' store; all processes are there before the short timeout applies
            patience = max(MEETING_SECONDS, seconds)
            whole = TCPStore(where[0], int(where[1]), timeout=timedelta(seconds=patience), wait_for_workers=False)
            own = {"store": PrefixStore(handoff.store_prefix, whole), "rank": place.rank, "world_size": place.size}
            barrier(own["store"], place.size, _ARRIVED, patience)
        else:
            require_known(where[0])
        torch.distributed.init_process_group(backend, timeout=timedelta(seconds=seconds), **own)

    try:
        interruptibly(meet)
    except (RuntimeError, ValueError) as error:
        at, hint = ":".join(where), "is the address rank 0's, and the port free and open?"
        words = f"has not met the other {place.size - 1} at {at}: {str(error).splitlines()[0]}"
        if "EADDRINUSE" in str(error):
            words, hint = f"cannot listen at {at}: the port is in use", "choose another, on all machines"
        raise PeerLostError(f"rank {place.rank} {words}", hint, FAILED) from error
    return World(place.rank, place.size, place.local_rank, place.local_size, True, seconds)


def _part(world: World) -> None:
    """End the group once all processes are done, rank 0 with its files too, and every message has been received."""
    world.total(torch.zeros(1))
    store = torch.distributed.distributed_c10d._get_default_store()
    with suppress(RuntimeError):  # the work is done; the store ends with rank 0, maybe before the others
        interruptibly(lambda: barrier(store, world.size, _DONE, world.timeout_seconds))
    torch.distributed.destroy_process_group()


def is_first_to_complain(place: Placement) -> bool:
    """Return whether this process is the first to report an error, for launchers such as torchrun that show all."""
    with suppress(Exception):  # there is no group yet, or the store has ended with rank 0
        return bool(torch.distributed.distributed_c10d._get_default_store().add(_COMPLAINTS, 1) == 1)
    return place.local_rank == 0
