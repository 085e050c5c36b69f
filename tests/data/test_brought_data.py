"""Data in Python, in every form that users have, are read like a file of the same arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import sparse
from torch.utils.data import DataLoader, Dataset, TensorDataset

from pactl_cli import catalogue
from pactl_cli.data import dataset as data
from pactl_cli.data.loading import load_dataset
from pactl_cli.errors import PactlError

DRAW = np.random.default_rng(0)
X = DRAW.integers(0, 256, (30, 5, 4), dtype=np.uint8)
Y = np.arange(30) % 3


def read(given: Any) -> data.Dataset:
    with catalogue.handing_over({"python:it": given}):
        return load_dataset("python:it", Path())


@pytest.fixture(scope="module")
def as_a_file(tmp_path_factory: pytest.TempPathFactory) -> data.Dataset:
    path = tmp_path_factory.mktemp("arrays") / "arrays.npz"
    np.savez(path, x_train=X, y_train=Y, x_test=X[:6], y_test=Y[:6])
    return load_dataset(f"npz:{path}", Path())


class ByIndex(Dataset[Any]):
    """A sequence that iteration would never leave."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return torch.from_numpy(X[place % 30]), int(Y[place % 30])


def columns(**given: Any) -> Any:
    """Return an imitation of a `datasets.Dataset` with class labels in the column `label`."""
    features = {name: SimpleNamespace(names=["a", "b", "c"]) if name == "label" else object() for name in given}

    class Columns:
        def __getitem__(self, name: str) -> Any:
            return given[name]

    found = Columns()
    vars(found).update(column_names=list(given), features=features)
    return found


