"""How many tokens there are, where arrays hold sequences of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from pactl_cli.data.by_batch import MadeExamples
from pactl_cli.data.dataset import Dataset, Examples, LabelledExamples
from pactl_cli.models.inputs import MOST_TOKENS, TOKENS

_AT_ONCE = 1 << 14


def with_vocabulary(dataset: Dataset) -> Dataset:
    """Return a data set whose integers of shape (n, L) are taken for tokens: the largest says how many there are.

    Other inputs stay as they are, and so do integers below 0 or beyond every vocabulary.
    """
    if dataset.spec.kind != TOKENS or min(int(some.min()) for part in dataset.parts for some in _inputs(part)) < 0:
        return dataset
    count = 1 + max(int(some.max()) for part in dataset.parts for some in _inputs(part))
    if count > MOST_TOKENS:
        return dataset
    note = f"integers of shape (n, L) are sequences of tokens, of which there are {count:,}: save features as float32"
    known = widened(dataset, count)
    return replace(known, notes=(*dataset.notes, note))


def widened(dataset: Dataset, vocabulary: int) -> Dataset:
    """Return a data set of tokens with a vocabulary that has all of them."""

    def change(part: LabelledExamples) -> LabelledExamples:
        return replace(part, vocabulary=vocabulary) if isinstance(part, Examples | MadeExamples) else part

    return dataset.each(change)


def _inputs(part: LabelledExamples) -> Iterator[Tensor]:
    """Yield all inputs of a part, which are one tensor."""
    for batch in part.batches(torch.arange(len(part)).split(_AT_ONCE)):
        if isinstance(batch.inputs, Tensor) and len(batch):
            yield batch.inputs
