"""Examples that do not fit into memory: their images are decoded from files by worker processes, batch by batch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from hashlib import file_digest, sha256
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.dataset import Examples, fingerprint
from pactl_cli.data.files.capacity import available_memory
from pactl_cli.data.files.progress import Progress, unheard
from pactl_cli.data.files.workers import mapped, shared_tensor, useful_workers
from pactl_cli.data.views import Augmentation
from pactl_cli.errors import BAD_INPUT, FAILED, PactlError
from pactl_cli.models.inputs import InputSpec

Paths = NDArray[np.bytes_]
Keys = NDArray[np.int64]

_READ_AT_ONCE = 4096
_DECODED_AT_ONCE = 64


@dataclass(frozen=True)
class View:
    """What of an image file a network sees.

    Attributes:
        shape: channels (1: grey, 3: colour), height and width.
        shorter_side: to which an image is scaled before its centre is cut out; None if all images have the right size.
    """

    shape: tuple[int, int, int]
    shorter_side: int | None = None

    def decode(self, path: bytes, key: int | None = None) -> NDArray[np.uint8]:
        """The pixels of a file, shape (C, H, W).

        Args:
            key: of a random view where images are scaled, drawn as torchvision's RandomResizedCrop and
                RandomHorizontalFlip draw it; None for the fixed one.

        Raises:
            PactlError: with exit code 1 if it is no image, or not of the right size.
        """
        from PIL import Image

        try:
            with Image.open(os.fsdecode(path)) as image:
                pixels = np.asarray(self._seen(image.convert("L" if self.shape[0] == 1 else "RGB"), key))
        except Exception as error:  # a hostile file makes PIL raise almost anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise PactlError(
                f"{os.fsdecode(path)} is not a readable image: {reason}", "remove or replace it", FAILED
            ) from error
        if pixels.shape[:2] != self.shape[1:]:
            raise PactlError(
                f"{os.fsdecode(path)} has another size than the first image", "resize all to one size", FAILED
            )
        return np.moveaxis(np.atleast_3d(pixels), -1, 0)

    def _seen(self, image: Any, key: int | None) -> Any:
        """The scaled and cut image."""
        if self.shorter_side is None:
            return image
        from torchvision import transforms

        if key is None:
            fixed = (transforms.Resize(self.shorter_side), transforms.CenterCrop(self.shape[1:]))
            return transforms.Compose(fixed)(image)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key)
            drawn = (transforms.RandomResizedCrop(self.shape[1:]), transforms.RandomHorizontalFlip())
            return transforms.Compose(drawn)(image)


def _decode_batch(view: View, request: tuple[Paths, Keys | None]) -> Tensor:
    """The images of some files, shape (m, C, H, W), uint8."""
    paths, keys = request
    images = shared_tensor(len(paths), *view.shape)
    pixels = images.numpy()
    with warnings.catch_warnings(action="ignore"):  # Pillow's, about metadata that is of no use here
        for place, path in enumerate(paths):
            pixels[place] = view.decode(path, None if keys is None else int(keys[place]))
    return images


class Files:
    """Paths of files, and, once it was asked for, the sha256 of each."""

    def __init__(self, paths: Sequence[str]) -> None:
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
    """

    files: Files
    rows: NDArray[np.int64]
    labels: Tensor
    view: View
    workers: int | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Tensor) -> FileExamples:
        return replace(self, rows=self.rows[indices.cpu().numpy()], labels=self.labels[indices])

    @property
    def spec(self) -> InputSpec:
        """Images of bytes."""
        return InputSpec.image(*self.view.shape)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """That pixels are a function of the file, where only the files are in the fingerprint."""
        if self.view.shorter_side is None:
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

        An augmentation crops and mirrors images of their own size on the device, as it does resident ones. Where
        images are scaled, it is the scaled crop that is random, and made with the decoding.
        """
        crops = keys = None
        if augmentation is not None and self.view.shorter_side is None:
            crops = augmentation.crops(len(self), self.labels.device)
        elif augmentation is not None:
            keys = augmentation.keys(len(self))
        with closing(self._decoded(parts, keys)) as decoded:
            for part, images in zip(parts, decoded, strict=True):
                images = images.to(self.labels.device)
                yield Examples(crops[part].cut(images) if crops else images, self.labels[part])

    def _decoded(self, parts: Sequence[Tensor], keys: Keys | None = None) -> Generator[Tensor, None, None]:
        """The images of each index tensor, on the CPU."""
        places = (part.cpu().numpy() for part in parts)
        requests = ((self.files.paths[self.rows[place]], None if keys is None else keys[place]) for place in places)
        workers = useful_workers() if self.workers is None else self.workers
        return mapped(partial(_decode_batch, self.view), requests, len(parts), workers)

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

        Images of their own size give what they would give as resident examples. Where images are scaled, it is of
        the files: their sha256, one after the other, and the view.

        Raises:
            PactlError: if a file cannot be read.
        """
        if self.view.shorter_side is None:
            return self._decoded_sha256(progress)
        digest = sha256(f"files seen as {self.view}".encode())
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
            return fingerprint((len(self), *self.view.shape), pieces(), self.labels)
        except PactlError as error:  # before any work has begun
            raise PactlError(error.message, error.hint, BAD_INPUT) from error


def streamed(samples: Sequence[tuple[str, int]], view: View) -> FileExamples:
    """Examples from pairs of a path and a label, as `list_images` lists them."""
    labels = torch.tensor([label for _, label in samples])
    return FileExamples(Files([path for path, _ in samples]), np.arange(len(samples)), labels, view)


def view_of(path: str) -> View:
    """How images of the size of one file are seen: grey if that one is, else in colour.

    Raises:
        PactlError: if it is no image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return View((1 if image.mode in ("1", "L") else 3, image.height, image.width))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PactlError(f"{path} is not a readable image: {error}", "remove or replace it") from error


def exceeds_memory(images: int, view: View) -> bool:
    """Whether that many images, decoded, would take more than half of the memory that is available."""
    return images * prod(view.shape) > available_memory() // 2
