"""Parts of a data set with several arrays: dictionaries, which become mappings, and sparse matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from pactl_cli.data import given_arrays
from pactl_cli.data.dataset import Dataset
from pactl_cli.data.lazy_examples import LazyExamples
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.reading import Reading
from pactl_cli.data.recognition import exact_fingerprints, image_fingerprints
from pactl_cli.errors import PactlError

RNG = np.random.default_rng(0)
Y = np.arange(12) % 3
DENSE = (RNG.random((12, 7)) < 0.3) * RNG.normal(size=(12, 7))

Arrays = dict[str, Any]
Load = Callable[..., Dataset]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that saves arrays and loads the data set."""

    def save_and_read(arrays: Arrays, channels: str | None = None) -> Dataset:
        np.savez(tmp_path / "data.npz", **arrays)
        return load_dataset(f"npz:{tmp_path / 'data.npz'}", tmp_path, reading=Reading(channels=channels))

    return save_and_read


def inputs(data: Dataset, indices: torch.Tensor | None = None) -> Any:
    return (data.train if indices is None else data.train[indices]).resident().inputs


# --- Sparse matrices --------------------------------------------------------------------------------------------------


def parts_of(matrix: Any, name: str = "x_train") -> Arrays:
    """Return the arrays that scipy.sparse.save_npz writes for a matrix."""
    place = Path("matrix.npz")
    sparse.save_npz(place, matrix)
    with np.load(place) as archive:
        found = {f"{name}.{key}": archive[key] for key in archive.files}
    place.unlink()
    return found


@pytest.fixture(autouse=True)
def _in_a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix", "coo_matrix", "csr_array", "csc_array", "coo_array"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, bool, np.uint8])
def test_the_rows_of_a_sparse_matrix_are_features(
    load: Load, monkeypatch: pytest.MonkeyPatch, kind: str, dtype: Any
) -> None:
    dense = np.abs(DENSE * 9).astype(dtype)
    arrays = {**parts_of(getattr(sparse, kind)(dense)), "y_train": Y}
    arrays |= {**parts_of(sparse.csr_matrix(dense[:5]), "x_test"), "y_test": Y[:5]}
    whole = load(arrays)
    assert whole.spec.kind == "features"
    assert torch.equal(inputs(whole), torch.from_numpy(dense.astype(np.float32)))
    monkeypatch.setattr(given_arrays, "available_memory", lambda: 10)
    made = load(arrays)
    assert isinstance(made.train, LazyExamples)
    order = torch.tensor([3, 3, 11, 0])
    assert torch.equal(inputs(made, order), inputs(whole, order))
    assert (made.train.sha256(), made.test and made.test.sha256()) == (
        whole.train.sha256(),
        whole.test and whole.test.sha256(),
    )
    for of in (exact_fingerprints, image_fingerprints):
        np.testing.assert_array_equal(of(made.train), of(whole.train))


@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_a_matrix_that_is_not_square_need_not_say_its_format(load: Load, kind: str) -> None:
    arrays = {**parts_of(getattr(sparse, f"{kind}_matrix")(DENSE)), "y_train": Y}
    del arrays["x_train.format"]
    assert torch.equal(inputs(load(arrays)), torch.from_numpy(DENSE.astype(np.float32)))
    square = {**parts_of(sparse.csr_matrix(np.eye(12))), "y_train": Y}
    del square["x_train.format"]
    with pytest.raises(PactlError, match="x_train is square, and does not say whether it is stored by rows"):
        load(square)


def spoilt(**changes: Any) -> Arrays:
    arrays = {**parts_of(sparse.csr_matrix(DENSE)), "y_train": Y}
    return arrays | {f"x_train.{key}": value for key, value in changes.items()}


