"""The precision of products of single-precision numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch

_cudnn: Any = torch.backends.cudnn
_mkldnn: Any = torch.backends.mkldnn
_ON_A_GPU: tuple[Any, ...] = (torch.backends.cuda.matmul, _cudnn.conv, _cudnn.rnn)
_ON_A_PROCESSOR: tuple[Any, ...] = (_mkldnn.matmul, _mkldnn.conv, _mkldnn.rnn)
"""The settings that can make products less exact: with TF32 on a GPU, with bfloat16 on a CPU."""
_EXACT, _TF32 = "ieee", "tf32"

_lock = Lock()
_wanted: list[bool] = []
_before: dict[Any, str] = {}


@contextmanager
def tf32(allowed: bool | None) -> Iterator[None]:
    """Allow TF32, or only exact products, until the context ends; None changes nothing.

    The flags belong to the whole process: where threads overlap, products are exact if one of them asks for it.
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
    """Set the flags as the open contexts together need them, or to their old values if none is open."""
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
    """Compute in exact single precision, without a caller's autocast, until the context ends."""
    with tf32(False), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield
