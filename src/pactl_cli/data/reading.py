"""How the user's own data are read: what their files do not say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """What a reader of the user's own data is told; each field is the setting of that name.

    Attributes:
        image_size: the side to which images are scaled and cut; None for their own size.
        channels: `first` or `last`, the axis of an array that counts the channels; None where its shape says it.
        label: the column of a table that holds the labels.
        text: the column of a table that holds texts, which are then all that an example is.
        missing: what becomes of missing values of a table: `refuse` or `constant`.
        categories: the values of some columns of a table, each in the order of its numbers.
        tokenizer: `bytes`, or the path of a tokenizer's file.
        sequence_length: how many tokens of a text are read.
        text_form: `padded`, `bagged` or `masked`.
    """

    image_size: int | None = None
    channels: str | None = None
    label: str | None = None
    text: str | None = None
    missing: str = "refuse"
    categories: Mapping[str, tuple[str, ...]] | None = None
    tokenizer: str = "bytes"
    sequence_length: int = 256
    text_form: str = "padded"
