"""Image files of one size as one array, decoded on all cores where they are many."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from pactl_cli.data.files.decoding import Decoder
from pactl_cli.data.files.progress import Progress
from pactl_cli.errors import PactlError

_CHUNK = 128
_CHUNK_BYTES = 1 << 24
_FEW = 1024
"""So many are decoded here: a worker would take as long to start."""
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
        first = self._decoded(Decoder(self.archive, self.mode), self.paths[0])
        mode = "L" if len(first) == 1 else "RGB"
        decode = Decoder(self.archive, mode)
        images = np.empty((len(self.paths), *first.shape), dtype=np.uint8)
        step = max(1, min(_CHUNK, _CHUNK_BYTES // first.nbytes))
        chunks = [slice(start, min(start + step, len(images))) for start in range(0, len(images), step)]
        workers = min(_cores(), _MOST_WORKERS) if len(images) > _FEW else 0
        with _Workers(workers, self.archive, mode, first.shape) as others:
            for chunk, filled in zip(chunks, others.fill(images, self.paths, chunks), strict=True):
                if not filled:  # then here, where a bad image is named
                    self._fill(images[chunk], self.paths[chunk], decode)
                progress(chunk.stop, len(images))
        return images

    def _fill(self, out: Pixels, paths: tuple[str, ...], decode: Decoder) -> None:
        """Decodes some of the files in this process."""
        for image, path in zip(out, paths, strict=True):
            pixels = self._decoded(decode, path)
            if pixels.shape != image.shape:
                raise PactlError(
                    f"--dataset {self.name}: {path} has another size than the first image", "resize all to one size"
                )
            image[...] = pixels

    def _decoded(self, decode: Decoder, path: str) -> Pixels:
        try:
            return decode(path)
        except Exception as error:  # a hostile file makes Pillow raise almost anything
            raise PactlError(
                f"--dataset {self.name}: {path} is not a readable image: {error}", "remove or replace it"
            ) from error


class _Workers:
    """Other processes that decode. Threads would not do: most of the time of a small image is Python's own.

    Args:
        count: how many.
        archive: as a `Decoder` takes it, like `mode`.
        shape: of every image.
    """

    def __init__(self, count: int, archive: str, mode: str, shape: tuple[int, ...]) -> None:
        self._command = [sys.executable, "-P", "-m", "pactl_cli.data.files.decoding", archive, mode, *map(str, shape)]
        self._pool = ThreadPoolExecutor(max(1, count))  # a thread for each worker, to wait for it
        self._count = count
        self._processes = ExitStack()
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()

    def __enter__(self) -> _Workers:
        for _ in range(self._count):
            with suppress(OSError):  # no more processes allowed
                self._idle.put(self._started())
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._processes.close()

    def fill(self, images: Pixels, paths: tuple[str, ...], chunks: list[slice]) -> Iterable[bool]:
        """Whether the workers have filled each chunk of the array; if not, some image is bad, or a worker died."""
        if self._idle.empty():
            return [False] * len(chunks)

        def fill(chunk: slice) -> bool:
            worker = self._idle.get()
            try:
                return _answered(worker, images[chunk], paths[chunk])
            finally:
                self._idle.put(worker)

        return self._pool.map(fill, chunks)

    def _started(self) -> subprocess.Popen[bytes]:
        """One more worker. In a session of its own, so that Ctrl-C is not for it: it ends with its stdin."""
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._processes.callback(process.communicate)
        self._processes.callback(process.kill)
        return process


def _answered(worker: subprocess.Popen[bytes], out: Pixels, paths: tuple[str, ...]) -> bool:
    """Whether a worker has filled the array with the images of these files."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(json.dumps(paths).encode() + b"\n")
        worker.stdin.flush()
        return bool(worker.stdout.readinto(out.data.cast("B")) == out.nbytes)  # type: ignore[attr-defined]
    except OSError:
        return False


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
