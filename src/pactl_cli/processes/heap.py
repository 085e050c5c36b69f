"""A setting of the C library: how much freed memory it keeps."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _LARGEST_FROM_HEAP_BYTES = 2**31 - 1, 2**25


def keep_freed_memory() -> None:
    """Tell glibc to keep up to 2 GiB of freed memory instead of returning it to the system; do nothing elsewhere.

    A training step on a CPU allocates the same tensors again and again. Pages that come back from the system are
    cleared first, which took a fifth of a step of Layer13s. See mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP_BYTES)
