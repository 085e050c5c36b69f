"""Everything that docs/performance.md tells, in one run: medians of pairs, as tables in Markdown.

OMP_NUM_THREADS=1 taskset -c 0 python tests/benchmarks --data-dir DATA --cpu-time
python tests/benchmarks --quick # that it works, in seconds
"""

from __future__ import annotations

import argparse
import time

import coding
import epoch
import scale
import steps
from pairs import Terms

PARTS = {
    "steps": steps.main,
    "projection": scale.against_copies,
    "large": scale.large,
    "coding": coding.main,
}


def main() -> None:
    """Measures all parts, or those that are named."""
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}, epoch (default: all)", metavar="PART")
    parser.add_argument("--data-dir", help="where MNIST lies, for the epoch")
    parser.add_argument("--cpu-time", action="store_true", help="the processor's clock, where others work as well")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: see that it works")
    given = parser.parse_args()
    terms = Terms(quick=given.quick, clock=time.process_time if given.cpu_time else time.perf_counter)
    for name in given.parts or [*PARTS, "epoch"]:
        if name != "epoch":
            PARTS[name](terms)
        elif given.quick or given.data_dir:
            epoch.main(epoch.DRAWN if given.quick else given.data_dir, terms)


if __name__ == "__main__":
    main()
