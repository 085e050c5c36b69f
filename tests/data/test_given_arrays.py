"""Arrays as users save them: names, types, orders, invalid values, and the axis that counts the channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pactl_cli.data import given_arrays
from pactl_cli.data.dataset import Dataset
from pactl_cli.data.lazy_examples import LazyExamples
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.reading import Reading
from pactl_cli.data.recognition import exact_fingerprints, image_fingerprints
from pactl_cli.errors import MissingError, PactlError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (12, 8, 8), dtype=np.uint8)
Y = np.arange(12) % 3

Load = Callable[..., Dataset]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that saves arrays and loads the data set."""

    def save_and_read(
        arrays: dict[str, Any], channels: str | None = None, save: Callable[..., None] = np.savez
    ) -> Dataset:
        save(tmp_path / "data.npz", **arrays)
        return load_dataset(f"npz:{tmp_path / 'data.npz'}", tmp_path, reading=Reading(channels=channels))

    return save_and_read


def inputs(data: Dataset, indices: torch.Tensor | None = None) -> torch.Tensor:
    found = (data.train if indices is None else data.train[indices]).resident().inputs
    assert isinstance(found, torch.Tensor)
    return found


# --- Names ------------------------------------------------------------------------------------------------------------

SPELLINGS = {
    "as documented": (("x_train", "y_train", "x_test", "y_test"), ""),
    "scikit-learn's": (("X_train", "y_train", "X_test", "y_test"), "X_train, y_train, X_test, y_test are taken for x_"),
    "capitals": (("X_train", "Y_train", "X_test", "Y_test"), "X_train, Y_train"),
    "part first": (("train_x", "train_y", "test_x", "test_y"), "train_x"),
    "images": (("train_images", "train_labels", "test_images", "test_labels"), "train_images"),
    "data": (("train_data", "train_labels", "test_data", "test_labels"), "train_data"),
    "together": (("trainX", "trainY", "testX", "testY"), "trainX"),
    "validation": (("x_train", "y_train", "x_val", "y_val"), "x_val, y_val are taken for x_train, y_train, x_test"),
    "images alone": (("images", "labels"), "images, labels are taken for x_train, y_train"),
    "X and y": (("X", "y"), "X, y"),
    "x and y": (("x", "y"), "x, y"),
    "a Bunch": (("data", "target"), "data, target"),
    "data and labels": (("data", "labels"), "data, labels"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_usual_names_are_known_and_said(load: Load, spelling: str) -> None:
    names, note = SPELLINGS[spelling]
    data = load(dict(zip(names, (X, Y, X[:6], Y[:6]), strict=False)))
    assert torch.equal(inputs(data)[:, 0], torch.from_numpy(X))
    assert (data.test is not None) == (len(names) == 4)
    assert note in " ".join(data.notes)
    assert bool(note) == bool(data.notes)


def test_a_validation_part_beside_a_test_set_is_not_used(load: Load) -> None:
    names = ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels")
    data = load(dict(zip(names, (X, Y[:, None], X[:2], Y[:2, None], X[:6], Y[:6, None]), strict=True)))
    assert data.test is not None
    assert len(data.test) == 6
    assert "val_images and val_labels: not used" in " ".join(data.notes)


def test_other_arrays_are_let_alone(load: Load) -> None:
    more = {"labels": np.array(["a", "b", "c"]), "info": np.array({}, dtype=object)}
    assert load({"x_train": X, "y_train": Y, **more}).notes == ()


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({}, "no array x_train: it has no arrays"),
        ({"a": X, "b": np.array([{}])}, r"it has a \(12, 8, 8\) uint8, b \(1,\) of Python objects"),
        ({f"a{i}": Y for i in range(20)}, "and 12 more"),
        ({"x_train": X, "X_train": X, "y_train": Y}, "X_train and x_train may both be x_train"),
        ({"x_train": X, "y_train": Y, "train_labels": Y}, "train_labels and y_train may both be y_train"),
        ({"x_train": X, "y_train": Y, "x_val": X}, "no array y_val"),
        ({"X_train": X, "Y_train": Y[:5]}, "X_train has 12 examples and Y_train 5"),
    ],
)
def test_names_that_leave_a_doubt(load: Load, arrays: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PactlError, match=complaint):
        load(arrays)


def test_how_to_save_is_said_where_it_helps(load: Load, tmp_path: Path) -> None:
    with pytest.raises(PactlError, match=r"no array x_train: it has a \(12, 8, 8\) uint8") as absent:
        load({"a": X})
    with pytest.raises(MissingError, match="there is no such file") as missing:
        load_dataset(f"npz:{tmp_path / 'absent.npz'}", tmp_path)
    assert ("numpy.savez" in absent.value.hint, missing.value.hint) == (True, "")
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(PactlError, match=r"a single array, \(12, 8, 8\) uint8, without labels"):
        load_dataset(f"npz:{tmp_path / 'x.npy'}", tmp_path)


