"""Reading of many image files into one array, and of their headers, by several processes if it is worth it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pactl_cli.data.files.capacity import cores
from pactl_cli.data.files.decoding import Decoder, Frame, Request, headers
from pactl_cli.data.files.progress import Progress
from pactl_cli.data.files.workers import mapped_or_here
from pactl_cli.errors import PactlError

_CHUNK = 128
_CHUNK_BYTES = 1 << 24
_FEW_BYTES = 1 << 26
"""So much is decoded in this process, because workers would take as long to start."""
_FEW_HEADERS = 20_000
_MOST_WORKERS = 16

Pixels = NDArray[np.uint8]
Headers = NDArray[np.int32]
"""Height and width of each picture, and whether it is grey, shape (n, 3)."""


@dataclass(frozen=True)
class Pictures:
    """At least one image file, in order.

    Attributes:
        name: of the data set, as in `--dataset`.
        paths: of the files, or names in `archive`.
        frame: the transform that brings them to one size.
        archive: path of a zip archive; "" for files.
    """

    name: str
    paths: tuple[str, ...]
    frame: Frame
    archive: str = ""

    def read(self, progress: Progress) -> Pixels:
        """Return all images, shape (n, C, H, W).

        Raises:
            PactlError: naming the first that is not an image, or does not have the frame's size.
        """
        count = len(self.paths)
        try:
            images = np.empty((count, *self.frame.shape), dtype=np.uint8)
            step = max(1, min(_CHUNK, _CHUNK_BYTES * count // images.nbytes))
            requests: list[Request] = [(self.paths[start : start + step], None) for start in range(0, count, step)]
            workers = _workers() if images.nbytes > _FEW_BYTES else 0
            done = 0
            with closing(mapped_or_here(Decoder(self.frame, self.archive), requests, workers)) as decoded:
                for some in decoded:
                    images[done : done + len(some)] = some.numpy()
                    done += len(some)
                    progress(done, count)
            return images
        except PactlError as error:
            raise _of_dataset(self.name, error) from error


def read_headers(name: str, paths: Sequence[str], progress: Progress) -> Headers:
    """Return the headers of image files, in order.

    Raises:
        PactlError: naming the first that is not an image, or that no rule covers.
    """
    requests = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    found: list[Headers] = []
    try:
        with closing(mapped_or_here(headers, requests, _workers() if len(paths) > _FEW_HEADERS else 0)) as parts:
            for part in parts:
                found.append(part)
                progress(min(len(paths), len(found) * _CHUNK), len(paths))
    except PactlError as error:
        raise _of_dataset(name, error) from error
    return np.concatenate(found)


def _workers() -> int:
    return min(cores(), _MOST_WORKERS)


def _of_dataset(name: str, error: PactlError) -> PactlError:
    return PactlError(f"--dataset {name}: {error.message}", error.hint)
