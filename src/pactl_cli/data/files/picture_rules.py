"""The rules by which a picture that Pillow opens becomes an upright picture in grey or colour with eight bits.

The rules are part of the message format: see docs/data-sets.md. A picture that they do not cover is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pactl_cli.errors import PactlError

GREY, COLOUR = "L", "RGB"
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
"""Pillow's names of the formats with rules, whatever a file's name says. A camera's MPO is a JPEG."""

_GREY_MODES = ("1", "L", "LA", "La")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_DEEP = "I;16"
"""The prefix of Pillow's modes of 16 bits, in any byte order."""
_SIXTEEN_BITS_AS_I = ("PNG", "PPM")
"""Formats of at most 16 bits that Pillow opens in the mode I of 32 bits."""
_NUMBERS = {"I": "integers of 32 bits, or with a sign", "F": "floating-point numbers"}
_TURNS = dict(
    enumerate(
        ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"), 2
    )
)
"""The operation that makes a picture upright, by its EXIF orientation. From 5 on it exchanges height and width."""
_ODD_KEYS = ("1", "L;2", "L;4", "RGB;16B")
"""Raw modes of a PNG in which Pillow gives the transparent colour in other units than the pixels."""
_ORIENTATION, _BITS, _WHITE_IS_ZERO, _SAMPLE_FORMAT = 274, 258, 262, 339
_UNSIGNED = {1, 4}
_VALUES_AT_ONCE = 1 << 22


class Facts(NamedTuple):
    """The sides of a picture once it is upright, and whether it is grey."""

    height: int
    width: int
    is_grey: bool


def facts(image: Any) -> Facts:
    """Return the facts about a picture, from its header if that suffices.

    Raises:
        PactlError: if no rule covers it.
    """
    _require_readable(image)
    width, height = image.size
    if height != width and _is_turned(image):
        width, height = height, width
    return Facts(height, width, _is_grey(image))


def picture(image: Any, mode: str) -> Any:
    """Return a Pillow image as an upright picture of eight bits for each channel, in the mode L or RGB.

    Raises:
        PactlError: if no rule covers it.
    """
    from PIL import Image

    _require_readable(image)
    bits = _deep_bits(image)
    image.load()  # the orientation may come after the pixels
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
    """Raise PactlError if no rule covers a picture."""
    by_hand = "convert it to 8 bits yourself, or give the numbers as arrays: npz:PATH"
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise PactlError(f"has {frames:,} frames", "save one of them as a separate picture")
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
    """Return the number of bits of a grey pixel; 0 for eight or fewer."""
    if image.mode.startswith(_DEEP):
        return int(image.tag_v2.get(_BITS, (16,))[0]) if image.format == "TIFF" else 16
    return 16 if image.mode == "I" and image.format in _SIXTEEN_BITS_AS_I else 0


def _of_eight_bits(image: Any, bits: int) -> Any:
    """Return grey of more bits scaled to eight and rounded; 16 bits as round(v / 257). Transparent pixels are white."""
    most, transparent = (1 << bits) - 1, image.info.get("transparency", -1)

    def scaled(values: NDArray[Any]) -> NDArray[np.int64]:
        values = values.astype(np.int64)
        return np.where(values == transparent, 255, (2 * 255 * values + most) // (2 * most))

    return _in_strips(np.asarray(image), scaled)


def _over_white(image: Any) -> Any:
    """Return a picture with alpha or a transparent colour on a white background, rounded."""

    def on_white(pixels: NDArray[Any]) -> NDArray[np.uint32]:
        colours, alpha = pixels[..., :3].astype(np.uint32), pixels[..., 3:].astype(np.uint32)
        return (colours * alpha + 255 * (255 - alpha) + 127) // 255

    return _in_strips(np.asarray((image.convert("LA") if image.mode == "La" else image).convert("RGBA")), on_white)


def _in_strips(pixels: NDArray[Any], change: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
    """Return a picture of changed pixels, made a few rows at a time, because each change takes much memory."""
    from PIL import Image

    step = max(1, _VALUES_AT_ONCE // pixels[0].size)
    strips = [change(pixels[top : top + step]).astype(np.uint8) for top in range(0, len(pixels), step)]
    return Image.fromarray(np.concatenate(strips))


def _is_grey(image: Any) -> bool:
    """Return whether a picture has no colours, either by its mode or in its palette."""
    if image.mode not in ("P", "PA"):
        return image.mode in _GREY_MODES or bool(_deep_bits(image))
    image.load()  # Pillow completes the palette here
    palette = np.array(image.getpalette(COLOUR), dtype=np.uint8).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def _is_turned(image: Any) -> bool:
    """Return whether making a picture upright exchanges its height and width."""
    if image.format == "TIFF":  # Pillow rotates it itself, and reports the size after that
        return False
    if image.format == "PNG" and _has_more_after_pixels(image.fp):
        image.load()
    return _orientation(image) > 4


def _orientation(image: Any) -> int:
    """Return the EXIF orientation, 1 to 8; 1, which is upright, if there is none that can be read."""
    from PIL import Image

    try:
        found = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # cameras and programs write almost anything there, which makes Pillow raise almost anything
        return 1
    return found if found in _TURNS else 1


def _has_more_after_pixels(file: Any) -> bool:
    """Return whether anything, perhaps the orientation, follows the pixels of a PNG. Pillow reads it only with them."""
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    last = content.rfind(b"IDAT")
    after = last + 8 + int.from_bytes(content[last - 4 : last])
    return bool(content[after + 4 : after + 8] != b"IEND")
