"""The partition of the training examples into the prior's, calibration's, and S, the bound's sample."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pactl_cli import randomness
from pactl_cli.certificate.format import DEFAULT_SEED, most_calibration
from pactl_cli.data.files.arrays import ArrayHeader, read_array
from pactl_cli.errors import PactlError

Indices = NDArray[np.int64]
Identities = NDArray[np.uint64]

_NONE: Indices = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Partition:
    """Disjoint parts of the training set, each as indices in order.

    Attributes:
        prior: examples that the prior is trained on.
        calibration: examples taken out of S for batch statistics.
        bound: S.
        excluded: examples left out of S because the source of the weights was trained on them.
        copies: examples left out of S because they are copies of an example of the prior or of calibration.
        repeated: examples left out of S because they are copies of another example there, if such are dropped.
    """

    prior: Indices
    calibration: Indices
    bound: Indices
    excluded: Indices
    copies: Indices = field(default_factory=_NONE.copy)
    repeated: Indices = field(default_factory=_NONE.copy)

    def with_calibration(self, count: int, seed: int) -> Partition:
        """Return the partition with calibration examples taken out of S.

        Raises:
            PactlError: if they are more than a tenth of S.
        """
        drawn = draw_calibration(self.bound, count, seed)
        return replace(self, calibration=self.bound[drawn], bound=np.delete(self.bound, drawn))

    def without_seen(self, seen: NDArray[np.bool_]) -> Partition:
        """Return the partition without the examples in S that the source of the weights was trained on.

        Args:
            seen: whether the source was trained on it, for each example of S.

        Raises:
            PactlError: if S would be empty.
        """
        if seen.all():
            raise PactlError(
                f"the source was trained on all {len(seen):,} examples: there is none left to count",
                "name another --dataset, or a --train-subset that the source has not seen",
            )
        return replace(self, bound=self.bound[~seen], excluded=self.bound[seen])

    def without_copies(self, identities: Identities) -> Partition:
        """Return the partition without the examples in S that are copies of one of the prior or of calibration.

        Args:
            identities: a number for each training example, equal for copies.

        Raises:
            PactlError: if S would be empty.
        """
        seen = identities[np.concatenate([self.prior, self.calibration])]
        is_copy = np.isin(identities[self.bound], seen)
        if len(self.bound) and is_copy.all():
            raise PactlError(
                f"all {len(self.bound):,} examples to count are copies of those of the prior or of calibration",
                "use examples that differ",
            )
        return replace(self, bound=self.bound[~is_copy], copies=np.concatenate([self.copies, self.bound[is_copy]]))

    def without_repetitions(self, identities: Identities) -> Partition:
        """Return the partition with only the first, in S's order, of examples that are copies of each other."""
        first = first_of_each(identities[self.bound])
        return replace(self, bound=self.bound[first], repeated=self.bound[~first])

    def repetitions(self, identities: Identities) -> int:
        """Return the number of examples of S that are copies of an earlier one there."""
        return int((~first_of_each(identities[self.bound])).sum())

    def division_sha256(self) -> str:
        """Return a fingerprint of the division into S together with calibration and copies, and the other parts.

        It does not depend on the seed in a message, which decides on calibration and therefore on copies.
        """
        own = np.concatenate([self.calibration, self.bound, self.copies])
        parts = [np.sort(part).astype("<i8").tobytes() for part in (self.prior, self.excluded, self.repeated, own)]
        return sha256(b"".join(sha256(part).digest() for part in parts)).hexdigest()

    def whole(self) -> Indices:
        """Return the indices of all parts, ascending."""
        return np.sort(np.concatenate(list(self.arrays().values())))

    def arrays(self) -> dict[str, Indices]:
        """Return the parts by name."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    def sha256(self) -> str:
        """Return a fingerprint of all parts."""
        parts = (f"{k}{len(v)}".encode() + v.astype("<i8").tobytes() for k, v in self.arrays().items())
        return sha256(b"".join(parts)).hexdigest()

    def is_trivial(self, examples: int) -> bool:
        """Return whether S is the whole training set in its own order."""
        return np.array_equal(self.bound, np.arange(examples))


def require_same_indices(own: dict[str, Indices], recorded: dict[str, Indices], path: Path) -> None:
    """Raise PactlError unless the arrays recorded in a file are the run's own."""
    if recorded.keys() != own.keys() or not all(np.array_equal(own[name], recorded[name]) for name in own):
        raise PactlError(f"{path} does not hold the indices that the run's settings give")


