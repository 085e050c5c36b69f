"""A setting of OpenMP: how long the threads of an operation wait for one another before they sleep."""

from __future__ import annotations

import os

_SPINS = "2000"


def sleep_soon() -> None:
    """Tell GNU's OpenMP, before PyTorch loads it, to let a waiting thread sleep after microseconds, not milliseconds.

    Where another session uses the cores, a thread that spins takes the time of the thread that it waits for: training
    on digits took twenty times as long. `GOMP_SPINCOUNT` and `OMP_WAIT_POLICY` of the user are kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
