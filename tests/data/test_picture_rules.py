"""Pictures of any mode, depth and orientation are read by a stated rule or refused by name, never silently altered."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from pactl_cli.data.files.decoding import headers, own_pixels
from pactl_cli.errors import PactlError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (5, 7, 1), dtype=np.uint8)
DEEP = RNG.integers(0, 1 << 16, (5, 7), dtype=np.uint16)

Array = np.ndarray[Any, Any]


def on_white(pixels: Array) -> Array:
    """Return colours blended with white by their alpha, rounded."""
    share = ALPHA / 255
    return np.floor(pixels * share + 255 * (1 - share) + 0.5).astype(np.uint8)


def png(path: Path, depth: int, kind: int, rows: Array, *more: tuple[bytes, bytes], late: bool = False) -> None:
    """Write a PNG file byte by byte, for variants that Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], depth, kind, 0, 0, 0))
    packed = rows.astype(">u2").view(np.uint8) if depth == 16 else rows
    lines = b"".join(b"\0" + line.tobytes() for line in packed.reshape(len(rows), -1))
    parts = [chunk(b"IDAT", zlib.compress(lines)), *(chunk(*some) for some in more)]
    content = b"".join(parts if late else parts[::-1])
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + start + content + chunk(b"IEND", b""))


def read(path: Path) -> Array:
    """Return the picture, shape (C, H, W), after checking that its header says the same."""
    height, width, is_grey = headers([str(path)])[0].tolist()
    pixels = own_pixels(str(path), "L" if is_grey else "RGB")
    assert pixels.shape == (1 if is_grey else 3, height, width)
    return pixels


def planes(pixels: Array) -> Array:
    return np.moveaxis(np.atleast_3d(pixels), -1, 0)


# --- Modes ------------------------------------------------------------------------------------------------------------


def palette(colours: Array) -> Any:
    image = Image.fromarray(GREY % 4).convert("P")
    image.putdata((GREY % 4).ravel().tolist())
    image.putpalette(colours.ravel().tolist())
    return image


FOUR = np.array([[10, 20, 30], [200, 0, 9], [0, 0, 0], [77, 255, 1]], dtype=np.uint8)
FOUR_GREYS = np.repeat(FOUR[:, :1], 3, axis=1)

MODES: dict[str, tuple[str, Callable[[], Any], Array]] = {
    "1": ("png", lambda: Image.fromarray(GREY > 99), np.where(GREY > 99, 255, 0)),
    "L": ("png", lambda: Image.fromarray(GREY), GREY),
    "L as gif": ("gif", lambda: Image.fromarray(GREY), GREY),
    "LA": ("png", lambda: Image.fromarray(np.concatenate([GREY[..., None], ALPHA], 2)), on_white(GREY[..., None])),
    "P": ("png", lambda: palette(FOUR), FOUR[GREY % 4]),
    "P as gif": ("gif", lambda: palette(FOUR), FOUR[GREY % 4]),
    "P as tiff": ("tif", lambda: palette(FOUR), FOUR[GREY % 4]),
    "P as bmp": ("bmp", lambda: palette(FOUR), FOUR[GREY % 4]),
    "a grey palette": ("png", lambda: palette(FOUR_GREYS), FOUR_GREYS[GREY % 4, :1]),
    "RGB": ("bmp", lambda: Image.fromarray(COLOUR), COLOUR),
    "RGBA": ("png", lambda: Image.fromarray(np.concatenate([COLOUR, ALPHA], 2)), on_white(COLOUR)),
    "RGBA as tiff": ("tif", lambda: Image.fromarray(np.concatenate([COLOUR, ALPHA], 2)), on_white(COLOUR)),
    "CMYK": ("tif", lambda: Image.fromarray(COLOUR).convert("CMYK"), COLOUR),
    "16 bits": ("png", lambda: Image.fromarray(DEEP), np.round(DEEP / 257)),
    "16 bits as tiff": ("tif", lambda: Image.fromarray(DEEP), np.round(DEEP / 257)),
    "16 bits as pgm": ("pgm", lambda: Image.fromarray(DEEP), np.round(DEEP / 257)),
}


@pytest.mark.parametrize("case", MODES)
def test_a_picture_of_any_mode_is_read(tmp_path: Path, case: str) -> None:
    extension, make, expected = MODES[case]
    make().save(tmp_path / f"x.{extension}")
    np.testing.assert_array_equal(read(tmp_path / f"x.{extension}"), planes(expected))


def test_sixteen_bits_in_the_other_order_of_bytes(tmp_path: Path) -> None:
    Image.frombytes("I;16B", (7, 5), DEEP.astype(">u2").tobytes()).save(tmp_path / "x.tif")
    np.testing.assert_array_equal(read(tmp_path / "x.tif"), planes(np.round(DEEP / 257)))


def test_of_deep_colour_the_upper_eight_bits_are_read(tmp_path: Path) -> None:
    rows = RNG.integers(0, 1 << 16, (5, 7, 3), dtype=np.uint16)
    png(tmp_path / "x.png", 16, 2, rows)
    np.testing.assert_array_equal(read(tmp_path / "x.png"), planes(rows >> 8))


def test_twelve_bits_have_a_range_of_their_own(tmp_path: Path) -> None:
    Image.new("I;16", (2, 1)).save(tmp_path / "x.tif")
    content = (tmp_path / "x.tif").read_bytes()
    entry = content.index(struct.pack("<HHI", 258, 3, 1))
    strip = content.index(struct.pack("<HHI", 273, 4, 1))
    place = struct.unpack_from("<I", content, strip + 8)[0]
    altered = bytearray(content)
    altered[entry + 8 : entry + 10] = struct.pack("<H", 12)
    altered[place : place + 3] = bytes([0xFF, 0xF8, 0x00])
    (tmp_path / "x.tif").write_bytes(altered)
    np.testing.assert_array_equal(read(tmp_path / "x.tif"), [[[255, 128]]])