# --- Types and orders -------------------------------------------------------------------------------------------------

TYPES: dict[str, Any] = {
    "big-endian": np.dtype(">f4"),
    "half precision": np.dtype(np.float16),
    "double precision": np.dtype(np.float64),
    "big-endian doubles": np.dtype(">f8"),
    "truth values": np.dtype(bool),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(12, 5), (12, 8, 9), (12, 8, 9, 3)])
def test_numbers_of_any_type_and_order_become_single_precision(
    load: Load, kind: str, order: Any, shape: tuple[int, ...]
) -> None:
    x = RNG.integers(0, 2, shape).astype(TYPES[kind], order=order)
    found = inputs(load({"x_train": x, "y_train": Y}))
    wanted = torch.from_numpy(x.astype(np.float32))
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    assert torch.equal(found, wanted[:, None] if x.ndim == 3 else wanted.movedim(-1, 1) if x.ndim == 4 else wanted)


def with_one(value: float, dtype: Any = np.float64) -> Any:
    x = np.zeros((12, 5), dtype)
    x[7, 3] = value
    return x


@pytest.mark.parametrize(
    ("x", "complaint"),
    [
        (with_one(np.nan), r"not finite numbers, 1 of them; the first is x_train\[7, 3\] = nan"),
        (np.full((12, 2), 0x7FA00000, np.uint32).view(np.float32), "24 of them; the first is"),  # NaN that are signals
        (with_one(-np.inf, ">f4"), r"x_train\[7, 3\] = -inf"),
        (with_one(1e300), r"too large for single precision, 1 of them; the first is x_train\[7, 3\] = 1e\+300"),
        (with_one(1 << 63, np.uint64), r"more than 63 bits, 1 of them; the first is x_train\[7, 3\] = 922"),
        (np.full((12, 2), np.nan), r"24 of them; the first is x_train\[0, 0\]"),
        (np.zeros((12, 5), complex), "complex128, not numbers"),
        (np.zeros((12, 5), "M8[s]"), r"datetime64\[s\], not numbers"),
        (np.zeros((12, 5), "m8[s]"), "timedelta64"),
        (np.zeros((12, 5), [("a", float), ("b", int)]), "the fields a, b, not numbers"),
        (np.full((12, 5), "3.5"), "<U3, not numbers"),
        (np.full((12, 5), b"3.5"), r"S3, not numbers"),
        (np.full((12, 5), {}), "x_train cannot be read: it holds Python objects"),
        (np.zeros(12), r"1 dimensions, \(12,\)"),
    ],
)
def test_what_is_no_number_is_named(load: Load, x: Any, complaint: str) -> None:
    with pytest.raises(PactlError, match=complaint) as caught:
        load({"x_train": x, "y_train": Y})
    assert caught.value.hint


def test_labels_of_python_objects_say_how_to_save_them(load: Load) -> None:
    with pytest.raises(PactlError, match="y_train cannot be read: it holds Python objects") as caught:
        load({"x_train": X, "y_train": Y.astype(object)})
    assert 'y_train.astype("str")' in caught.value.hint


def test_parts_that_differ_are_both_described(load: Load) -> None:
    says = "x_test and x_train differ in shape or type: images of 1 x 8 x 8, float32; and images of 1 x 8 x 8, uint8"
    with pytest.raises(PactlError, match=says):
        load({"x_train": X, "y_train": Y, "x_test": X / 255, "y_test": Y})


def test_integers_for_pixels_get_a_word(load: Load) -> None:
    (said,) = load({"x_train": X.astype(np.int64), "y_train": Y, "x_test": X.astype(np.int32), "y_test": Y}).notes
    assert 'images of unscaled integers; for pixels of 0 to 255, save x_train.astype("uint8")' in said
    assert "images" not in str(load({"x_train": X[:, 0].astype(np.int64), "y_train": Y}).notes)


# --- Channels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected", "note"),
    [
        ((32, 32, 3), (3, 32, 32), ""),
        ((3, 32, 32), (3, 32, 32), ""),
        ((28, 28, 1), (1, 28, 28), ""),
        ((1, 5, 28), (1, 5, 28), ""),
        ((3, 5, 2), (3, 5, 2), ""),
        ((1, 5, 3), (1, 5, 3), "is read as 1 channels of 5 x 3, first axis"),
        ((32, 32, 4), (4, 32, 32), ""),
        ((4, 32, 32), (4, 32, 32), ""),
        ((32, 32, 5), (5, 32, 32), "x_train of (n, 32, 32, 5) is read as 5 channels of 32 x 32, last axis; --channels"),
        ((13, 64, 64), (13, 64, 64), "is read as 13 channels of 64 x 64, first axis"),
    ],
)
def test_the_axis_of_the_channels(load: Load, shape: tuple[int, ...], expected: tuple[int, ...], note: str) -> None:
    x = RNG.integers(0, 256, (12, *shape), dtype=np.uint8)
    data = load({"x_train": x, "y_train": Y, "x_test": x[:6], "y_test": Y[:6]})
    assert data.spec.image_shape == expected
    assert torch.equal(inputs(data), torch.from_numpy(x if expected == shape else np.moveaxis(x, -1, 1)))
    assert [note in said for said in data.notes] == [True] * bool(note)


