"""theta = theta0 + P w: projectors by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isqrt

import numpy as np

from pactl_cli.errors import PactlError
from pactl_cli.models.layers import Layout
from pactl_cli.subspace.fastfood import Fastfood
from pactl_cli.subspace.kronecker import KroneckerProduct, KroneckerSum
from pactl_cli.subspace.projectors import Dense, DirectSum, Embedding, Identity, Mean, Nowhere, Projector
from pactl_cli.subspace.sparse import Sparse


def _rdkron(layout: Layout, dim: int, seed: int, name: str, *, orthogonal: bool) -> Projector:
    return KroneckerProduct(layout.size, dim, seed, name, orthogonal=orthogonal)


def _film(layout: Layout, dim: int, seed: int, name: str) -> Projector:
    """Dense, on normalisation layers and the head only."""
    places = np.sort(np.concatenate([layout.normalisation, layout.head]))
    if not len(places):
        raise PactlError(
            f"--intrinsic-mode {name.split('/')[1]} needs normalisation layers or a head, and the network has neither",
            "use --intrinsic-mode rdkronqr",
        )
    return Embedding(layout.size, places, Dense(len(places), dim, seed, name))


def _film_and_kronecker(layout: Layout, dim: int, seed: int, name: str, *, orthogonal: bool) -> Projector:
    kronecker = _rdkron(layout, dim, seed, f"{name}/kronecker", orthogonal=orthogonal)
    return Mean(kronecker, _film(layout, dim, seed, f"{name}/film"))


def _straight_film_and_kronecker(layout: Layout, dim: int, seed: int, name: str) -> Projector:
    """Normalisation parameters by coordinates of their own, the others by a Kronecker product on the rest."""
    direct = len(layout.normalisation)
    if dim <= direct:
        raise PactlError(
            f"--intrinsic-dim {dim} is too small for --intrinsic-mode stfilmkronqr: "
            f"the network has {direct:,} normalisation parameters, each with a coordinate of its own",
            f"use more than {direct}",
        )
    if not direct:
        return _rdkron(layout, dim, seed, name, orthogonal=True)
    others = np.delete(np.arange(layout.size), layout.normalisation)
    if dim - direct > len(others):
        raise _too_large(dim, layout)
    kronecker = KroneckerProduct(len(others), dim - direct, seed, name, orthogonal=True)
    return DirectSum(
        Embedding(layout.size, layout.normalisation, Identity(direct)), Embedding(layout.size, others, kronecker)
    )


_MODES: dict[str, Callable[[Layout, int, int, str], Projector]] = {
    "rdkronqr": partial(_rdkron, orthogonal=True),
    "dense": lambda layout, dim, seed, name: Dense(layout.size, dim, seed, name),
    "sparse": lambda layout, dim, seed, name: Sparse(layout.size, dim, seed, name),
    "fastfood": lambda layout, dim, seed, name: Fastfood(layout.size, dim, seed, name),
    "rkron": lambda layout, dim, seed, name: KroneckerSum(layout.size, dim, seed, name),
    "rdkron": partial(_rdkron, orthogonal=False),
    "film": _film,
    "filmrdkron": partial(_film_and_kronecker, orthogonal=False),
    "filmrdkronqr": partial(_film_and_kronecker, orthogonal=True),
    "stfilmkronqr": _straight_film_and_kronecker,
}


def build_projector(mode: str, layout: Layout, dim: int, seed: int) -> Projector:
    """P in R^(D x d) of a mode of the catalogue, for a network of the given layout, with d = `dim`.

    Every mode draws from streams of its own; d = 0 is the same map in all.

    Raises:
        PactlError: if d > D, or if the mode cannot hold, or cannot be, a map of this size.
    """
    if dim > layout.size:
        raise _too_large(dim, layout)
    if not dim:
        return Nowhere(layout.size)
    return _MODES[mode](layout, dim, seed, f"projector/{mode}")


def projector_bytes(mode: str, layout: Layout, dim: int) -> int:
    """About the most that a projector takes while it is built and used, without building it; measured, not derived."""

    def dense(rows: int) -> int:
        is_expanded = 4 * rows * dim <= Dense.MAX_EXPANDED_BYTES
        return rows * dim // 2 + 24 * Dense.BLOCK_ENTRIES + (4 * rows * dim if is_expanded else 0)

    parameters, root = layout.size, isqrt(layout.size) + 1
    kronecker = 96 * root * (isqrt(dim) + 1)
    special: dict[str, int] = {
        "dense": dense(parameters),
        "sparse": 80 * root * dim,
        "fastfood": 60 * (parameters + 2 * dim),
        "rkron": 8 * root * dim + 24 * min(2 * root * dim, KroneckerSum.BLOCK_ENTRIES),
    }
    film = dense(len(layout.normalisation) + len(layout.head)) if mode.startswith("film") else 0
    return special.get(mode, kronecker + film)


def _too_large(dim: int, layout: Layout) -> PactlError:
    return PactlError(
        f"--intrinsic-dim {dim} is larger than the network, which has {layout.size:,} parameters",
        "choose a smaller dimension",
    )
