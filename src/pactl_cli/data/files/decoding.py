"""Decoding of image files to pixels of one size. Images are opened only here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.files.checked_files import open_file
from pactl_cli.data.files.picture_rules import COLOUR, FORMATS, GREY, facts, picture
from pactl_cli.data.files.workers import shared_tensor
from pactl_cli.errors import BAD_INPUT, FAILED, PactlError

Request = tuple[Sequence[str | bytes], Sequence[int] | None]
"""Paths, and the seed of a random view of each; None for the pictures in their frame."""

_LONGEST = 8
"""A picture whose longer side is more than this many times its shorter side is first cropped to that."""


@dataclass(frozen=True)
class Frame:
    """A deterministic transform that brings pictures to one size.

    Attributes:
        shape: channels (1: grey, 3: colour), height and width.
        shorter_side: the length to which it is scaled before the centre is cropped; None if all have the right size.
    """

    shape: tuple[int, int, int]
    shorter_side: int | None = None

    @classmethod
    def square(cls, channels: int, side: int) -> Frame:
        """Return the frame of `--image-size`, which scales the shorter side to `side` and crops the centre."""
        return cls((channels, side, side), side)

    @property
    def mode(self) -> str:
        """Pillow's mode of the pixels."""
        return GREY if self.shape[0] == 1 else COLOUR

    def fit(self, image: Any) -> Any:
        """Return a Pillow image, scaled and cropped as torchvision's Resize and CenterCrop do.

        Pillow averages over all pixels that a new one covers. Bytes are averaged in integers.
        """
        if self.shorter_side is None:
            return image
        from PIL import Image

        short = min(image.size)
        image = _middle(image, *(min(side, _LONGEST * short) for side in image.size))
        width, height = (side * self.shorter_side // short for side in image.size)
        return _middle(image.resize((width, height), Image.Resampling.BILINEAR), self.shape[2], self.shape[1])


def _middle(image: Any, width: int, height: int) -> Any:
    if image.size == (width, height):
        return image
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


@dataclass(frozen=True)
class Decoder:
    """A decoder of image files by path, or of members of a zip archive by name. It can be pickled until it is used.

    Attributes:
        archive: the archive's path; "" for files.
        look: a random view that replaces the frame: a function of the picture and a seed.
    """

    frame: Frame
    archive: str = ""
    look: Callable[[Any, int], Any] | None = None

    def __call__(self, request: Request) -> Tensor:
        """Return the images of some files, shape (m, C, H, W), uint8.

        Raises:
            PactlError: with exit code 1 if one is not an image, or has another size, or shared memory is exhausted.
        """
        paths, keys = request
        images = shared_tensor(len(paths), *self.frame.shape)
        pixels = images.numpy()
        with warnings.catch_warnings(action="ignore"):  # Pillow warns about metadata that is not used here
            for place, path in enumerate(paths):
                pixels[place] = self._pixels(path, None if keys is None else int(keys[place]))
        return images

    @cached_property
    def _members(self) -> ZipFile | None:
        return ZipFile(self.archive) if self.archive else None

    def _pixels(self, path: str | bytes, key: int | None) -> NDArray[np.uint8]:
        with _opened(path, self._members, FAILED) as image:
            seen = picture(image, self.frame.mode)
            if key is None:
                seen = self.frame.fit(seen)
        if self.look is not None and key is not None:
            seen = self.look(seen, key)
        pixels = np.atleast_3d(np.asarray(seen))
        if pixels.shape[:2] != self.frame.shape[1:]:
            raise PactlError(f"{os.fsdecode(path)} has another size than the others", "resize all to one size", FAILED)
        return np.moveaxis(pixels, -1, 0)


def own_pixels(path: str | bytes, mode: str, fit: Callable[[Any], Any] = lambda image: image) -> NDArray[np.uint8]:
    """Return the pixels of a file's picture, shape (C, H, W), in its own size unless `fit` changes it.

    Raises:
        PactlError: with exit code 1 if it is not a readable picture.
    """
    with warnings.catch_warnings(action="ignore"), _opened(path, None, FAILED) as image:
        return np.moveaxis(np.atleast_3d(np.asarray(fit(picture(image, mode)))), -1, 0)


def headers(paths: Sequence[str]) -> NDArray[np.int32]:
    """Return for each file the height and width of its picture and whether it is grey, shape (m, 3).

    Raises:
        PactlError: naming the first that is not an image, or that no rule covers.
    """
    found = np.zeros((len(paths), 3), dtype=np.int32)
    with warnings.catch_warnings(action="ignore"):
        for place, path in enumerate(paths):
            with _opened(path, None, BAD_INPUT) as image:
                found[place] = facts(image)
    return found


@contextmanager
def _opened(path: str | bytes, members: ZipFile | None, exit_code: int) -> Iterator[Any]:
    """Open an image without decoding it. Any exception in the context becomes an error that names the image."""
    from PIL import Image, UnidentifiedImageError

    name = os.fsdecode(path)
    try:
        # an open file, not its name: given a name, Pillow maps a TIFF, and mixes up the sides of a rotated one
        with (
            BytesIO(members.read(name)) if members else open_file(Path(name)) as file,
            Image.open(file, formats=FORMATS) as image,
        ):
            yield image
    except PactlError as error:
        raise PactlError(f"{name} {error.message}", error.hint, exit_code) from error
    except UnidentifiedImageError as error:
        formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise PactlError(f"{name} is not a readable image: it is not {formats}", "leave it out", exit_code) from error
    except Exception as error:  # a hostile file makes Pillow raise almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PactlError(f"{name} is not a readable image: {reason}", "leave out or replace it", exit_code) from error
