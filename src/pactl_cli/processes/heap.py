"""How the C library treats memory that was freed."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _LARGEST_FROM_HEAP_BYTES = 2**31 - 1, 2**25


def keep_freed_memory() -> None:
    """Tells glibc to keep up to 2 GiB that was freed, instead of returning each activation to the system.

    A training step on a CPU allocates the same tensors again and again; pages that come back from the system are
    cleared first, which was a fifth of Layer13s's step where it was measured. See mallopt(3). With another C library
    nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP_BYTES)
