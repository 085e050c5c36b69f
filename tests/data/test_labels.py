"""Labels as users write them: accepted if their meaning is certain, otherwise refused with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pactl_cli.data.labels import read_labels
from pactl_cli.errors import PactlError


@pytest.mark.parametrize(
    ("values", "numbers", "classes", "names", "note"),
    [
        ([0, 1, 2, 1], [0, 1, 2, 1], 3, None, ""),
        (np.array([[2], [0], [1]], dtype=">i2"), [2, 0, 1], 3, None, ""),
        ([1, 2, 2, 1], [0, 1, 1, 0], 2, ("1", "2"), "the labels are 1 to 2: they are numbered from 0"),
        ([-1, 1, 1], [0, 1, 1], 2, ("-1", "1"), "named -1, 1"),
        ([0, 100, 0], [0, 1, 0], 2, ("0", "100"), "named 0, 100"),
        ([3, 4, 5, 7], [0, 1, 2, 3], 4, ("3", "4", "5", "7"), "named 3, 4, 5, 7"),
        ([2, 4, 2], [0, 1, 0], 2, ("2", "4"), "named 2, 4"),
        ([0, 3, 1, 3], [0, 3, 1, 3], 4, None, "no training example has the label 2"),
        ([0.0, 1.0, 1.0], [0, 1, 1], 2, None, "all of them whole"),
        (np.array([1, 2, 1], dtype=np.float16), [0, 1, 0], 2, ("1", "2"), "all of them whole"),
        ([False, True, False], [0, 1, 0], 2, ("False", "True"), "truth values"),
        (["dog", "cat ", "dog"], [1, 0, 1], 2, ("cat", "dog"), ""),
        (["10", "9", "10"], [1, 0, 1], 2, ("9", "10"), "named 9, 10"),
        (np.array([b"no", b"yes"]), [0, 1], 2, ("no", "yes"), ""),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 1]], [1, 0, 2], 3, None, "single 1"),
        ([[False, True], [True, False]], [1, 0], 2, None, "single 1"),
        ([[0, 1, 0, 0], [0, 0, 1, 0]], [1, 2], 4, None, "its place, 0 to 3"),
        (["01", "1", "1"], [0, 1, 1], 2, ("01", "1"), ""),
        (["-1", "0", "1"], [0, 1, 2], 3, ("-1", "0", "1"), "named -1, 0, 1"),
        (["100", "20", "20"], [1, 0, 0], 2, ("20", "100"), "named 20, 100"),
        (["--5", "7"], [0, 1], 2, ("--5", "7"), ""),
        (["\u0663", "1"], [1, 0], 2, ("1", "\u0663"), ""),
        (np.array(["caf\u00e9".encode(), b"bar"]), [1, 0], 2, ("bar", "caf\u00e9"), ""),
    ],
)
def test_labels_of_certain_meaning(
    values: Any, numbers: list[int], classes: int, names: tuple[str, ...] | None, note: str
) -> None:
    found = read_labels("npz:x", np.asarray(values))
    assert found.train.tolist() == numbers
    assert (found.classes, found.names, found.test) == (classes, names, None)
    assert note in " ".join(found.notes)
    assert bool(note) == bool(found.notes)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([0.0, 0.5], "y_train has the label 0.5, which is not a whole number"),
        ([0.0, np.nan], "y_train lacks 1 of its labels: they are NaN"),
        ([0.0, np.inf], "label inf"),
        (["a", "", "b"], "lacks 1 of its labels"),
        ([[1, 1], [0, 1]], "not every row is a single 1"),
        ([[[1]]], r"has the shape \(1, 1, 1\)"),
        ([], "has no labels"),
        ([3, 3], "single class, 3"),
        ([0, 0], "single class"),
        (np.array([1j, 2]), "type complex128"),
        (np.array([0, 1 << 63], dtype=np.uint64), "more than 63 bits"),
        ([-1, 0, 1], "has the labels -1, 0, 1, which may not all be classes"),
        ([0, 1, 2, 10**12], "0, 1, 2, 1000000000000, which may not all be classes"),
        (np.arange(30) * 7, "30 different labels for 30 examples"),
        (np.arange(100.0), "100 different labels"),
        (np.array([b"\xff", b"a"]), "labels that are not UTF-8"),
        (
            np.array(["a", "b"]).view(np.uint32).__add__(1 << 30).astype(np.uint32).view("<U1"),
            "labels that are not UTF-8",
        ),
        (["\ud800", "a"], "labels that are not UTF-8"),
        (["a", "nan", "b"], "lacks 1 of its labels: they are nan"),
        (["a" * 300, "b"], "a label of 300 letters"),
        ([0, 1, 2, -1], "the labels -1, 0, 1, 2, which may not all be classes"),
        ([-(2**63), 2**63 - 1], "which may not all be classes"),
        ([1, 2, 3, -1], "may not all be classes"),
        ([0, 1, 255, 1], "which may not all be classes"),
        ([0, 1, -100, 1], "the labels -100, 0, 1, which may not all be classes"),
        ([[0.5, 0.5], [0, 1]], r"the first other row is \[0.5, 0.5\]"),
        ([[0, np.nan], [0, 1]], "not every row"),
        ([["a", "b"], ["c", "d"]], r"has the shape \(2, 2\), and the type <U1"),
        (np.array(["2020-01-01", "2021-01-01"], dtype="M8[D]"), r"type datetime64\[D\]"),
        (np.zeros(3, dtype=[("a", int), ("b", int)]), "has the type"),
    ],
)
def test_what_is_no_label(values: Any, complaint: str) -> None:
    with pytest.raises(PactlError, match=complaint):
        read_labels("npz:x", np.asarray(values))


@pytest.mark.parametrize("name", ["NA", "none", "?"])
def test_a_class_whose_name_may_mark_a_missing_label_is_told(name: str) -> None:
    (note,) = read_labels("npz:x", np.array(["a", name, "b"])).notes
    assert note == f'"{name}" is taken for a class: if it marks missing labels, remove these examples'


def test_a_test_set_with_fewer_classes_is_fine() -> None:
    found = read_labels("npz:x", np.array(["a", "b", "c"]), np.array(["c", "c"]))
    assert found.test is not None
    assert found.test.tolist() == [2, 2]
    assert found.classes == 3


@pytest.mark.parametrize(
    ("train", "test", "named"),
    [(["a", "b"], ["b", "z"], "z"), ([0, 1], [0, 7], "7"), ([1, 2], [0, 1], "0"), ([0, 1], ["x", "0"], "x")],
)
def test_a_test_set_with_other_classes_is_refused_by_their_names(train: Any, test: Any, named: str) -> None:
    with pytest.raises(PactlError, match=f"classes that the training set lacks: {named}$"):
        read_labels("npz:x", np.asarray(train), np.asarray(test))


def test_the_width_of_rows_says_how_many_classes_there_are() -> None:
    found = read_labels("npz:x", np.eye(4)[[1, 2]], np.eye(4)[[3, 0]])
    assert found.test is not None
    assert (found.classes, found.train.tolist(), found.test.tolist()) == (4, [1, 2], [3, 0])
    with pytest.raises(PactlError, match="training set are rows of 4, and of the test set of 3"):
        read_labels("npz:x", np.eye(4)[[1, 2]], np.eye(3)[[0, 1]])


def test_more_classes_than_any_are_refused() -> None:
    with pytest.raises(PactlError, match="150,000 different labels"):
        read_labels("npz:x", np.repeat(np.arange(150_000) + 3, 2))
