"""Timing by pairs: what is compared runs in turn, in one process, so that a machine's moods cancel."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles


@dataclass(frozen=True)
class Comparison:
    """Seconds of both, and the ratio of the first to the second: median and quartiles over pairs."""

    first_seconds: float
    second_seconds: float
    ratio: float
    low: float
    high: float

    def cells(self) -> tuple[str, ...]:
        """As columns of a table: milliseconds, milliseconds, ratio, quartiles."""
        return (
            f"{1e3 * self.first_seconds:.1f}",
            f"{1e3 * self.second_seconds:.1f}",
            f"{self.ratio:.2f}",
            f"{self.low:.2f} - {self.high:.2f}",
        )


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(first: Callable[[], object], second: Callable[[], object], *, pairs: int, warm_up: int = 1) -> Comparison:
    """Times two pieces of work against each other, in alternating order."""
    for _ in range(warm_up):
        first(), second()
    times: list[tuple[float, float]] = []
    for index in range(pairs):
        if index % 2:
            later = seconds(second)
            times.append((seconds(first), later))
        else:
            times.append((seconds(first), seconds(second)))
    ratios = [one / other for one, other in times]
    low, _, high = quantiles(ratios, n=4) if pairs > 1 else (ratios[0],) * 3
    return Comparison(median(t[0] for t in times), median(t[1] for t in times), median(ratios), low, high)


def peak_gib() -> float:
    """The most memory that this process has had: VmHWM on Linux, where ru_maxrss begins with that of the parent."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 2**20


def in_a_process(script: str, *arguments: object) -> dict[str, float]:
    """The numbers that a script prints as JSON, run in a new process, so that the peak of memory is its own."""
    command = [sys.executable, script, *map(str, arguments)]
    found: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def table(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Prints a Markdown table."""
    print(f"\n### {title}\n")
    for row in (header, tuple("-" * len(cell) for cell in header), *rows):
        print("| " + " | ".join(row) + " |", flush=True)
