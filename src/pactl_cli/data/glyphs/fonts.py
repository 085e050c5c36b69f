"""The available fonts, and masks of their glyphs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pactl_cli.errors import PactlError, quoted

ENDINGS = (".ttf", ".otf", ".pfb")
_LETTERS_OF_MATPLOTLIB = re.compile(r"DejaVu|STIXGeneral|cm(r|ss|tt|b|ti|mi)10")
"""Names of its fonts with whole alphabets; the others hold symbols and parts of symbols."""
_HEIGHT, _ABSENT = 160, "\uffff"
"""The height in pixels; and a character that no font has, which shows how a font draws a missing one."""

Mask = NDArray[np.bool_]


def font_files(folder: Path | None) -> tuple[Path, ...]:
    """Return the font files in a folder, sorted by name; for None, those of matplotlib.

    Raises:
        PactlError: if there is no such folder, or no font in it.
    """
    if folder is None:
        package = find_spec("matplotlib")  # located, not imported, which would take a second
        place = Path(package.origin).parent / "mpl-data/fonts/ttf" if package and package.origin else None
        found = sorted(place.glob("*.ttf")) if place else []
        return tuple(path for path in found if _LETTERS_OF_MATPLOTLIB.match(path.name))
    hint = f"name a folder with fonts: {', '.join(ENDINGS)}"
    try:
        names = sorted(os.listdir(os.path.expanduser(folder)))
    except OSError as error:
        raise PactlError(f"--fonts {quoted(str(folder))}: {error.strerror or error}", hint) from error
    found = [Path(os.path.expanduser(folder)) / name for name in names if name.lower().endswith(ENDINGS)]
    if not found:
        raise PactlError(f"--fonts {quoted(str(folder))} has no fonts", hint)
    return tuple(found)


def glyph_masks(characters: Sequence[str], folder: Path | None) -> list[tuple[int, Mask]]:
    """Return the glyphs of some characters in all fonts: the index of the character, and the ink, cropped to it.

    Raises:
        PactlError: if there is no font, or one cannot be read, or all of them lack a character.
    """
    masks = []
    for font in _opened(folder):
        absent = _ink(font, _ABSENT)
        for place, character in enumerate(characters):
            ink = _ink(font, character)
            if ink.size and not np.array_equal(ink, absent):
                masks.append((place, ink))
    lacking = set(range(len(characters))) - {place for place, _ in masks}
    if lacking:
        raise PactlError(
            f"--fonts {quoted(str(folder))}: none of the fonts has the character {characters[min(lacking)]!r}",
            "add a font with letters and digits to the folder, or leave --fonts out",
        )
    return masks


def _opened(folder: Path | None) -> list[Any]:
    """Return the opened fonts of a folder; for None, those of matplotlib and Pillow's own."""
    from PIL import ImageFont, features

    if not features.check("freetype2"):
        raise PactlError("Pillow was built without FreeType, which draws fonts", "pip install --force-reinstall pillow")
    opened: list[Any] = [] if folder else [ImageFont.load_default(_HEIGHT)]
    for path in font_files(folder):
        if not path.is_file():  # reading a pipe would block
            raise PactlError(f"{quoted(str(path))} is not a readable font: it is not a file", "remove it")
        try:
            opened.append(ImageFont.truetype(path, _HEIGHT, layout_engine=ImageFont.Layout.BASIC))
        except OSError as error:
            raise PactlError(
                f"{quoted(str(path))} is not a readable font: {error}", "remove it, or restore it"
            ) from error
    return opened


def _ink(font: Any, character: str) -> Mask:
    """Return the ink of a character in a font, cropped to it; empty if there is none."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (4 * _HEIGHT, 4 * _HEIGHT))
    ImageDraw.Draw(image).text((_HEIGHT, _HEIGHT), character, fill=255, font=font)
    ink = np.asarray(image) > 127
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else ink[:0, :0]