@pytest.mark.parametrize("colour", ["grey", "colour", "deep", "palette", "gif"])
def test_a_transparent_colour_is_white(tmp_path: Path, colour: str) -> None:
    path = tmp_path / ("x.gif" if colour == "gif" else "x.png")
    if colour == "deep":
        png(path, 16, 0, DEEP, (b"tRNS", struct.pack(">H", DEEP[2, 3])))
        expected = np.where(DEEP[2, 3] == DEEP, 255, np.round(DEEP / 257))
    elif colour == "grey":
        Image.fromarray(GREY).save(path, transparency=int(GREY[2, 3]))
        expected = np.where(GREY[2, 3] == GREY, 255, GREY)
    elif colour == "colour":
        Image.fromarray(COLOUR).save(path, transparency=tuple(COLOUR[2, 3].tolist()))
        expected = np.where((COLOUR[2, 3] == COLOUR).all(2, keepdims=True), 255, COLOUR)
    else:
        palette(FOUR).save(path, transparency=1)
        expected = np.where((GREY % 4 == 1)[..., None], 255, FOUR[GREY % 4])
    np.testing.assert_array_equal(read(path), planes(expected))


# --- Orientation ------------------------------------------------------------------------------------------------------


def exif(orientation: int) -> Any:
    found = Image.Exif()
    found[274] = orientation
    return found


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("extension", "kind"), [("png", "colour"), ("png", "deep"), ("tif", "colour"), ("tif", "deep"), ("webp", "colour")]
)
def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, extension: str, kind: str) -> None:
    path = tmp_path / f"x.{extension}"
    Image.fromarray(COLOUR if kind == "colour" else DEEP).save(path, exif=exif(orientation), lossless=True)
    shown = COLOUR if kind == "colour" else np.round(DEEP / 257).astype(np.uint8)
    marked = Image.fromarray(shown)
    marked.getexif()[274] = orientation
    np.testing.assert_array_equal(read(path), planes(np.asarray(ImageOps.exif_transpose(marked))))


def test_a_photograph_is_turned(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 16))
    image.paste((255, 255, 255), (0, 0, 16, 16))
    image.save(tmp_path / "x.jpg", exif=exif(6), quality=100)
    pixels = read(tmp_path / "x.jpg")
    assert pixels.shape == (3, 32, 16)
    assert pixels[:, :15].min() > 250
    assert pixels[:, 17:].max() < 5


def test_an_orientation_after_the_pixels_is_seen(tmp_path: Path) -> None:
    png(tmp_path / "x.png", 8, 2, COLOUR, (b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0")), late=True)
    np.testing.assert_array_equal(read(tmp_path / "x.png"), planes(np.rot90(COLOUR, -1)))
    png(tmp_path / "y.png", 8, 2, COLOUR, (b"tEXt", b"Comment\0none"), late=True)
    np.testing.assert_array_equal(read(tmp_path / "y.png"), planes(COLOUR))


def test_exif_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    for content in (b"Exif\0\0nothing", b"Exif\0\0II*\0\xff\xff\xff\xff", exif(99).tobytes()):
        Image.fromarray(COLOUR).save(tmp_path / "x.webp", exif=content, lossless=True)
        np.testing.assert_array_equal(read(tmp_path / "x.webp"), planes(COLOUR))


# --- Refused ----------------------------------------------------------------------------------------------------------


def frames(path: Path) -> None:
    Image.fromarray(COLOUR).save(path, save_all=True, append_images=[Image.fromarray(COLOUR ^ n) for n in (1, 99)])


def signed(path: Path) -> None:
    """Write a TIFF file of signed 16-bit pixels."""
    Image.fromarray(DEEP).save(path, tiffinfo={339: 2})


REFUSED: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "32 bits": ("tif", lambda path: Image.fromarray(DEEP.astype(np.int32)).save(path), "integers of 32 bits"),
    "floats": ("tif", lambda path: Image.fromarray(DEEP.astype(np.float32)).save(path), "floating-point"),
    "not a number": ("tiff", lambda path: Image.fromarray(np.full((5, 7), np.nan, np.float32)).save(path), "floating"),
    "a sign": ("tif", signed, "a sign"),
    "pages": ("tif", frames, " frames"),
    "an animation": ("gif", frames, " frames"),
    "an animated webp": ("webp", frames, " frames"),
    "an animated png": ("png", frames, " frames"),
    "another format": ("png", lambda path: Image.fromarray(COLOUR).save(path, "TGA"), "it is not JPEG"),
    "LAB": ("tif", lambda path: Image.frombytes("LAB", (7, 5), bytes(105)).save(path), "the mode LAB"),
    "a transparent grey of one bit": (
        "png",
        lambda path: png(path, 1, 0, np.array([[0], [255]], np.uint8), (b"tRNS", b"\0\1")),
        "a transparent colour",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_rule_covers_is_refused_by_name(tmp_path: Path, case: str) -> None:
    extension, make, says = REFUSED[case]
    make(tmp_path / f"x.{extension}")
    for attempt in (lambda: headers([str(tmp_path / f"x.{extension}")]), lambda: read(tmp_path / f"x.{extension}")):
        with pytest.raises(PactlError, match=says) as caught:
            attempt()
        assert str(tmp_path / f"x.{extension}") in caught.value.message
        assert caught.value.hint


def test_of_a_cameras_picture_the_first_frame_is_read(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16, 3), 200, np.uint8)).save(
        tmp_path / "x.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))]
    )
    assert read(tmp_path / "x.jpg").min() > 190
