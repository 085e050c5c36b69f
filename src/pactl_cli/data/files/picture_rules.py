"""How a picture is read: the rules by which whatever Pillow opens becomes upright grey or colour of eight bits.

The rules are part of the message format: see docs/data-sets.md. What they do not cover is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pactl_cli.errors import PactlError

GREY, COLOUR = "L", "RGB"
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
"""By Pillow's names: those for which there are rules, whatever a file's name says. A camera's MPO is a JPEG."""

_GREY_MODES = ("1", "L", "LA", "La")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_DEEP = "I;16"
"""How the names of Pillow's modes of 16 bits begin, whatever the order of their bytes."""
_SIXTEEN_BITS_AS_I = ("PNG", "PPM")
"""Formats that have no numbers of more bits than 16, and are opened as if they had."""
_NUMBERS = {"I": "integers of 32 bits, or with a sign", "F": "floating-point numbers"}
_TURNS = dict(
    zip(
        range(2, 9),
        ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"),
        strict=True,
    )
)
"""What makes a picture upright, by its EXIF orientation; from 5 on height and width are exchanged."""
_ODD_KEYS = ("1", "L;2", "L;4", "RGB;16B")
"""How a PNG writes pixels of which Pillow compares the transparent one in other units."""
_ORIENTATION, _BITS, _WHITE_IS_ZERO, _SAMPLE_FORMAT = 274, 258, 262, 339
_UNSIGNED = {1, 4}
_VALUES_AT_ONCE = 1 << 22


class Facts(NamedTuple):
    """What the header of a picture says: its sides once it is upright, and whether it is grey."""

    height: int
    width: int
    is_grey: bool


def facts(image: Any) -> Facts:
    """Return what a picture will be, from its header where that is enough.

    Raises:
        PactlError: if no rule says how it is read.
    """
    _require_readable(image)
    width, height = image.size
    if height != width and _is_turned(image):
        width, height = height, width
    return Facts(height, width, _is_grey(image))


def picture(image: Any, mode: str) -> Any:
    """Return an image of Pillow's as an upright picture of eight bits a channel, in the mode L or RGB.

    Raises:
        PactlError: if no rule says how it is read.
    """
    from PIL import Image

    _require_readable(image)
    bits = _deep_bits(image)
    image.load()  # what tells the orientation may come after the pixels
    if (orientation := _orientation(image)) in _TURNS:
        image = image.transpose(Image.Transpose[_TURNS[orientation]])
    if bits:
        image = _of_eight_bits(image, bits)
    elif image.has_transparency_data:
        image = _over_white(image)
    elif image.mode == "P":
        image = image.convert(COLOUR)
    return image if image.mode == mode else image.convert(mode)


def _require_readable(image: Any) -> None:
    """Raise PactlError if no rule says how a picture is read."""
    by_hand = "bring it to 8 bits yourself, or bring the numbers as arrays: npz:PATH"
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise PactlError(f"has {frames:,} frames", "save the one that you mean as a picture of its own")
    if image.mode in _NUMBERS and not _deep_bits(image):
        raise PactlError(f"has pixels that are {_NUMBERS[image.mode]}", by_hand)
    if image.mode not in (*_GREY_MODES, *_COLOUR_MODES) and not _deep_bits(image):
        raise PactlError(f"has pixels of the mode {image.mode}", by_hand)
    if image.format == "TIFF":
        tags = image.tag_v2
        if set(tags.get(_SAMPLE_FORMAT, (1,))) - _UNSIGNED:
            raise PactlError("has pixels that are numbers with a sign", by_hand)
        if _deep_bits(image) and tags.get(_WHITE_IS_ZERO) == 0:
            raise PactlError("has 16 bits, and its zero is white", by_hand)
    if image.format == "PNG" and "transparency" in image.info and image.tile and image.tile[0][3] in _ODD_KEYS:
        raise PactlError("has a transparent colour, and not 8 or 16 bits of grey or 8 of colour", by_hand)


def _deep_bits(image: Any) -> int:
    """How many bits a grey pixel has; 0 for eight or fewer."""
    if image.mode.startswith(_DEEP):
        return int(image.tag_v2.get(_BITS, (16,))[0]) if image.format == "TIFF" else 16
    return 16 if image.mode == "I" and image.format in _SIXTEEN_BITS_AS_I else 0


def _of_eight_bits(image: Any, bits: int) -> Any:
    """Return deep grey scaled from its type's range, and rounded; 16 bits as round(v / 257). Transparent is white."""
    most, transparent = (1 << bits) - 1, image.info.get("transparency", -1)

    def scaled(values: NDArray[Any]) -> NDArray[np.int64]:
        values = values.astype(np.int64)
        return np.where(values == transparent, 255, (2 * 255 * values + most) // (2 * most))

    return _in_strips(np.asarray(image), scaled)


def _over_white(image: Any) -> Any:
    """Return a picture with alpha, or a transparent colour, as it looks on white, rounded."""

    def on_white(pixels: NDArray[Any]) -> NDArray[np.uint32]:
        colours, alpha = pixels[..., :3].astype(np.uint32), pixels[..., 3:].astype(np.uint32)
        return (colours * alpha + 255 * (255 - alpha) + 127) // 255

    return _in_strips(np.asarray((image.convert("LA") if image.mode == "La" else image).convert("RGBA")), on_white)


def _in_strips(pixels: NDArray[Any], change: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
    """Return a picture of changed pixels, made of a few rows at a time: in between, each takes many times its bytes."""
    from PIL import Image

    step = max(1, _VALUES_AT_ONCE // pixels[0].size)
    strips = [change(pixels[top : top + step]).astype(np.uint8) for top in range(0, len(pixels), step)]
    return Image.fromarray(np.concatenate(strips))


def _is_grey(image: Any) -> bool:
    """Whether a picture has no colours: neither its mode nor a palette."""
    if image.mode not in ("P", "PA"):
        return image.mode in _GREY_MODES or bool(_deep_bits(image))
    image.load()  # the palette is as Pillow gives it only then
    palette = np.array(image.getpalette(COLOUR), dtype=np.uint8).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def _is_turned(image: Any) -> bool:
    """Whether height and width are exchanged once a picture is upright."""
    if image.format == "TIFF":  # Pillow turns it itself, and says its size accordingly
        return False
    if image.format == "PNG" and _has_more_after_pixels(image.fp):
        image.load()
    return _orientation(image) > 4


def _orientation(image: Any) -> int:
    """The EXIF orientation, 1 to 8; 1, which is upright, where EXIF says nothing that can be read."""
    from PIL import Image

    try:
        found = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # cameras and programs write almost anything there, and Pillow raises almost anything at it
        return 1
    return found if found in _TURNS else 1


def _has_more_after_pixels(file: Any) -> bool:
    """Whether something follows the pixels of a PNG, which Pillow reads only with them: perhaps the orientation."""
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    last = content.rfind(b"IDAT")
    after = last + 8 + int.from_bytes(content[last - 4 : last])
    return bool(content[after + 4 : after + 8] != b"IEND")
