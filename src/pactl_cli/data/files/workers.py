"""Worker processes that apply a function to many requests and return the results in order."""

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
_BLOCKED = {signal.SIGINT, signal.SIGTERM}

_Request = TypeVar("_Request")
_Result = TypeVar("_Result")


def useful_workers() -> int:
    """Return the number of cores beside the main process's own, but at most `MOST_USEFUL`."""
    return min(cores() - 1, MOST_USEFUL)


class _Work(Dataset[Any], Generic[_Request, _Result]):
    """The function as a torch data set. It returns errors, because torch would turn raised ones into a page of text."""

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
    """Yield the function's result for each request, in order, computed a little ahead by worker processes.

    The workers end with the generator: at its end, on any error, and when it is closed.

    Args:
        function: must support pickling, and allocate its results by `shared_tensor`.
        requests: consumed as they are needed.
        count: number of requests.
        workers: number of processes; 0 for this process alone, without working ahead.

    Raises:
        PactlError: as the function does, or, with exit code 1, if a worker does not start or dies.
    """
    if not workers or count < 2:  # a single request is not worth a process
        yield from map(function, requests)
        return
    with warnings.catch_warnings(action="ignore"):  # the user may want more workers than cores
        results = _started(_loader(_Work(function), requests, min(workers, count)))
    try:
        for _ in range(count):
            result = _next(results)
            if isinstance(result, PactlError):
                raise result
            yield result
    finally:
        results._shutdown_workers()  # torch has no public method, and leaves it to the garbage collector


def mapped_or_here(
    function: Callable[[_Request], _Result], requests: Sequence[_Request], workers: int
) -> Generator[_Result, None, None]:
    """Yield the results of `mapped`. If a worker fails, compute the rest in this process, which shows errors in full.

    Raises:
        PactlError: as the function does in this process.
    """
    done = 0
    with suppress(PactlError), closing(mapped(function, requests, len(requests), workers)) as results:
        for result in results:
            yield result
            done += 1
    yield from map(function, requests[done:])


def _loader(work: _Work[Any, Any], requests: Iterable[Any], workers: int) -> DataLoader[Any]:
    """Return a loader of one request at a time, whose processes are forked from a server with the needed imports.

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
        generator=torch.Generator(),  # otherwise it would draw a seed from the global generator
    )


def _as_it_is(result: Any) -> Any:
    return result


def _started(loader: DataLoader[Any]) -> Any:
    """Return a loader's iterator, with its processes running and blocking the signals that this process handles."""
    with _safe_imports():
        resource_tracker.ensure_running()  # if it started later, it would unblock the signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        try:
            return iter(loader)
        except (OSError, EOFError) as error:
            raise PactlError(f"no worker process starts: {error}", "try --num-workers 0", FAILED) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _safe_imports() -> Iterator[None]:
    """Keep Python processes that start in the context from importing the main module or the working directory's files.

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
    """End a worker when its parent process has ended in any way."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(0)

    Thread(target=follow, daemon=True).start()


def _next(results: Any) -> Any:
    try:
        return next(results)
    except (RuntimeError, EOFError, OSError) as error:  # the last two if it dies while it hands over a result
        reason = (str(error).strip().splitlines() or ["it has ended"])[-1]
        raise PactlError(
            f"a worker process failed: {reason}", "is there enough memory? Try fewer --num-workers", FAILED
        ) from error


def shared_tensor(*shape: int) -> torch.Tensor:
    """Return a tensor of bytes for a result; in a worker, in memory shared with the main process.

    Raises:
        PactlError: with exit code 1 if shared memory is exhausted.
    """
    tensor = torch.empty(shape, dtype=torch.uint8)
    if multiprocessing.parent_process() is not None:
        try:
            tensor.share_memory_()
        except RuntimeError as error:
            raise PactlError(f"no shared memory for images: {error}", "try --num-workers 0", FAILED) from error
    return tensor
