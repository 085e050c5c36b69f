"""The parts of a training set are disjoint and complete."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pactl_cli.data.splits import load_indices, partition, permuted_indices, require_same_indices
from pactl_cli.errors import PactlError


@given(
    examples=st.integers(1, 400),
    share=st.floats(0.01, 1),
    negative=st.booleans(),
    permuted=st.booleans(),
    calibrate=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
)
def test_a_share_and_its_complement_are_everything(
    examples: int, share: float, negative: bool, permuted: bool, calibrate: bool, seed: int
) -> None:
    order = permuted_indices(examples, seed) if permuted else None
    cut = round(share * examples)
    chosen = examples - cut if negative else cut
    assume(chosen and (order is not None or share != 1))
    calibration = chosen // 10 if calibrate else 0
    signed = -share if negative else share
    parts = partition(order, examples, share=signed).with_calibration(calibration, seed)
    assert len(parts.calibration) == calibration
    assert len(parts.bound) == chosen - calibration
    mine = np.concatenate([parts.calibration, parts.bound])
    assert len(np.unique(mine)) == chosen
    if cut and cut < examples:
        other = partition(order, examples, share=-signed).bound
        assert sorted([*mine, *other]) == list(range(examples))


@given(
    examples=st.integers(2, 400),
    share=st.floats(0.01, 0.99),
    negative=st.booleans(),
    permuted=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
    excluded=st.sets(st.integers(0, 399)),
)
def test_a_prior_and_what_is_counted_are_everything(
    examples: int, share: float, negative: bool, permuted: bool, seed: int, excluded: set[int]
) -> None:
    order = permuted_indices(examples, seed) if permuted else None
    left_out = np.array(sorted(excluded), dtype=np.int64)
    cut = round(share * examples)
    assume(0 < cut < examples)
    signed = -share if negative else share
    whole = permuted_indices(examples) if order is None else order
    prior, rest = (whole[cut:], whole[:cut]) if negative else (whole[:cut], whole[cut:])
    assume(set(rest.tolist()) - excluded)
    parts = partition(order, examples, share=signed, has_prior=True)
    parts = parts.without_seen(np.isin(parts.bound, left_out))
    assert sorted(np.concatenate(list(parts.arrays().values()))) == list(range(examples))
    assert np.array_equal(parts.prior, prior)
    assert not set(parts.bound.tolist()) & (set(parts.prior.tolist()) | excluded)


def test_all_of_it_keeps_its_own_order() -> None:
    parts = partition(None, 50, share=1.0)
    assert parts.is_trivial(50)
    assert parts.bound.tolist() == list(range(50))
    assert not partition(None, 50, share=1.0).with_calibration(2, 3).is_trivial(50)


def test_calibration_follows_the_seed_and_the_permutation_does_not() -> None:
    first, second = (partition(None, 100, share=0.5).with_calibration(5, seed) for seed in (1, 2))
    assert first.calibration.tolist() != second.calibration.tolist()
    assert {*first.calibration, *first.bound} == {*second.calibration, *second.bound}


@pytest.mark.parametrize(
    ("share", "calibration", "complaint"), [(0.001, 0, "leaves none"), (-1.0, 0, "leaves none"), (0.5, 6, "a tenth")]
)
def test_impossible_parts(share: float, calibration: int, complaint: str) -> None:
    with pytest.raises(PactlError, match=complaint):
        partition(None, 100, share=share).with_calibration(calibration, 3)


def test_recorded_indices_must_be_the_derived_ones() -> None:
    parts = partition(None, 100, share=0.5).with_calibration(5, 3)
    require_same_indices(parts.arrays(), parts.arrays(), Path("indices.npz"))
    swapped = parts.arrays() | {"bound": parts.bound[::-1]}
    for wrong in (swapped, {"bound": parts.bound}, parts.arrays() | {"more": parts.bound}):
        with pytest.raises(PactlError, match=r"indices\.npz"):
            require_same_indices(parts.arrays(), wrong, Path("indices.npz"))
    other = partition(None, 100, share=0.5).with_calibration(5, 4)
    assert parts.sha256() != other.sha256()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (np.arange(9), "9 indices"),
        (np.zeros(10, dtype=int), r"every index of 0 \.\. 9 exactly once"),
        (np.arange(1, 11), r"every index of 0 \.\. 9 exactly once"),
        (np.arange(10.0), "integers"),
        (np.arange(10).reshape(2, 5), "one-dimensional"),
        (np.array([{}] * 10), "cannot be read"),
    ],
)
def test_files_that_are_no_permutation(tmp_path: Path, content: np.ndarray, complaint: str) -> None:
    np.save(tmp_path / "order.npy", content)
    with pytest.raises(PactlError, match=complaint):
        load_indices(tmp_path / "order.npy", 10)


def test_a_permutation_from_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "order.npy", permuted_indices(10).astype(np.int32))
    assert load_indices(tmp_path / "order.npy", 10).tolist() == permuted_indices(10).tolist()
    with pytest.raises(PactlError, match="cannot be read"):
        load_indices(tmp_path / "absent.npy", 10)
