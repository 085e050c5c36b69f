"""Joining of several data sets with the same classes into one, to train a source on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pactl_cli.data.adaptation import with_channels
from pactl_cli.data.dataset import Dataset, Examples, LabelledExamples
from pactl_cli.data.splits import Indices
from pactl_cli.errors import PactlError, names_in_words
from pactl_cli.models.inputs import IMAGE


def join(name: str, parts: Sequence[Dataset]) -> Dataset:
    """Join training sets, each repeated as often as it fits into the largest, so that all weigh about the same.

    The test set is that of the first data set that has one.

    Args:
        name: of all data sets together, as the user wrote it.
        parts: resident data sets, whose images have one size.

    Raises:
        PactlError: if their classes or their inputs differ.
    """
    first, *others = parts
    for part in others:
        _require_same_classes(first, part)
    fitted = [_fitted(part, first) for part in parts]
    sizes = [len(part.train) for part in parts]
    times = [max(sizes) // size for size in sizes]
    notes = [note for part in parts for note in part.notes]
    notes += [
        f"{part.name}, {size:,} examples, is repeated {count} times, to weigh about as much as the largest"
        for part, size, count in zip(parts, sizes, times, strict=True)
        if count > 1
    ]
    trains = [part.train.resident() for part, count in zip(fitted, times, strict=True) for _ in range(count)]
    inputs = torch.cat([train.inputs for train in trains if isinstance(train.inputs, Tensor)])
    train = Examples(inputs, torch.cat([train.labels for train in trains]))
    test = next((part.test for part in fitted if part.test is not None), None)
    names = next((part.class_names for part in parts if part.class_names is not None), None)
    return Dataset(name, first.classes, train, test, class_names=names, notes=tuple(notes))


def rows_in_parts(sizes: Sequence[int], rows: Indices) -> list[Indices]:
    """Return the indices within each part of some joined examples, each once, ascending.

    >>> [part.tolist() for part in rows_in_parts([4, 2], np.array([0, 3, 6, 4]))]
    [[0, 3], [0]]
    """
    found, begin = [], 0
    for size in sizes:
        end = begin + max(sizes) // size * size
        found.append(np.unique((rows[(begin <= rows) & (rows < end)] - begin) % size))
        begin = end
    return found


def _require_same_classes(first: Dataset, other: Dataset) -> None:
    """Raise PactlError if two data sets are known to have different classes."""
    named = first.class_names, other.class_names
    if first.classes == other.classes and (None in named or named[0] == named[1]):
        return
    said = [f"{part.name} has {names_in_words(part.class_names or [part.classes])}" for part in (first, other)]
    raise PactlError(
        f"--dataset {first.name},{other.name}: the classes differ: {said[0]}; {said[1]}",
        "join data sets of the same classes",
    )


def _fitted(part: Dataset, first: Dataset) -> Dataset:
    """Return a part with inputs like those of the first.

    Raises:
        PactlError: if that is impossible, or they are not in memory.
    """
    if part.spec.kind == first.spec.kind == IMAGE and part.spec.channels != first.spec.channels:
        part = part.with_images(lambda images: with_channels(images, first.spec.channels))
    if part.spec != first.spec or part.encoding is not None:
        raise PactlError(
            f"--dataset {part.name} is {part.spec}, and {first.name} is {first.spec}",
            "join images, or arrays of the same shape and type; --image-size N brings images to one size",
        )
    return replace(part, train=_plain(part.name, part.train))


def _plain(name: str, examples: LabelledExamples) -> Examples:
    """Return resident examples whose inputs are one tensor. Raise PactlError for all others."""
    if isinstance(examples, Examples) and isinstance(examples.inputs, Tensor):
        return examples
    raise PactlError(
        f"--dataset {name} cannot be joined with others: it is not an array in memory", "use it alone, or a smaller one"
    )
