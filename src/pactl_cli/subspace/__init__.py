"""theta = theta0 + P w: projectors by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pactl_cli.errors import PactlError
from pactl_cli.subspace.kronecker import KroneckerProduct
from pactl_cli.subspace.projectors import Dense, Projector

_MODES: dict[str, Callable[[int, int, int], Projector]] = {
    "rdkronqr": partial(KroneckerProduct, orthogonal=True),
    "dense": Dense,
}


def build_projector(mode: str, parameters: int, dim: int, seed: int) -> Projector:
    """P in R^(D x d) of a mode of the catalogue, with D = `parameters` and d = `dim`.

    Raises:
        PactlError: if d > D, or if the mode cannot hold a map of this size.
    """
    if dim > parameters:
        raise PactlError(
            f"--intrinsic-dim {dim} is larger than the network, which has {parameters:,} parameters",
            "choose a smaller dimension",
        )
    return _MODES[mode](parameters, dim, seed)