@pytest.mark.parametrize("shape", [(8, 8, 8), (3, 32, 3), (9, 4, 9), (2, 2, 2), (4, 8, 4)])
def test_an_axis_that_may_be_either_is_refused_unless_it_is_said(load: Load, shape: tuple[int, ...]) -> None:
    x = RNG.integers(0, 256, (12, *shape), dtype=np.uint8)
    a, b, c = shape
    with pytest.raises(PactlError, match=f"may be {a} channels of {b} x {c}, or {c} channels of {a} x {b}") as caught:
        load({"x_train": x, "y_train": Y})
    assert "--channels first, or --channels last" in caught.value.hint
    assert torch.equal(inputs(load({"x_train": x, "y_train": Y}, "first")), torch.from_numpy(x))
    last = load({"x_train": x, "y_train": Y}, "last")
    assert (last.spec.image_shape, last.notes) == ((c, a, b), ())
    assert torch.equal(inputs(last), torch.from_numpy(x).movedim(-1, 1))


@pytest.mark.parametrize("shape", [(12, 5), (12, 8, 8)])
def test_channels_of_what_has_none(load: Load, shape: tuple[int, ...]) -> None:
    with pytest.raises(PactlError, match=r"--channels last: x_train of .* has no such axis"):
        load({"x_train": np.zeros(shape), "y_train": Y}, "last")


# --- Too large for memory ---------------------------------------------------------------------------------------------

LARGE: dict[str, Any] = {
    "bytes": X,
    "floats": RNG.normal(size=(12, 5)),
    "tokens": RNG.integers(0, 9, (12, 7)).astype(">i2"),
    "truth values": RNG.integers(0, 2, (12, 6)).astype(bool),
    "channels last": RNG.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8),
}


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_does_not_fit_into_memory_is_the_same_by_batch(
    load: Load, monkeypatch: pytest.MonkeyPatch, kind: str, save: Callable[..., None]
) -> None:
    arrays = {"x_train": LARGE[kind], "y_train": Y, "x_test": LARGE[kind][::2], "y_test": Y[::2]}
    whole = load(arrays)
    room = 2 * LARGE[kind].nbytes + 2  # of which half is taken: as it is, but not in another form, or with the test set
    monkeypatch.setattr(given_arrays, "available_memory", lambda: room if save is np.savez_compressed else 10)
    made = load(arrays, save=save)
    assert isinstance(made.train, LazyExamples)
    assert isinstance(made.test, LazyExamples)
    assert made.spec == whole.spec
    assert torch.equal(inputs(made), inputs(whole))
    order = torch.tensor([4, 5, 6, 1, 1, 11, 0])
    assert torch.equal(inputs(made, order), inputs(whole)[order])
    assert made.train[torch.tensor([], dtype=torch.long)].resident().labels.shape == (0,)
    assert made.train.sha256() == whole.train.sha256()
    for of in (exact_fingerprints, image_fingerprints):
        np.testing.assert_array_equal(of(made.train), of(whole.train))


def test_what_must_be_read_as_a_whole_says_how_to_save_it(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given_arrays, "available_memory", lambda: 10)
    with pytest.raises(PactlError, match="more than half of the available memory") as compressed:
        load({"x_train": X, "y_train": Y}, save=np.savez_compressed)
    assert "numpy.savez, not savez_compressed" in compressed.value.hint
    with pytest.raises(PactlError, match="more than half of the available memory") as scattered:
        load({"x_train": np.asfortranarray(X), "y_train": Y})
    assert "numpy.ascontiguousarray(x_train)" in scattered.value.hint


def test_values_of_large_arrays_are_checked_too(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given_arrays, "available_memory", lambda: 10)
    monkeypatch.setattr("pactl_cli.data.files.stored_array.PIECE_BYTES", 80)
    with pytest.raises(PactlError, match=r"x_train\[7, 3\] = nan"):
        load({"x_train": with_one(np.nan), "y_train": Y})


def test_a_large_file_must_be_what_was_written_and_stay_so(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(given_arrays, "available_memory", lambda: 10)
    x = RNG.integers(0, 256, (300, 8, 8), dtype=np.uint8)
    data = load({"x_train": x, "y_train": np.arange(300) % 3})
    content = (tmp_path / "data.npz").read_bytes()
    place = content.index(x.tobytes()[:100]) + 15_000
    (tmp_path / "data.npz").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(PactlError, match="has changed since it was opened"):
        data.train.resident()
    with pytest.raises(PactlError, match="its checksum is wrong"):
        load_dataset(f"npz:{tmp_path / 'data.npz'}", tmp_path)
