"""How exactly a machine multiplies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch


def _places_in(backend: Any, *operations: str) -> tuple[Any, ...]:
    """Return where a backend has the precision of some operations."""
    return tuple(getattr(backend, operation) for operation in operations)


_ON_A_GPU: tuple[Any, ...] = (torch.backends.cuda.matmul, *_places_in(torch.backends.cudnn, "conv", "rnn"))
_ON_A_PROCESSOR: tuple[Any, ...] = _places_in(torch.backends.mkldnn, "matmul", "conv", "rnn")
"""Where products of single-precision numbers may be made less exact: with TF32, or, on a processor, with bfloat16."""
_EXACT, _TF32 = "ieee", "tf32"

_lock = Lock()
_wanted: list[bool] = []
_before: dict[Any, str] = {}


@contextmanager
def tf32(allowed: bool | None) -> Iterator[None]:
    """For the time of some work, TF32 is allowed, or no short cut is, whatever is allowed elsewhere; None: as it is.

    The flags are of the whole process: where the work of several threads overlaps, that which allows none has its way.
    """
    if allowed is None:
        yield
        return
    with _lock:
        if not _wanted:
            _before.update((place, place.fp32_precision) for place in _ON_A_GPU + _ON_A_PROCESSOR)
        _wanted.append(allowed)
        _set_flags()
    try:
        yield
    finally:
        with _lock:
            _wanted.remove(allowed)
            _set_flags()


def _set_flags() -> None:
    """Set the flags as all works together want them; as they were, if none is left."""
    for place, before in _before.items():
        wanted = before
        if not all(_wanted):
            wanted = _EXACT
        elif _wanted and place in _ON_A_GPU:
            wanted = _TF32
        if place.fp32_precision != wanted:
            place.fp32_precision = wanted


@contextmanager
def full_precision() -> Iterator[None]:
    """Single precision without short cuts, and without a caller's autocast, for the time of a count."""
    with tf32(False), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield
