"""Image files to pixels of one size: the one place where images are opened."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.files.workers import shared_tensor
from pactl_cli.errors import BAD_INPUT, FAILED, PactlError

Request = tuple[Sequence[str | bytes], Sequence[int] | None]
"""Paths, and the key of each one's random view; None for the pictures in their frame."""


@dataclass(frozen=True)
class Frame:
    """What brings the picture of every file to one size, the same at every look.

    Attributes:
        shape: channels (1: grey, 3: colour), height and width.
        shorter_side: to which an image is scaled before its middle is cut out; None if all images have the right size.
    """

    shape: tuple[int, int, int]
    shorter_side: int | None = None

    def fit(self, image: Any) -> Any:
        """Return the picture, scaled and cut where it is to be."""
        if self.shorter_side is None:
            return image
        from torchvision import transforms

        return transforms.Compose((transforms.Resize(self.shorter_side), transforms.CenterCrop(self.shape[1:])))(image)


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
            picture = image.convert("L" if self.frame.shape[0] == 1 else "RGB")
            if key is None:
                picture = self.frame.fit(picture)
        if self.look is not None and key is not None:
            picture = self.look(picture, key)
        pixels = np.atleast_3d(np.asarray(picture))
        if pixels.shape[:2] != self.frame.shape[1:]:
            raise PactlError(
                f"{os.fsdecode(path)} has another size than the first image", "resize all to one size", FAILED
            )
        return np.moveaxis(pixels, -1, 0)


def frame_of(path: str, archive: str = "", mode: str = "") -> Frame:
    """Return the frame of images that all have the size of one file.

    Args:
        archive: as a `Decoder` takes it.
        mode: "L" or "RGB"; "" for grey if that one is, else colour.

    Raises:
        PactlError: if it is no image.
    """
    with ExitStack() as stack:
        members = stack.enter_context(ZipFile(archive)) if archive else None
        image = stack.enter_context(_opened(path, members, BAD_INPUT))
        is_grey = mode == "L" or (not mode and image.mode in ("1", "L"))
        return Frame((1 if is_grey else 3, image.height, image.width))


@contextmanager
def _opened(path: str | bytes, members: ZipFile | None, exit_code: int) -> Iterator[Any]:
    """An image, not yet decoded; within the context, whatever goes wrong with it is an error that names it."""
    from PIL import Image

    name = os.fsdecode(path)
    try:
        with Image.open(BytesIO(members.read(name)) if members else name) as image:
            yield image
    except Exception as error:  # a hostile file makes Pillow raise almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PactlError(f"{name} is not a readable image: {reason}", "remove or replace it", exit_code) from error
