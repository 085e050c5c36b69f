"""Image files of one size as one array, decoded by several processes where they are many."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.files.capacity import cores
from pactl_cli.data.files.decoding import Decoder, Request, frame_of
from pactl_cli.data.files.progress import Progress
from pactl_cli.data.files.workers import mapped
from pactl_cli.errors import PactlError

_CHUNK = 128
_CHUNK_BYTES = 1 << 24
_FEW_BYTES = 1 << 26
"""So much is decoded here: workers would take as long to start."""
_MOST_WORKERS = 16

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """Image files of one size, in order, at least one.

    Attributes:
        name: of the data set, as in `--dataset`.
        paths: of the files, or names in `archive`.
        archive: path of a zip archive; "" for files.
        mode: "L" or "RGB"; "" for grey if the first one is, else colour.
    """

    name: str
    paths: tuple[str, ...]
    archive: str = ""
    mode: str = ""

    def read(self, progress: Progress) -> Pixels:
        """All of them, shape (n, C, H, W).

        Raises:
            PactlError: naming the first that is no image, or has another size than the first.
        """
        try:
            frame = frame_of(self.paths[0], self.archive, self.mode)
            images = np.empty((len(self.paths), *frame.shape), dtype=np.uint8)
            done = 0
            with closing(self._decoded(Decoder(frame, self.archive), images.nbytes)) as decoded:
                for some in decoded:
                    images[done : done + len(some)] = some.numpy()
                    done += len(some)
                    progress(done, len(images))
            return images
        except PactlError as error:
            raise PactlError(f"--dataset {self.name}: {error.message}", error.hint) from error

    def _decoded(self, decode: Decoder, size_bytes: int) -> Generator[Tensor, None, None]:
        """The images, some at a time; all that workers have failed at, in this process, where a bad one is named."""
        count = len(self.paths)
        step = max(1, min(_CHUNK, _CHUNK_BYTES * count // size_bytes))
        requests: list[Request] = [(self.paths[start : start + step], None) for start in range(0, count, step)]
        workers = min(cores(), _MOST_WORKERS) if size_bytes > _FEW_BYTES else 0
        done = 0
        with suppress(PactlError), closing(mapped(decode, requests, len(requests), workers)) as results:
            for images in results:
                yield images
                done += 1
        yield from map(decode, requests[done:])
