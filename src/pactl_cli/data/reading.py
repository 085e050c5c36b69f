"""How the user's own data are read: the settings for what the files themselves do not say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pactl_cli.errors import PactlError, option_name

OF_TEXTS = ("tokenizer", "sequence_length", "text_form")


@dataclass(frozen=True)
class Reading:
    """The settings for reading the user's own data. Each field has the name of its setting.

    Attributes:
        image_size: the side of the square to which images are scaled and cropped; None keeps their size.
        channels: the axis of an array that counts the channels, `first` or `last`; None infers it from the shape.
        label: the column of a table that holds the labels.
        text: the column of a table that holds texts; other columns are then not read.
        missing: what to do with missing values in a table, `refuse` or `constant`.
        categories: the categories of some columns of a table, in the order of their numbers.
        tokenizer: `bytes`, `words`, or the path of a tokenizer's file.
        sequence_length: the number of tokens that are read from each text.
        text_form: `padded`, `bagged` or `masked`.
        fonts: the folder of the fonts for glyphs; None for the fonts of installed packages.
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
        """Return the settings of these names, and the defaults of all others."""
        defaults: dict[str, Any] = {each.name: each.default for each in fields(self) if each.name not in names}
        return replace(self, **defaults)

    def refuse(self, why: str, *, only: Collection[str] = (), but: Collection[str] = ()) -> None:
        """Raise PactlError if a setting was given that has no meaning for the data at hand.

        Args:
            why: the reason, for the message.
            only: the settings to check; empty for all.
            but: the settings that may be given.
        """
        for field in fields(self):
            value, looked_at = getattr(self, field.name), not only or field.name in only
            if looked_at and field.name not in but and value != field.default:
                raise PactlError(f"{option_name(field.name)} {value}: {why}", "leave it out")
