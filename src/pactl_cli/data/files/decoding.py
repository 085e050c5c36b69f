"""Image files to pixels of one size: the one place where images are opened."""

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
"""Paths, and the key of each one's random view; None for the pictures in their frame."""

_LONGEST = 8
"""Of a picture that is longer than this many times its shorter side, only the middle is looked at."""


@dataclass(frozen=True)
class Frame:
    """What brings the picture of every file to one size, the same at every look.

    Attributes:
        shape: channels (1: grey, 3: colour), height and width.
        shorter_side: to which an image is scaled before its middle is cut out; None if all images have the right size.
    """

    shape: tuple[int, int, int]
    shorter_side: int | None = None

    @classmethod
    def square(cls, channels: int, side: int) -> Frame:
        """Return the frame of `--image-size`: the shorter side scaled to that of a square, and the middle cut out."""
        return cls((channels, side, side), side)

    @property
    def mode(self) -> str:
        """Pillow's name for the pixels."""
        return GREY if self.shape[0] == 1 else COLOUR

    def fit(self, image: Any) -> Any:
        """Return the picture, scaled and cut where it is to be: as torchvision's Resize and CenterCrop do it.

        Pillow averages over all pixels that one covers; where a pixel is a byte, in integers.
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
    """Decodes image files by path, or members of a zip archive by name. It can be pickled until it is used.

    Attributes:
        archive: the archive's path; "" for files.
        look: a random view, which takes the place of the frame: a function of the picture and its key.
    """

    frame: Frame
    archive: str = ""
    look: Callable[[Any, int], Any] | None = None

    def __call__(self, request: Request) -> Tensor:
        """Return the images of some files, shape (m, C, H, W), uint8.

        Raises:
            PactlError: with exit code 1 if one is no image, or not of the right size, or there is no memory to share.
        """
        paths, keys = request
        images = shared_tensor(len(paths), *self.frame.shape)
        pixels = images.numpy()
        with warnings.catch_warnings(action="ignore"):  # Pillow's, about metadata that is of no use here
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
    """Return the picture in a file, at its own size unless `fit` gives it another, shape (C, H, W).

    Raises:
        PactlError: with exit code 1 if it is none.
    """
    with warnings.catch_warnings(action="ignore"), _opened(path, None, FAILED) as image:
        return np.moveaxis(np.atleast_3d(np.asarray(fit(picture(image, mode)))), -1, 0)


def headers(paths: Sequence[str]) -> NDArray[np.int32]:
    """Return height, width, and whether it is grey, of the picture in each file, shape (m, 3).

    Raises:
        PactlError: naming the first that is none, or that no rule says how to read.
    """
    found = np.zeros((len(paths), 3), dtype=np.int32)
    with warnings.catch_warnings(action="ignore"):
        for place, path in enumerate(paths):
            with _opened(path, None, BAD_INPUT) as image:
                found[place] = facts(image)
    return found


@contextmanager
def _opened(path: str | bytes, members: ZipFile | None, exit_code: int) -> Iterator[Any]:
    """An image, not yet decoded; within the context, whatever goes wrong with it is an error that names it."""
    from PIL import Image, UnidentifiedImageError

    name = os.fsdecode(path)
    try:
        # an open file, not its name: by name Pillow maps a TIFF, and gets its sides wrong where it is to be turned
        with (
            BytesIO(members.read(name)) if members else open_file(Path(name)) as file,
            Image.open(file, formats=FORMATS) as image,
        ):
            yield image
    except PactlError as error:
        raise PactlError(f"{name} {error.message}", error.hint, exit_code) from error
    except UnidentifiedImageError as error:
        formats = ", ".join(FORMATS)
        raise PactlError(f"{name} is not a readable image: it is none of {formats}", "remove it", exit_code) from error
    except Exception as error:  # a hostile file makes Pillow raise almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PactlError(f"{name} is not a readable image: {reason}", "remove or replace it", exit_code) from error
