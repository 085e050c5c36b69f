"""Examples that do not fit into memory: their images are decoded from files by worker processes, batch by batch."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import file_digest, sha256
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.dataset import Examples, fingerprint
from pactl_cli.data.files.capacity import available_memory
from pactl_cli.data.files.decoding import Decoder, Frame
from pactl_cli.data.files.image_listing import Samples
from pactl_cli.data.files.progress import Progress, unheard
from pactl_cli.data.files.workers import mapped, useful_workers
from pactl_cli.data.views import Augmentation
from pactl_cli.errors import BAD_INPUT, PactlError
from pactl_cli.models.inputs import InputSpec

Paths = NDArray[np.bytes_]

_READ_AT_ONCE = 4096
_DECODED_AT_ONCE = 64


class Files:
    """Paths of files, and, once it was asked for, the sha256 of each.

    Attributes:
        sides: height and width of each picture where those of the data set differ, shape (n, 2); else None.
    """

    def __init__(self, paths: Sequence[str], sides: NDArray[np.int32] | None = None) -> None:
        self.sides = sides
        self.paths: Paths = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)
        self._digests = np.zeros((len(paths), 32), dtype=np.uint8)
        self._known = np.zeros(len(paths), dtype=bool)

    def digests(self, rows: NDArray[np.int64], progress: Progress) -> NDArray[np.uint8]:
        """The sha256 of the files at `rows`, shape (m, 32); those not known yet are read by several threads.

        Raises:
            PactlError: if a file cannot be read.
        """
        missing = rows[~self._known[rows]]
        with ThreadPoolExecutor(1 + useful_workers()) as threads:
            for start in range(0, len(missing), _READ_AT_ONCE):
                part = missing[start : start + _READ_AT_ONCE]
                for row, digest in zip(part, threads.map(_file_sha256, self.paths[part]), strict=True):
                    self._digests[row] = np.frombuffer(digest, dtype=np.uint8)
                self._known[part] = True
                progress(start + len(part), len(missing))
        return self._digests[rows]


def _file_sha256(path: bytes) -> bytes:
    try:
        with open(path, "rb") as file:
            return file_digest(file, "sha256").digest()
    except OSError as error:
        raise PactlError(f"{os.fsdecode(path)} cannot be read: {error.strerror}", "restore the file") from error


@dataclass(frozen=True)
class FileExamples:
    """Streamed examples: the image of example i is in file `rows[i]`; labels, shape (n,), are resident.

    Attributes:
        workers: processes that decode; 0 for this one, None for as many as are useful.
        by_file: whether the files stand for the images where these are identified: in fingerprints.
    """

    files: Files
    rows: NDArray[np.int64]
    labels: Tensor
    frame: Frame
    workers: int | None = None
    by_file: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Tensor) -> FileExamples:
        return replace(self, rows=self.rows[indices.cpu().numpy()], labels=self.labels[indices])

    @property
    def spec(self) -> InputSpec:
        """Images of bytes."""
        return InputSpec.image(*self.frame.shape)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """That pixels are a function of the file, where only the files are in the fingerprint."""
        if not self.by_file:
            return ()
        return (
            "Another machine decodes and scales the image files to the same pixels: the fingerprint is of the files, "
            "and the numerical margin does not cover another image decoder.",
        )

    def to(self, device: torch.device) -> FileExamples:
        """The same examples, their batches on `device`."""
        return replace(self, labels=self.labels.to(device))

    def with_labels(self, labels: Tensor) -> FileExamples:
        """The same images with other labels."""
        return replace(self, labels=labels)

    def with_workers(self, count: int | None) -> FileExamples:
        """The same examples, decoded by `count` processes."""
        return replace(self, workers=count)

    def batches(
        self, parts: Sequence[Tensor], augmentation: Augmentation | None = None
    ) -> Generator[Examples, None, None]:
        """The examples of each index tensor, decoded a few batches ahead.

        Where images are scaled, a view that is drawn image by image takes the place of their frame, with the decoding.
        All other views are of framed images, on the device, as those of resident examples are.
        """
        look = whole = None
        if augmentation is not None and augmentation.is_one_by_one and self.frame.shorter_side is not None:
            whole = augmentation
        elif augmentation is not None:
            look = augmentation.over(len(self), self.labels.device)
        with closing(self._decoded(parts, whole)) as decoded:
            for part, images in zip(parts, decoded, strict=True):
                images = images.to(self.labels.device)
                yield Examples(look(images, part) if look else images, self.labels[part])

    def _decoded(
        self, parts: Sequence[Tensor], augmentation: Augmentation | None = None
    ) -> Generator[Tensor, None, None]:
        """The images of each index tensor, on the CPU; not framed, but seen as the augmentation says, if there is one.

        Args:
            augmentation: by a view that is drawn image by image.
        """
        keys = look = None
        if augmentation is not None:
            keys, look = augmentation.keys(len(self)), augmentation.look_at_one(*self.frame.shape[1:])
        places = (part.cpu().numpy() for part in parts)
        requests = ((self.files.paths[self.rows[place]], None if keys is None else keys[place]) for place in places)
        workers = useful_workers() if self.workers is None else self.workers
        return mapped(Decoder(self.frame, look=look), requests, len(parts), workers)

    def _in_order(self) -> tuple[Tensor, ...]:
        parts: tuple[Tensor, ...] = torch.arange(len(self)).split(_DECODED_AT_ONCE)
        return parts

    def resident(self) -> Examples:
        """All of them, decoded, on their device."""
        with closing(self.batches(self._in_order())) as batches:
            images = torch.cat([batch.images for batch in batches])
        return Examples(images, self.labels)

    def sha256(self, progress: Progress = unheard) -> str:
        """A fingerprint of every image and label, in order.

        It is what they would give as resident examples; or of the files, where these stand for the images: their
        sha256, one after the other, and the frame.

        Raises:
            PactlError: if a file cannot be read.
        """
        if not self.by_file:
            return self._decoded_sha256(progress)
        digest = sha256(f"files of {self.frame.shape} after {self.frame.shorter_side}".encode())
        digest.update(self.files.digests(self.rows, progress).data)
        digest.update(self.labels.cpu().numpy().astype("<i8").data)
        return digest.hexdigest()

    def _decoded_sha256(self, progress: Progress) -> str:
        def pieces() -> Iterable[NDArray[np.uint8]]:
            with closing(self._decoded(self._in_order())) as decoded:
                for place, images in enumerate(decoded):
                    yield images.numpy()
                    progress(min(len(self), (place + 1) * _DECODED_AT_ONCE), len(self))

        try:
            return fingerprint((len(self), *self.frame.shape), pieces(), self.labels)
        except PactlError as error:  # before any work has begun
            raise PactlError(error.message, error.hint, BAD_INPUT) from error


def streamed(samples: Samples, frame: Frame) -> FileExamples:
    """Return examples from pairs of a path and a label, as `list_images` lists them; scaled ones are identified by
    their files."""
    return _of_files(samples, frame, by_file=frame.shorter_side is not None)


def unsized(samples: Samples, channels: int, sides: NDArray[np.int32]) -> FileExamples:
    """Return examples of several sizes. Until a size is given, each stands as a single pixel.

    Args:
        sides: height and width of each.
    """
    return _of_files(samples, Frame.square(channels, 1), sides, by_file=True)


def _of_files(samples: Samples, frame: Frame, sides: NDArray[np.int32] | None = None, *, by_file: bool) -> FileExamples:
    labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
    files = Files([path for path, _ in samples], sides)
    return FileExamples(files, np.arange(len(samples)), labels, frame, by_file=by_file)


def exceeds_memory(images: int, frame: Frame) -> bool:
    """Whether that many images, decoded, would take more than half of the memory that is available."""
    return images * prod(frame.shape) > available_memory() // 2
