"""Examples that do not fit into memory: worker processes decode their image files batch by batch."""

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
    """Paths of files and the sha256 of each, computed on demand and kept.

    Attributes:
        sides: height and width of each picture, shape (n, 2), if the pictures of the data set differ in size.
    """

    def __init__(self, paths: Sequence[str], sides: NDArray[np.int32] | None = None) -> None:
        self.sides = sides
        self.paths: Paths = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)
        self._digests = np.zeros((len(paths), 32), dtype=np.uint8)
        self._known = np.zeros(len(paths), dtype=bool)

    def digests(self, rows: NDArray[np.int64], progress: Progress) -> NDArray[np.uint8]:
        """Return the sha256 of the files at `rows`, shape (m, 32). Several threads hash those not known yet.

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
    """Streamed examples: the image of example i is in file `rows[i]`. Labels, shape (n,), are resident.

    Attributes:
        workers: number of decoding processes; 0 for this process alone, None for as many as are useful.
        by_file: whether fingerprints are of the files, not of the decoded images.
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
        """The kind, shape and type of one image."""
        return InputSpec.image(*self.frame.shape)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """The assumption that files determine pixels, if the fingerprint is of the files."""
        if not self.by_file:
            return ()
        return (
            "Another machine decodes and scales the image files to the same pixels: the fingerprint is of the files, "
            "and the numerical margin does not cover another image decoder.",
        )

    def to(self, device: torch.device) -> FileExamples:
        """Return the same examples, with their batches on `device`."""
        return replace(self, labels=self.labels.to(device))

    def with_labels(self, labels: Tensor) -> FileExamples:
        """Return the same images with other labels."""
        return replace(self, labels=labels)

    def with_workers(self, count: int | None) -> FileExamples:
        """Return the same examples, to be decoded by `count` processes."""
        return replace(self, workers=count)

    def batches(
        self, parts: Sequence[Tensor], augmentation: Augmentation | None = None
    ) -> Generator[Examples, None, None]:
        """Yield the augmented examples of each index tensor in turn, decoded a few batches ahead.

        If images are scaled, a view drawn image by image replaces the frame, and the workers apply it. Every other
        view is applied on the device to framed images, as for resident examples.
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
        """Yield the images of each index tensor, on the CPU.

        Args:
            augmentation: one that is drawn image by image, applied in place of the frame.
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
        """Decode and return all examples on their device."""
        with closing(self.batches(self._in_order())) as batches:
            images = torch.cat([batch.images for batch in batches])
        return Examples(images, self.labels)

    def sha256(self, progress: Progress = unheard) -> str:
        """Return a fingerprint of every image and label, in order.

        It is the one of the same resident examples; or, if `by_file`, of the frame and the sha256 of each file.

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
    """Return examples of listed image files. If their frame scales them, their fingerprints are of the files."""
    return _of_files(samples, frame, by_file=frame.shorter_side is not None)


def unsized(samples: Samples, channels: int, sides: NDArray[np.int32]) -> FileExamples:
    """Return examples of images that differ in size. Until a size is given, each has a frame of a single pixel.

    Args:
        sides: height and width of each image, shape (n, 2).
    """
    return _of_files(samples, Frame.square(channels, 1), sides, by_file=True)


def _of_files(samples: Samples, frame: Frame, sides: NDArray[np.int32] | None = None, *, by_file: bool) -> FileExamples:
    labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
    files = Files([path for path, _ in samples], sides)
    return FileExamples(files, np.arange(len(samples)), labels, frame, by_file=by_file)


def exceeds_memory(images: int, frame: Frame) -> bool:
    """Return whether so many decoded images would take more than half of the available memory."""
    return images * prod(frame.shape) > available_memory() // 2
