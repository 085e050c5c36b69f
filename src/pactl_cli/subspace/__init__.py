"""Projectors by name: the P in theta = theta0 + P w."""

from __future__ import annotations

from pactl_cli import catalogue
from pactl_cli.models.layers import Layout
from pactl_cli.subspace.projectors import Projector, Zero, too_large


def build_projector(name: str, layout: Layout, dim: int, seed: int) -> Projector:
    """Return P in R^(D x d), a projector of the catalogue, for a network of the given layout, with d = `dim`.

    Every projector draws from its own streams of random numbers; for d = 0 all are the same map.

    Raises:
        PactlError: if d > D, or if the projector does not exist for this size or needs too much memory.
    """
    if dim > layout.size:
        raise too_large(dim, layout)
    if not dim:
        return Zero(layout.size)
    projector: Projector = catalogue.PROJECTORS[name].maker()(layout, dim, seed, f"projector/{name}")
    return projector


def projector_bytes(name: str, layout: Layout, dim: int) -> int:
    """Return an estimate of the most memory of a projector, without building it; by default that of a matrix."""
    estimate = getattr(catalogue.PROJECTORS[name].maker(), "memory_bytes", None)
    return int(estimate(layout, dim)) if estimate else 8 * layout.size * dim
