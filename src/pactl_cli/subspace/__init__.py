"""theta = theta0 + P w: projectors by name."""

from __future__ import annotations

from pactl_cli import catalogue
from pactl_cli.models.layers import Layout
from pactl_cli.subspace.projectors import Nowhere, Projector, too_large


def build_projector(name: str, layout: Layout, dim: int, seed: int) -> Projector:
    """Return P in R^(D x d), a projector of the catalogue, for a network of the given layout, with d = `dim`.

    Every projector draws from streams of its own; d = 0 is the same map in all.

    Raises:
        PactlError: if d > D, or if the projector cannot hold, or cannot be, a map of this size.
    """
    if dim > layout.size:
        raise too_large(dim, layout)
    if not dim:
        return Nowhere(layout.size)
    projector: Projector = catalogue.PROJECTORS[name].maker()(layout, dim, seed, f"projector/{name}")
    return projector


def projector_bytes(name: str, layout: Layout, dim: int) -> int:
    """Return about the most that a projector takes, without building it; of one that does not say it, as a matrix."""
    estimate = getattr(catalogue.PROJECTORS[name].maker(), "memory_bytes", None)
    return int(estimate(layout, dim)) if estimate else 8 * layout.size * dim
