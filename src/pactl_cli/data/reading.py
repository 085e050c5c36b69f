"""How the user's own data are read: what their files do not say of themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pactl_cli.errors import PactlError, option_name

OF_TEXTS = ("tokenizer", "sequence_length", "text_form")


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
        fonts: the folder of the fonts that glyphs are drawn from; None for those of the packages that are installed.
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
    fonts: Path | None = None

    def only(self, names: Collection[str]) -> Reading:
        """Return the same but for settings of other names, which are as if nobody had given them."""
        unsaid: dict[str, Any] = {each.name: each.default for each in fields(self) if each.name not in names}
        return replace(self, **unsaid)

    def refuse(self, why: str, *, only: Collection[str] = (), but: Collection[str] = ()) -> None:
        """Raise PactlError if a setting was given that means nothing for the data at hand.

        Args:
            only: the settings to look at; all where nothing is given.
            but: those that may be given.
        """
        for field in fields(self):
            value, looked_at = getattr(self, field.name), not only or field.name in only
            if looked_at and field.name not in but and value != field.default:
                raise PactlError(f"{option_name(field.name)} {value}: {why}", "leave it out")
