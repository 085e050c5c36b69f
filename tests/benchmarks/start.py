"""README's first command, from start to certificate, and single commands, against another version of the program.

taskset -c 0 python tests/benchmarks/start.py OTHER_CHECKOUT/src [PAIRS]
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from pairs import seconds, table

OURS = str(Path(__file__).resolve().parents[2] / "src")
PROGRAM = f"{sys.executable} -m pactl_cli"
FIRST = f"{PROGRAM} train | {PROGRAM} bound - --json"
PREPARED = f"{PROGRAM} train --epochs 1 --out run && {PROGRAM} bound run --quant-epochs 1"
COMMANDS = {
    "train \\| bound -": FIRST,
    "train --epochs 1": f"{PROGRAM} train --epochs 1",
    "bound --quant-epochs 1": f"{PROGRAM} bound run --quant-epochs 1 --force",
    "verify": f"{PROGRAM} verify run",
    "--help": f"{PROGRAM} --help",
}


def timed(command: str, source: str) -> tuple[float, float]:
    """Seconds until a command has ended, and of the processor, in a directory with a certified run."""
    with TemporaryDirectory() as place:

        def call(words: str) -> None:
            environment = os.environ | {"PYTHONPATH": source}
            subprocess.run(words, shell=True, check=True, cwd=place, env=environment, capture_output=True)

        if " run" in command:
            call(PREPARED)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        waited = seconds(lambda: call(command))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return waited, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(other: str, pairs: str = "5", *names: str) -> None:
    """One row a command: medians of both, and the ratios of ours to the other."""
    rows = []
    for name in names or COMMANDS:
        found = [[timed(COMMANDS[name], source) for source in (OURS, other)] for _ in range(int(pairs))]
        cells = []
        for kind in range(2):
            ours, theirs = ([pair[place][kind] for pair in found] for place in range(2))
            ratio = median(one / two for one, two in zip(ours, theirs, strict=True))
            cells += [f"{median(ours):.1f}", f"{median(theirs):.1f}", f"{ratio:.2f}"]
        rows.append((name, *cells))
    header = ("command", "ours s", "other s", "ratio", "ours CPU s", "other CPU s", "ratio")
    table(f"medians of {pairs} pairs", header, rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