FORMS: dict[str, Callable[[], Any]] = {
    "arrays": lambda: (X, Y),
    "tensors": lambda: (torch.from_numpy(X), torch.from_numpy(Y)),
    "lists": lambda: (X, Y.tolist()),
    "read-only": lambda: tuple(np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for a in (X, Y)),
    "pairs": lambda: list(zip(X, Y, strict=True)),
    "a generator": lambda: ((x, y) for x, y in zip(X, Y, strict=True)),
    "a TensorDataset": lambda: TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
    "a Dataset by index": ByIndex,
    "pictures": lambda: [(Image.fromarray(x), int(y)) for x, y in zip(X, Y, strict=True)],
    "columns": lambda: columns(image=[Image.fromarray(x) for x in X], label=Y.tolist()),
    "named as in a file": lambda: {"x_train": X, "y_train": torch.from_numpy(Y)},
    "labels with an axis": lambda: [(x, [y]) for x, y in zip(X, Y, strict=True)],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_fingerprint_of_the_file(form: str, as_a_file: data.Dataset) -> None:
    found = read(FORMS[form]())
    assert found.train.sha256() == as_a_file.train.sha256()
    assert (found.classes, found.test) == (3, None)
    if form == "named as in a file":
        return
    both = read({"train": FORMS[form](), "test": (X[:6], Y[:6])})
    assert [part.sha256() for part in both.parts] == [part.sha256() for part in as_a_file.parts]


def test_numbers_of_other_types(as_a_file: data.Dataset) -> None:
    flat = X.reshape(30, 20)
    expected = read((flat.astype(np.float32), Y)).train.sha256()
    for other in (flat.astype(np.float64), torch.from_numpy(flat).to(torch.bfloat16), sparse.csr_matrix(flat * 1.0)):
        assert read((other, Y)).train.sha256() == expected
    swapped = flat.astype(">f4")
    assert read((swapped, Y)).train.sha256() == expected
    assert read((X.astype(np.int32), Y)).spec.tensors[0][1].dtype == torch.int64
    named = read((X, np.array(["c", "a", "b"], dtype=object)[Y]))
    assert named.class_names == ("a", "b", "c")


def test_inputs_may_be_mappings() -> None:
    inputs = {"ids": X.reshape(30, 20).astype(np.int64), "mask": X.reshape(30, 20) > 5}
    whole = read((inputs, Y))
    one_by_one = read([({name: each[i] for name, each in inputs.items()}, Y[i]) for i in range(30)])
    table = read(columns(label=Y, **inputs))
    assert whole.train.sha256() == one_by_one.train.sha256() == table.train.sha256()
    assert whole.kind == "mapping"


def test_the_users_own_arrays_stay_as_they_are() -> None:
    before = X.copy()
    found = read((X, Y)).train.resident()
    with torch.no_grad():
        found.with_labels(found.labels + 1)
    assert (before == X).all()


class Frame:
    """An imitation of a table of pandas: it has names of columns, and becomes an array without them."""

    def __init__(self, columns: str) -> None:
        self.columns = list(columns)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return X.reshape(30, 20)[:, : len(self.columns)]


@pytest.mark.parametrize("name", ["val", "validation"])
def test_a_part_for_validation_is_the_test_set_if_there_is_no_other(name: str) -> None:
    found = read({"train": (Frame("ab"), Y), name: (Frame("ab"), Y)})
    assert found.test is not None
    found = read({"train": (X, Y), name: (X[:9], Y[:9]), "test": (X[:6], Y[:6])})
    assert len(found.parts[1]) == 6


def _failing() -> Iterator[Any]:
    yield X[0], 1
    raise OSError("the disk is away")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: X, "a ndarray is not a data set with labels"),
        (lambda: 3, "a int is not a data set with labels"),
        (lambda: [], "the list has no examples"),
        (lambda: [(X[0], 1), X[1]], "example 1 of the list is not a pair of an input and a label"),
        (lambda: DataLoader(ByIndex(), batch_size=5), "example 0 of the DataLoader has 5 labels"),
        (lambda: [(X[0], 1), (X[1][:2], 0)], r"the inputs have different shapes, \(5, 4\), \(2, 4\)"),
        (lambda: (X, Y[:4]), "x_train has 30 examples and y_train 4"),
        (lambda: (X, None), "y_train cannot be read: it holds Python objects"),
        (lambda: (X.astype(object), Y), "x_train cannot be read: it holds Python objects"),
        (lambda: (X * np.nan, Y), "x_train has values that are not finite numbers"),
        (lambda: ([[1, 2], [3]], Y), "fails: ValueError"),
        (_failing, "fails: OSError: the disk is away"),
        (lambda: {"train": {"x_train": X}}, "a dict is not a data set with labels"),
        (lambda: {"x_train": X}, "has no array y_train"),
        (lambda: (np.ma.array(X, mask=X > 200), Y), "an array has masked values"),
        (lambda: (X, np.ma.array(Y, mask=Y == 1)), "an array has masked values"),
        (lambda: [(Image.fromarray(x).convert("P"), y) for x, y in zip(X, Y, strict=True)], "picture has the mode P"),
        (lambda: [(Image.new("CMYK", (3, 3)), 0)], "a picture has the mode CMYK: its numbers are not colours"),
        (lambda: {"train": (Frame("ab"), Y), "test": (Frame("ba"), Y)}, "the columns of test are not those of train"),
        (lambda: columns(a=[1], b=[2]), "none of the columns a, b, or several, look like labels"),
    ],
)
def test_what_is_no_data_set_is_refused_with_a_reason(given: Callable[[], Any], said: str) -> None:
    with pytest.raises(PactlError, match=said) as caught:
        read(given())
    assert caught.value.message.startswith("--dataset python:it")
    assert caught.value.hint


def test_an_object_has_its_name_for_the_time_of_a_call_alone() -> None:
    read((X, Y))
    with pytest.raises(PactlError, match="python:it stands for an object of Python"):
        load_dataset("python:it", Path())


@pytest.mark.parametrize("network", [lambda: (X, Y), "a_module_of:networks"])
def test_a_network_is_not_called_for_data(network: Any) -> None:
    with catalogue.handing_over({catalogue.NETWORK: network}), pytest.raises(PactlError, match="python:it stands for"):
        load_dataset("python:it", Path())
