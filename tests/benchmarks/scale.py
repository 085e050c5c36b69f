"""Large projectors: seconds to construct and to apply, and peak memory, each size in a process of its own.

python tests/benchmarks/scale.py          # the table, and docs/projectors.svg
python tests/benchmarks/scale.py MODE D d # one line of it, as JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from pairs import in_a_process, peak_gib, seconds, table

from pactl_cli.models.layers import Layout
from pactl_cli.processes.heap import keep_freed_memory
from pactl_cli.subspace import build_projector

SIZES = [(11_173_962, 250_000), (4_000_000, 500_000), (100_000_000, 1_000)]
SERIES = [(10**power, 1_000) for power in (4, 5, 6, 7, 8)]
"""The last size is one of SIZES as well, and measured once."""
KRONECKER = ("rkron", "rdkron", "rdkronqr", "stfilmkronqr")


def measure(mode: str, parameters: int, dim: int) -> dict[str, float]:
    """One projector of a network whose normalisation and head are a thousandth of it each."""
    keep_freed_memory()
    places = np.arange(parameters)
    few = min(parameters // 1000, dim // 2)
    layout = Layout(parameters, places[:few], places[-few:])
    found: dict[str, float] = {"construct": 0.0}
    projectors = []
    found["construct"] = seconds(lambda: projectors.append(build_projector(mode, layout, dim, 137)))
    w, g = torch.randn(dim), torch.randn(parameters)
    found["matvec"] = min(seconds(lambda: projectors[0].matvec(w)) for _ in range(3))
    found["adjoint"] = min(seconds(lambda: projectors[0].adjoint(g)) for _ in range(3))
    found["peak_gib"] = peak_gib()
    found["copy"] = min(seconds(g.clone) for _ in range(3))
    return found


def plot(series: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Seconds of a matvec and an adjoint together against D, beside a copy and a line linear in D + sqrt(D) d."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    sizes = np.array([parameters for parameters, _ in SERIES], dtype=float)
    for mode, results in series.items():
        axes.loglog(sizes, [found["matvec"] + found["adjoint"] for found in results], marker="o", label=mode)
    copies = np.median([[found["copy"] for found in results] for results in series.values()], axis=0)
    axes.loglog(sizes, copies, color="black", marker=".", label="copying D numbers")
    work = sizes + np.sqrt(sizes) * SERIES[0][1]
    anchor = max(results[-1]["matvec"] + results[-1]["adjoint"] for results in series.values())
    axes.loglog(sizes, anchor * work / work[-1], color="grey", linestyle="--", label="linear in D + sqrt(D) d")
    axes.set(xlabel="D", ylabel="seconds: matvec and adjoint", title=f"d = {SERIES[0][1]:,}")
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    rows = []
    series: dict[str, list[dict[str, float]]] = {mode: [] for mode in KRONECKER}
    for parameters, dim in [*SIZES, *SERIES[:-1]]:
        for mode in KRONECKER:
            found = in_a_process(__file__, mode, parameters, dim)
            rows.append((mode, f"{parameters:,}", f"{dim:,}", *(f"{value:.3g}" for value in found.values())))
            print(*rows[-1], file=sys.stderr)
            if (parameters, dim) in SERIES:
                series[mode].append(found)
    header = ("mode", "D", "d", "construct s", "matvec s", "adjoint s", "peak GiB", "copy s")
    table("Large projectors", header, rows)
    for results in series.values():
        results.append(results.pop(0))  # the largest came first
    plot(series, Path(__file__).parents[2] / "docs" / "projectors.svg")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
    else:
        main()
