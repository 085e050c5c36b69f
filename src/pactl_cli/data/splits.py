"""Which training examples are which: prior, calibration, and S, the bound's sample."""

from __future__ import annotations

from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pactl_cli import catalogue
from pactl_cli.certificate import streams
from pactl_cli.data.arrays import read_arrays
from pactl_cli.errors import PactlError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Partition:
    """Disjoint parts of the training set, by index. Order matters for calibration and for the fingerprint of S."""

    prior: Indices
    calibration: Indices
    bound: Indices

    def arrays(self) -> dict[str, Indices]:
        """The parts by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def check(self, recorded: dict[str, Indices], path: Path) -> None:
        """Raises PactlError unless the arrays recorded in a file are these parts."""
        if recorded.keys() != self.arrays().keys() or not all(
            np.array_equal(mine, recorded[name]) for name, mine in self.arrays().items()
        ):
            raise PactlError(f"{path} does not hold the indices that the run's settings give")

    def sha256(self) -> str:
        """A fingerprint of all parts."""
        return sha256(
            b"".join(f"{k}{len(v)}".encode() + v.astype("<i8").tobytes() for k, v in self.arrays().items())
        ).hexdigest()

    def is_trivial(self, examples: int) -> bool:
        """Whether S is simply the whole training set in its own order."""
        return np.array_equal(self.bound, np.arange(examples))


def permuted_indices(examples: int, seed: int = catalogue.DEFAULT_SEED) -> Indices:
    """The permutation of 0 .. examples - 1 that a seed stands for, the same everywhere."""
    return streams.permutation(seed, "permute", examples)


def load_indices(path: Path, examples: int) -> Indices:
    """A permutation from an `.npy` file of integers.

    Raises:
        PactlError: if the file is unreadable or not a permutation of 0 .. examples - 1.
    """
    hint = "write one with numpy.save: every index of the training set once"
    try:
        arrays = read_arrays(path)
    except PactlError as error:
        raise type(error)(f"--indices-path {error.message}", hint) from error
    indices = arrays.get("")
    if indices is None or indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise PactlError(f"--indices-path {path} is not a one-dimensional array of integers", hint)
    if len(indices) != examples:
        raise PactlError(f"--indices-path {path} has {len(indices):,} indices, the training set {examples:,}", hint)
    if not np.array_equal(np.sort(indices), np.arange(examples)):
        raise PactlError(f"--indices-path {path} has duplicates or indices outside 0 .. {examples - 1}", hint)
    return indices.astype(np.int64)


def share_size(examples: int, share: float) -> int:
    """How many of `examples` a share takes, rounded; a negative share takes what the positive one leaves."""
    cut = round(abs(share) * examples)
    return cut if share > 0 else examples - cut


def partition(order: Indices | None, examples: int, *, share: float, calibration: int, seed: int) -> Partition:
    """S and the calibration examples of a run without a prior.

    S is the first `share` of the order, rounded (a negative share: all but the first -share),
    and calibration examples are drawn from it by the seed's own stream and taken out.

    Args:
        order: a permutation; None for the data set's own order (all of it) or the default permutation (a share of it).
        examples: in the training set.
        share: in [-1, 1], not 0.
        calibration: how many.
        seed: of the run.

    Raises:
        PactlError: if that leaves no example, or takes more than a tenth for calibration.
    """
    if order is None:
        order = np.arange(examples) if share == 1 else permuted_indices(examples)
    size = share_size(examples, share)
    chosen = order[:size] if share > 0 else order[examples - size :]
    if not len(chosen):
        raise PactlError(f"--train-subset {share} of {examples:,} examples leaves none", "choose a larger share")
    most = len(chosen) // catalogue.MAX_CALIBRATION_SHARE
    if calibration > most:
        raise PactlError(
            f"--calibration-examples {calibration} is more than a tenth of the {len(chosen):,} training examples",
            f"at most {most}",
        )
    drawn = streams.permutation(seed, "calibration", len(chosen))[:calibration]
    rest = np.delete(chosen, drawn)
    return Partition(np.zeros(0, dtype=np.int64), chosen[drawn], rest)
