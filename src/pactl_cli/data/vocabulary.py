"""The size of the vocabulary of arrays that hold sequences of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from pactl_cli.data.dataset import Dataset, Examples, LabelledExamples
from pactl_cli.data.lazy_examples import LazyExamples
from pactl_cli.models.inputs import MOST_TOKENS, TOKENS

_AT_ONCE = 1 << 14


def with_vocabulary(dataset: Dataset) -> Dataset:
    """Return the data set with the vocabulary that its integers of shape (n, L) imply: one more than the largest.

    Other inputs are unchanged, and so are integers below 0 or beyond `MOST_TOKENS`.
    """
    if dataset.spec.kind != TOKENS:
        return dataset
    ranges = [torch.stack(batch.aminmax()).tolist() for part in dataset.parts for batch in _inputs(part)]
    count = 1 + max(most for _, most in ranges)
    if min(least for least, _ in ranges) < 0 or count > MOST_TOKENS:
        return dataset
    note = f"integers of shape (n, L) are sequences of tokens, of which there are {count:,}: save features as float32"
    return replace(widened(dataset, count), notes=(*dataset.notes, note))


def widened(dataset: Dataset, vocabulary: int) -> Dataset:
    """Return a data set of tokens with a vocabulary of another size."""

    def change(part: LabelledExamples) -> LabelledExamples:
        return replace(part, vocabulary=vocabulary) if isinstance(part, Examples | LazyExamples) else part

    return dataset.each(change)


def _inputs(part: LabelledExamples) -> Iterator[Tensor]:
    """Yield all inputs of a part, batch by batch."""
    for batch in part.batches(torch.arange(len(part)).split(_AT_ONCE)):
        if isinstance(batch.inputs, Tensor) and len(batch):
            yield batch.inputs
