"""Image files to pixels; run as a program, for another process that has many of them.

It imports neither torch nor the rest of the package: a worker starts at once.
"""

from __future__ import annotations

import json
import sys
from io import BytesIO
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Decoder:
    """Opens image files by path, or members of a zip archive by name.

    Args:
        archive: the archive's path; "" for files.
        mode: "L" or "RGB"; "" for "L" where the image is grey, else "RGB".
    """

    def __init__(self, archive: str, mode: str) -> None:
        self._archive = ZipFile(archive) if archive else None
        self._mode = mode

    def __call__(self, path: str) -> NDArray[np.uint8]:
        """The pixels, shape (1, H, W) if grey, else (3, H, W). What no image is makes Pillow raise almost anything."""
        with Image.open(BytesIO(self._archive.read(path)) if self._archive else path) as image:
            pixels = np.asarray(image.convert(self._mode or ("L" if image.mode in ("1", "L") else "RGB")))
        return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def serve(archive: str, mode: str, *shape: str) -> None:
    """Answers each line on stdin, a JSON list of paths, with their pixels on stdout; ends at the first bad image.

    Args:
        archive: as a `Decoder` takes it, like `mode`.
        shape: that each image must have.
    """
    decode = Decoder(archive, mode)
    for line in sys.stdin.buffer:
        pixels = [decode(path) for path in json.loads(line)]
        if any(image.shape != tuple(map(int, shape)) for image in pixels):
            return
        sys.stdout.buffer.write(np.stack(pixels).tobytes())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve(*sys.argv[1:])
