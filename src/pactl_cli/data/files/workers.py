"""Worker processes: a function of one request, many requests, results in their order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from threading import Thread
from types import ModuleType
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from pactl_cli.data.files.capacity import cores
from pactl_cli.errors import FAILED, PactlError

MOST_USEFUL = 8
_DEAF_TO = {signal.SIGINT, signal.SIGTERM}

_Request = TypeVar("_Request")
_Result = TypeVar("_Result")


def useful_workers() -> int:
    """As many as there are cores to spare beside the main process's own, but at most `MOST_USEFUL`."""
    return min(cores() - 1, MOST_USEFUL)


class _Work(Dataset[Any], Generic[_Request, _Result]):
    """The function and what it says, errors being results: torch would wrap them into a page of text."""

    def __init__(self, function: Callable[[_Request], _Result]) -> None:
        self._function = function

    def __getitem__(self, request: _Request) -> _Result | PactlError:
        try:
            return self._function(request)
        except PactlError as error:
            return error


def mapped(
    function: Callable[[_Request], _Result], requests: Iterable[_Request], count: int, workers: int
) -> Generator[_Result, None, None]:
    """The results of a function for each request, computed a little ahead by worker processes, in the requests' order.

    The workers end with the generator: at its end, on any error, and when it is closed.

    Args:
        function: can be pickled; what it allocates for a result, it allocates by `shared_tensor`.
        requests: taken as they are needed.
        count: of the requests.
        workers: how many processes; 0 for this one, without working ahead.

    Raises:
        PactlError: what the function raised, or, with exit code 1, that a worker does not start or has died.
    """
    if not workers or count < 2:  # one request alone is not worth a process
        yield from map(function, requests)
        return
    with warnings.catch_warnings(action="ignore"):  # that there are more workers than cores: as the user wants it
        results = _started(_loader(_Work(function), requests, min(workers, count)))
    try:
        for _ in range(count):
            result = _next(results)
            if isinstance(result, PactlError):
                raise result
            yield result
    finally:
        results._shutdown_workers()  # torch has no public name for it, and leaves it to the garbage collector


def mapped_or_here(
    function: Callable[[_Request], _Result], requests: Sequence[_Request], workers: int
) -> Generator[_Result, None, None]:
    """Yield what `mapped` does; all that workers have failed at is computed in this process, where errors are whole.

    Raises:
        PactlError: what the function raised here.
    """
    done = 0
    with suppress(PactlError), closing(mapped(function, requests, len(requests), workers)) as results:
        for result in results:
            yield result
            done += 1
    yield from map(function, requests[done:])


def _loader(work: _Work[Any, Any], requests: Iterable[Any], workers: int) -> DataLoader[Any]:
    """A loader of one request at a time. Its processes are forked from a server that has imported what they need.

    Such a server has no threads, no device and no terminal, which a fork of the main process would break.
    """
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torchvision.transforms", "pactl_cli.data.files.decoding"])
    return DataLoader(
        work,
        sampler=requests,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_follow_parent,
        multiprocessing_context=context,
        generator=torch.Generator(),  # else it would draw a seed from the ambient one
    )


def _as_it_is(result: Any) -> Any:
    return result


def _started(loader: DataLoader[Any]) -> Any:
    """The iterator of a loader, its processes at work and deaf to the signals that are this process's to answer."""
    with _nothing_unasked():
        resource_tracker.ensure_running()  # its own start would lift the mask
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _DEAF_TO)
        try:
            return iter(loader)
        except (OSError, EOFError) as error:
            raise PactlError(f"no worker process starts: {error}", "try --num-workers 0", FAILED) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _nothing_unasked() -> Iterator[None]:
    """Within it, Python processes that are started import nothing from the working directory, and no main module.

    The main module may be a script that does its work when it is imported.
    """
    main, safe = sys.modules["__main__"], os.environ.get("PYTHONSAFEPATH")
    sys.modules["__main__"], os.environ["PYTHONSAFEPATH"] = ModuleType("__main__"), "1"
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if safe is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = safe


def _follow_parent(worker: int) -> None:
    """Ends a worker when the process that it works for is gone, however that ended."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(0)

    Thread(target=follow, daemon=True).start()


def _next(results: Any) -> Any:
    try:
        return next(results)
    except (RuntimeError, EOFError, OSError) as error:  # the last two where it dies while it hands over a result
        reason = (str(error).strip().splitlines() or ["it has ended"])[-1]
        raise PactlError(
            f"a worker process failed: {reason}", "is there enough memory? try fewer --num-workers", FAILED
        ) from error


def shared_tensor(*shape: int) -> torch.Tensor:
    """Bytes for a result: in a worker, in memory that the main process can see.

    Raises:
        PactlError: with exit code 1 if there is no room for it.
    """
    tensor = torch.empty(shape, dtype=torch.uint8)
    if multiprocessing.parent_process() is not None:
        try:
            tensor.share_memory_()
        except RuntimeError as error:
            raise PactlError(f"no shared memory for images: {error}", "try --num-workers 0", FAILED) from error
    return tensor
