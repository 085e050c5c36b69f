"""The usual names for the arrays of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from pactl_cli.errors import PactlError

_INPUTS = ("x", "images", "data", "features", "inputs")
_LABELS = ("y", "labels", "label", "targets", "target")
_PARTS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}
"""A name is a word for inputs or labels and a word for a part, in either order, in any case, with or without an
underscore: `x_train`, `X_train`, `train_images`. A word for inputs or labels alone means the training set."""
TEST_PARTS = (*_PARTS["test"], *_PARTS["val"])
"""Names of a test set, as of a folder or a file beside that of the training set; the first that is there is read."""


@dataclass(frozen=True)
class Pair:
    """The names of the inputs and of the labels of one part."""

    x: str
    y: str


def find_parts(dataset: str, names: Sequence[str], listed: str, hint: str) -> tuple[list[Pair], list[str]]:
    """Return the arrays of the training set, and of the test set if there is one, with notes on unusual names.

    Args:
        dataset: the data set's name for messages.
        names: of all arrays.
        listed: all arrays in words, for messages.
        hint: what to do if an array is missing.

    Raises:
        PactlError: if an array is missing, or two arrays match one role.
    """
    found = {(role, part): _found(dataset, names, role, part) for role, part in product("xy", _PARTS)}
    for role in "xy":
        found[role, "train"] = found[role, "train"] or _found(dataset, names, role, "")
    present = [part for part in ("test", "val") if found["x", part] or found["y", part]]
    needed = ("train", *present[:1])
    for part, role in product(needed, "xy"):
        if not found[role, part]:
            raise PactlError(f"--dataset {dataset} has no array {role}_{part}: it has {listed}", hint)
    pairs = [Pair(str(found["x", part]), str(found["y", part])) for part in needed]
    taken = [name for pair in pairs for name in (pair.x, pair.y)]
    usual = ["x_train", "y_train", "x_test", "y_test"][: len(taken)]
    notes = [f"the arrays {', '.join(taken)} are taken for {', '.join(usual)}"] if taken != usual else []
    if unused := [found[role, part] for part in present[1:] for role in "xy" if found[role, part]]:
        notes.append(f"{' and '.join(map(str, unused))}: not used, as there is a test set")
    return pairs, notes


def _found(dataset: str, names: Iterable[str], role: str, part: str) -> str | None:
    """Return the name of the array for a role, `x` or `y`, and a part; None if there is no such array.

    Raises:
        PactlError: if two arrays match.
    """
    words = _INPUTS if role == "x" else _LABELS
    parts = _PARTS[part] if part else ("",)
    spellings = {spelling for word, said in product(words, parts) for spelling in (word + said, said + word)}
    matching = [name for name in names if name.casefold().replace("_", "").replace("-", "") in spellings]
    if len(matching) > 1:
        raise PactlError(
            f"--dataset {dataset}: {' and '.join(sorted(matching)[:4])} may both be {role}_{part or 'train'}",
            "leave one of them out",
        )
    return matching[0] if matching else None
