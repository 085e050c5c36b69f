"""Projectors that treat normalisation layers or the head differently from the other weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from pactl_cli.errors import PactlError
from pactl_cli.models.layers import Layout
from pactl_cli.subspace.dense import Dense, dense_bytes
from pactl_cli.subspace.kronecker import KroneckerProduct, kronecker_bytes
from pactl_cli.subspace.projectors import DirectSum, Embedding, Identity, Mean, Projector, too_large, with_memory_bytes


def _film_bytes(layout: Layout, dim: int) -> int:
    return dense_bytes(len(layout.normalisation) + len(layout.head), dim)


@with_memory_bytes(_film_bytes)
def film(layout: Layout, dim: int, seed: int, name: str) -> Projector:
    """Return a dense projector on normalisation layers and the head only."""
    places = np.sort(np.concatenate([layout.normalisation, layout.head]))
    if not len(places):
        raise PactlError(
            f"--intrinsic-mode {name.split('/')[1]} needs normalisation layers or a head, and the network has neither",
            "use --intrinsic-mode rdkronqr",
        )
    return Embedding(layout.size, places, Dense(len(places), dim, seed, name))


def _both_bytes(layout: Layout, dim: int) -> int:
    return kronecker_bytes(layout, dim) + _film_bytes(layout, dim)


def _film_and_kronecker(layout: Layout, dim: int, seed: int, name: str, *, orthogonal: bool) -> Projector:
    kronecker = KroneckerProduct(layout.size, dim, seed, f"{name}/kronecker", orthogonal=orthogonal)
    return Mean(kronecker, film(layout, dim, seed, f"{name}/film"))


filmrdkron = with_memory_bytes(_both_bytes)(partial(_film_and_kronecker, orthogonal=False))
filmrdkronqr = with_memory_bytes(_both_bytes)(partial(_film_and_kronecker, orthogonal=True))


@with_memory_bytes(kronecker_bytes)
def stfilmkronqr(layout: Layout, dim: int, seed: int, name: str) -> Projector:
    """Return a projector with one coordinate for each normalisation parameter, and a Kronecker product on the rest."""
    direct = len(layout.normalisation)
    if dim <= direct:
        raise PactlError(
            f"--intrinsic-dim {dim} is too small for --intrinsic-mode stfilmkronqr: "
            f"the network has {direct:,} normalisation parameters, each with a coordinate of its own",
            f"use more than {direct}",
        )
    if not direct:
        return KroneckerProduct(layout.size, dim, seed, name, orthogonal=True)
    others = np.delete(np.arange(layout.size), layout.normalisation)
    if dim - direct > len(others):
        raise too_large(dim, layout)
    kronecker = KroneckerProduct(len(others), dim - direct, seed, name, orthogonal=True)
    return DirectSum(
        Embedding(layout.size, layout.normalisation, Identity(direct)), Embedding(layout.size, others, kronecker)
    )


@with_memory_bytes(kronecker_bytes)
def head(layout: Layout, dim: int, seed: int, name: str) -> Projector:
    """Return a Kronecker product on the head alone or, if d is the number of its parameters, the identity on them."""
    size = len(layout.head)
    if dim > size:
        raise too_large(dim, replace(layout, size=size))
    inner = Identity(size) if dim == size else KroneckerProduct(size, dim, seed, name, orthogonal=True)
    return inner if size == layout.size else Embedding(layout.size, layout.head, inner)