GOOD: Any = sparse.csr_matrix(DENSE)
FAULTS: dict[str, tuple[Callable[[], Arrays], str]] = {
    "an index too large": (
        lambda: spoilt(indices=GOOD.indices + 1),
        r"x_train\.indices has the index 7, which is outside",
    ),
    "a negative index": (lambda: spoilt(indices=GOOD.indices - 1), "has the index -1"),
    "indices that are no integers": (lambda: spoilt(indices=GOOD.indices + 0.5), "not whole numbers"),
    "too few indices": (lambda: spoilt(indices=GOOD.indices[1:]), r"x_train\.data has the shape"),
    "too few starts": (lambda: spoilt(indptr=GOOD.indptr[:-1]), "does not divide"),
    "starts that go back": (lambda: spoilt(indptr=np.r_[0, GOOD.indptr[2], 0, GOOD.indptr[3:]]), "does not divide"),
    "starts beyond the end": (lambda: spoilt(indptr=np.r_[GOOD.indptr[:-1], 999]), "does not divide"),
    "other rows": (lambda: spoilt(shape=np.array([10**15, 7])), "has 1,000,000,000,000,000 rows, and there are 12"),
    "no rows": (lambda: spoilt(shape=np.array([12])), "not rows and columns"),
    "more columns than any": (lambda: spoilt(shape=np.array([12, 1 << 40])), "its inputs are too large"),
    "another format": (lambda: spoilt(format=np.array(b"bsr")), "format is 'bsr'"),
    "NaN": (lambda: spoilt(data=GOOD.data * np.nan), r"x_train\.data has values that are not finite numbers"),
    "complex": (lambda: spoilt(data=GOOD.data * 1j), "complex128, not numbers"),
    "objects": (lambda: spoilt(data=GOOD.data.astype(object)), r"x_train\.data cannot be read: it holds Python"),
    "twice in one place": (lambda: spoilt(indices=GOOD.indices * 0), "several values for one place"),
    "both": (lambda: spoilt() | {"x_train": DENSE}, r"x_train is an array, but x_train\.data is too"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_sparse_matrix(load: Load, fault: str) -> None:
    arrays, says = FAULTS[fault]
    with pytest.raises(PactlError, match=says):
        load(arrays())


def test_places_that_lie_outside(load: Load) -> None:
    arrays = {**parts_of(sparse.coo_matrix(DENSE)), "y_train": Y}
    arrays["x_train.row"] = arrays["x_train.row"] + 5
    with pytest.raises(PactlError, match=r"x_train\.row has the index 1\d, which is outside 0 .. 11"):
        load(arrays)


def test_parts_of_different_kinds(load: Load) -> None:
    arrays = {**parts_of(sparse.csr_matrix(DENSE)), "y_train": Y, "y_test": Y}
    with pytest.raises(PactlError, match="x_test and x_train differ"):
        load(arrays | {"x_test": DENSE})
    with pytest.raises(PactlError, match="differ in shape or type: 6 features, float32; and 7 features, float32"):
        load(arrays | parts_of(sparse.csr_matrix(DENSE[:, 1:]), "x_test"))


# --- Dictionaries -----------------------------------------------------------------------------------------------------

IDS, MASK = RNG.integers(0, 9, (12, 5)), RNG.integers(0, 2, (12, 5)).astype(bool)
MAPPING = {"x_train.input_ids": IDS, "x_train.attention_mask": MASK, "y_train": Y}


def test_a_dictionary_is_a_mapping(load: Load) -> None:
    more = {
        "x_train.half": np.ones(12, np.float16),
        "x_train.big": IDS.astype(">i2"),
        "x_train.pixels": np.zeros((12, 2, 2, 3), np.uint8),
        "x_train.data": np.asfortranarray(DENSE),
    }
    found = inputs(load(MAPPING | more))
    types = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in found.items()}
    assert types == {
        "attention_mask": (torch.bool, (12, 5)),
        "big": (torch.int64, (12, 5)),
        "data": (torch.float32, (12, 7)),
        "half": (torch.float32, (12,)),
        "input_ids": (torch.int64, (12, 5)),
        "pixels": (torch.uint8, (12, 2, 2, 3)),
    }
    assert torch.equal(found["input_ids"], torch.from_numpy(IDS))
    assert torch.equal(found["data"], torch.from_numpy(DENSE.astype(np.float32)))


TEST = {"x_test.input_ids": IDS[:4], "x_test.attention_mask": MASK[:4], "y_test": Y[:4]}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"x_test.more": IDS[:4]},
            r"differ in shape or type: .* more \(5,\) int64; and attention_mask \(5,\) bool",
        ),
        ({"x_test.input_ids": IDS[:4, 1:]}, r"input_ids \(4,\) int64; and .* input_ids \(5,\) int64"),
        (
            {"x_test.attention_mask": MASK[:4].astype(int)},
            r"mask \(5,\) int64.*; and attention_mask \(5,\) bool",
        ),
        ({"x_test.input_ids": IDS[:3]}, r"x_test\.input_ids has 3 examples and y_test 4"),
        ({"x_train.attention_mask": MASK[:3]}, r"x_train\.attention_mask has 3 examples and y_train 12"),
        (
            {"x_train.input_ids": np.full((12, 5), np.nan)},
            r"x_train\.input_ids has .* x_train\.input_ids\[0, 0\]",
        ),
        ({"x_train.input_ids": IDS.astype(object)}, r"x_train\.input_ids cannot be read: it holds Python objects"),
        ({"x_train.input_ids": IDS.astype(str)}, r"x_train\.input_ids has the type <U\d+, not numbers"),
        ({"x_train.": IDS, "x_test.": IDS[:4]}, "no valid name"),
        ({f"x_train.{i}": Y for i in range(40)}, "cannot be used"),
        ({"y_train.a": Y, "y_train": None}, "y_train is a dictionary of arrays"),
    ],
)
def test_dictionaries_that_are_no_data_set(load: Load, changes: Arrays, says: str) -> None:
    arrays = {name: array for name, array in (MAPPING | TEST | changes).items() if array is not None}
    with pytest.raises(PactlError, match=says):
        load(arrays)


def test_the_same_names_shapes_and_types_are_a_test_set(load: Load) -> None:
    data = load(MAPPING | TEST)
    assert data.test is not None
    assert data.test.spec == data.train.spec


def test_what_a_dictionary_has_not(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PactlError, match="--channels first: x_train as a dictionary of arrays has no such axis"):
        load(MAPPING, "first")
    monkeypatch.setattr(given_arrays, "available_memory", lambda: 10)
    with pytest.raises(PactlError, match="a dictionary of arrays is read as a whole"):
        load(MAPPING)
