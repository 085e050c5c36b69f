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

import torch

Clock = Callable[[], float]


@dataclass(frozen=True)
class Terms:
    """On what is measured, by which clock, and whether only that it works: sizes are tiny then.

    The processor's time (`time.process_time`) is fairer where others work on the machine, of one thread on a CPU.
    """

    device: str = "cpu"
    quick: bool = False
    clock: Clock = time.perf_counter

    def finished(self, work: Callable[[], object]) -> Callable[[], None]:
        """Return the same work, and waiting for an accelerator to end it."""

        def call() -> None:
            work()
            if self.device.startswith("cuda"):
                torch.cuda.synchronize()

        return call

    def compare(self, first: Callable[[], object], second: Callable[[], object], pairs: int) -> Comparison:
        """Times two pieces of work as `compare` does, in two pairs if all is quick."""
        work = self.finished(first), self.finished(second)
        return compare(*work, pairs=2 if self.quick else pairs, warm_up=1 if self.quick else 3, clock=self.clock)

    def __str__(self) -> str:
        return f"{self.device}, {torch.get_num_threads()} threads, {getattr(self.clock, '__name__', 'a clock')}"


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
            f"{1e3 * self.first_seconds:.3g}",
            f"{1e3 * self.second_seconds:.3g}",
            f"{self.ratio:.2f}",
            f"{self.low:.2f} - {self.high:.2f}",
        )


def seconds(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """How long one call takes."""
    start = clock()
    work()
    return clock() - start


def compare(
    first: Callable[[], object],
    second: Callable[[], object],
    *,
    pairs: int,
    warm_up: int = 1,
    clock: Clock = time.perf_counter,
) -> Comparison:
    """Times two pieces of work against each other, in alternating order."""
    for _ in range(warm_up):
        first(), second()
    times: list[tuple[float, float]] = []
    for index in range(pairs):
        if index % 2:
            later = seconds(second, clock)
            times.append((seconds(first, clock), later))
        else:
            times.append((seconds(first, clock), seconds(second, clock)))
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