def first_of_each(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return for each value whether it is its first occurrence, shape (n,).

    >>> first_of_each(np.array([3, 1, 3, 3])).tolist()
    [True, True, False, False]
    """
    first = np.zeros(len(values), dtype=bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def permuted_indices(examples: int, seed: int = DEFAULT_SEED) -> Indices:
    """Return the permutation of 0 .. examples - 1 that a seed gives, the same on every machine."""
    return randomness.permutation(seed, "permute", examples)


def load_indices(path: Path, examples: int) -> Indices:
    """Read a permutation from an `.npy` file of integers. An array of another length is not loaded.

    Raises:
        PactlError: if the file is unreadable or not a permutation of 0 .. examples - 1.
    """
    hint = "write one with numpy.save: every index of the training set once"

    def accept(header: ArrayHeader) -> None:
        if len(header.shape) != 1 or header.dtype.kind not in "iu":
            raise PactlError(f"{path} is not a one-dimensional array of integers")
        if header.shape[0] != examples:
            raise PactlError(f"{path} has {header.shape[0]:,} indices, the training set {examples:,}")

    try:
        indices = read_array(path, accept)
    except PactlError as error:
        raise type(error)(f"--indices-path {error.message}", hint) from error
    require_permutation(indices, examples, f"--indices-path {path}", hint)
    return indices.astype(np.int64)


def require_permutation(indices: NDArray[Any], examples: int, where: str, hint: str = "") -> None:
    """Raise PactlError, naming the file `where`, unless every index of 0 .. examples - 1 is there once."""
    if not np.array_equal(np.sort(indices), np.arange(examples)):
        raise PactlError(f"{where} does not have every index of 0 .. {examples - 1} exactly once", hint)


def partition(order: Indices | None, examples: int, *, share: float, has_prior: bool = False) -> Partition:
    """Return the partition of a run, without calibration.

    A positive share is the first `share` of the order, rounded; a negative one is all but the first `-share`. Without a
    prior, S is the share. With one, the share is the prior's, and S is the rest.

    Args:
        order: a permutation; None for the data set's own order (all of it) or the default permutation (a share of it).
        examples: the number of training examples.
        share: in [-1, 1], not 0.
        has_prior: whether a prior is trained on the share.

    Raises:
        PactlError: if S or the prior's part would be empty.
    """
    if order is None:
        order = np.arange(examples) if share == 1 and not has_prior else permuted_indices(examples)
    cut = round(abs(share) * examples)
    chosen, rest = (order[:cut], order[cut:]) if share > 0 else (order[cut:], order[:cut])
    prior, sample = (chosen, rest) if has_prior else (_NONE, chosen)
    if not len(chosen) or not len(sample):
        left = "for the prior" if not len(chosen) else "to count"
        raise PactlError(
            f"--train-subset {share:g} of {examples:,} examples leaves none {left}", "choose another share"
        )
    return Partition(prior, _NONE, sample, _NONE)


def draw_calibration(pool: Indices, count: int, seed: int, *, of_prior: bool = False) -> Indices:
    """Draw calibration examples from a pool by the seed's own stream, and return their places in it.

    Args:
        of_prior: whether the pool is the prior's, whose examples no bound counts.

    Raises:
        PactlError: if they are more than a tenth of S, or more than the prior's examples.
    """
    if count > (most := most_calibration(len(pool), of_prior=of_prior)):
        share = "" if of_prior else "a tenth of "
        raise PactlError(
            f"--calibration-examples {count} is more than {share}the {len(pool):,} examples they are drawn from",
            f"at most {most}",
        )
    return randomness.permutation(seed, "calibration", len(pool))[:count]
