"""Which runs may be compared by their certificates."""

from __future__ import annotations

from pathlib import Path

from pactl_cli.errors import PactlError
from pactl_cli.problem.problem import Problem


def require_comparable(paths: list[Path], problems: list[Problem]) -> None:
    """Raises PactlError if there is no message for a run, or if runs differ in something that no message can tell."""
    for path, problem in zip(paths, problems, strict=True):
        if not (problem.configuration.intrinsic_dim or problem.kind.certifies_theta0):
            raise PactlError(
                f"{path} has trained all its weights (d = 0), for which there is no message",
                f"use it as a source: pactl transfer {path}",
            )
    populations = [problem.population() for problem in problems] if len(problems) > 1 else []
    brought = sorted({problem.task.brought.name for problem in problems if problem.task.brought})
    differs = f"have different networks of your own, {' and '.join(brought)}" if len(brought) > 1 else ""
    for path, population in zip(paths, populations, strict=False):
        if population != populations[0]:
            differs = f"were trained on different examples or from different weights ({path} and {paths[0]})"
    if len({pool for problem in problems if (pool := problem.calibration_pool_sha256)}) > 1:
        differs = "draw their calibration examples from permutations of their own"
    if differs:
        raise PactlError(
            f"the runs {differs}, which no message can tell",
            "choosing between them by their certificates would be cheating: certify one of them",
        )
