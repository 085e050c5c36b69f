"""Projectors of many sizes: against a copy of D numbers, and large ones: seconds to construct and to apply, and memory.

python tests/benchmarks/scale.py MODE D d # a large one, in a process of its own, as JSON

The tables are two of those of `python tests/benchmarks`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from pairs import Comparison, Terms, in_a_process, peak_gib, seconds, table

from pactl_cli.models.layers import Layout
from pactl_cli.processes.heap import keep_freed_memory
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.kronecker import KroneckerProduct
from pactl_cli.subspace.projectors import Projector, RunShuffle

SIZES = [(11_173_962, 250_000), (4_000_000, 500_000), (100_000_000, 1_000)]
SERIES, DIM, PAIRS = [10**power for power in (4, 5, 6, 7, 8)], 1_000, 9
KRONECKER = ("rkron", "rdkron", "rdkronqr", "stfilmkronqr")


def projector(mode: str, parameters: int, dim: int) -> Projector:
    """Of a network whose normalisation and head are a thousandth of it each."""
    places = np.arange(parameters)
    few = min(parameters // 1000, dim // 2)
    return build_projector(mode, Layout(parameters, places[:few], places[-few:]), dim, 137)


def measure(mode: str, parameters: int, dim: int) -> dict[str, float]:
    """One large projector."""
    keep_freed_memory()
    built: list[Projector] = []
    found = {"construct": seconds(lambda: built.append(projector(mode, parameters, dim)))}
    w, g = torch.randn(dim), torch.randn(parameters)
    found["matvec"] = min(seconds(lambda: built[0].matvec(w)) for _ in range(3))
    found["adjoint"] = min(seconds(lambda: built[0].adjoint(g)) for _ in range(3))
    return found | {"peak_gib": peak_gib()}


def large(terms: Terms) -> None:
    """Prints the table of large projectors, on the CPU."""
    rows = []
    for parameters, dim in [(10_000, 100)] if terms.quick else SIZES:
        for mode in KRONECKER[2:3] if terms.quick else KRONECKER:
            found = in_a_process(__file__, mode, parameters, dim)
            rows.append((mode, f"{parameters:,}", f"{dim:,}", *(f"{value:.3g}" for value in found.values())))
    table("Large projectors", ("mode", "D", "d", "construct s", "matvec s", "adjoint s", "peak GiB"), rows)


def against_copies(terms: Terms) -> dict[str, list[tuple[Comparison, ...]]]:
    """Prints matvec, adjoint and the shuffle alone over a copy of D numbers: medians of pairs of a few repetitions."""
    keep_freed_memory()
    series: dict[str, list[tuple[Comparison, ...]]] = {mode: [] for mode in KRONECKER}
    rows = []
    for parameters in SERIES[:2] if terms.quick else SERIES:
        w, g = (torch.randn(size, device=terms.device) for size in (DIM, parameters))
        shuffle = RunShuffle(parameters, parameters, KroneckerProduct.RUN, 137, "any").to(terms.device)
        for mode, found in series.items():
            p = projector(mode, parameters, DIM).to(terms.device)
            works = (partial(p.matvec, w), partial(p.adjoint, g), partial(shuffle, g))
            calls = max(1, 2 * 10**6 // parameters)
            found.append(tuple(terms.compare(repeated(work, calls), repeated(g.clone, calls), PAIRS) for work in works))
            copy = f"{1e9 * found[-1][0].second_seconds / calls / parameters:.3g}"
            rows.append((mode, f"{parameters:,}", *(f"{one.ratio:.2f}" for one in found[-1]), copy))
    title = f"Over a copy of D numbers, d = {DIM:,}; {terms}"
    table(title, ("mode", "D", "matvec", "adjoint", "shuffle", "copying a number, ns"), rows)
    return series


def repeated(work: Callable[[], object], calls: int) -> Callable[[], None]:
    """Return as many calls of the work, for what is shorter than the clock can tell."""

    def call() -> None:
        for _ in range(calls):
            work()

    return call


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
