"""Resizing of images to `--image-size`: the shorter side is scaled to it, and the centre is cropped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.dataset import Dataset, LabelledExamples, resident_parts
from pactl_cli.data.files.capacity import cores
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.decoded_cache import DecodedCache
from pactl_cli.data.files.decoding import Frame
from pactl_cli.data.files.pictures import Pictures
from pactl_cli.data.files.progress import Progress, unheard
from pactl_cli.data.lazy_examples import Rows, with_rows
from pactl_cli.data.streaming import FileExamples, exceeds_memory
from pactl_cli.errors import PactlError
from pactl_cli.models.inputs import IMAGE, InputSpec

_AT_ONCE = 256
_ORDINARY_SIDE, _STEP = 224, 32
"""The largest image size that an error proposes, and the step between sizes."""


def resized(dataset: Dataset, size: int | None, data_dir: DataDirectory, progress: Progress = unheard) -> Dataset:
    """Return the data set with its images in a square of `size`; None keeps their size.

    Images that do not fit into memory are resized, or decoded, by batch.

    Args:
        data_dir: where decoded images are kept.

    Raises:
        PactlError: if the inputs are not images, or cannot be read, or differ in size and `size` is None.
    """
    train = dataset.train
    if isinstance(train, FileExamples):
        if size is not None:
            return _of_files(dataset, Frame.square(train.frame.shape[0], size), data_dir, progress)
        _require_one_size(dataset)
    if size is None or train.spec.sides == (size, size):
        return dataset
    if train.spec.kind != IMAGE:
        raise PactlError(f"--image-size {size}: the data are {train.spec}, not images", "leave it out")
    if not (train.spec.is_image_of_bytes or _dtype(train.spec) == torch.float32):
        raise PactlError(f"--image-size {size}: the pixels are integers of 64 bits", "save them as uint8 or float32")
    return dataset.each(lambda examples: with_rows(examples, partial(_ResizedRows, size=size), progress))


def _dtype(spec: InputSpec) -> torch.dtype:
    return spec.tensors[0][1].dtype


def _require_one_size(dataset: Dataset) -> None:
    """Raise PactlError if pictures differ in size, and name one of an unusual size."""
    files = [part.files for part in dataset.parts if isinstance(part, FileExamples)]
    sides = np.concatenate([some.sides for some in files if some.sides is not None] or [np.zeros((0, 2), np.int32)])
    if not len(sides):
        return
    sizes, counts = np.unique(sides, axis=0, return_counts=True)
    usual = sizes[counts.argmax()]
    other = int((sides != usual).any(axis=1).argmax())
    middle = min(int(np.median(sides.min(axis=1))), _ORDINARY_SIDE)
    proposed = middle // _STEP * _STEP or middle
    raise PactlError(
        f"--dataset {dataset.name} has images of several sizes: {counts.max():,} of {len(sides):,} have the size "
        f"{usual[0]} x {usual[1]}, {os.fsdecode(np.concatenate([some.paths for some in files])[other])} has "
        f"{sides[other, 0]} x {sides[other, 1]}",
        f"--image-size {proposed} scales the shorter side of each to {proposed}, and cuts out the middle",
    )


def _of_files(dataset: Dataset, frame: Frame, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Return pictures from files in a frame: decoded once if they fit into memory, else streamed."""
    parts = [part for part in dataset.parts if isinstance(part, FileExamples)]
    if exceeds_memory(sum(map(len, parts)), frame):
        framed: Sequence[LabelledExamples] = [replace(part, frame=frame, by_file=False) for part in parts]
    else:
        paths = tuple(os.fsdecode(path) for part in parts for path in part.files.paths[part.rows])
        kind, _, place = dataset.name.partition(":")
        source = os.path.abspath(os.path.expanduser(place)) if place else data_dir.path
        cache = DecodedCache(f"{kind}:{source} in {frame}", paths, data_dir)
        images = torch.from_numpy(cache.images(Pictures(dataset.name, paths, frame), progress))
        framed = resident_parts(images, *(part.labels.tolist() for part in parts))
    return replace(dataset, train=framed[0], test=framed[1] if len(parts) > 1 else None)


@dataclass(frozen=True)
class _ResizedRows:
    """Images that are resized when they are read."""

    rows: Rows
    size: int

    @property
    def spec(self) -> InputSpec:
        """The kind, shape and type of one resized image."""
        spec = self.rows.spec
        return InputSpec.image(spec.channels, self.size, self.size, _dtype(spec))

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the images of some rows, shape (m, C, size, size)."""
        frame = Frame.square(self.spec.channels, self.size)
        made = torch.empty((len(rows), *frame.shape), dtype=_dtype(self.spec))
        with ThreadPoolExecutor(cores()) as threads:  # Pillow releases Python's lock while it resizes
            for start in range(0, len(rows), _AT_ONCE):  # in chunks, because the originals may be larger
                images = self.rows.read(rows[start : start + _AT_ONCE])
                for place, image in enumerate(threads.map(partial(_in_frame, frame=frame), images), start):
                    made[place] = image
        return made


def _in_frame(image: Tensor, frame: Frame) -> Tensor:
    """Return an image, shape (C, H, W), scaled and cropped plane by plane, which Pillow does for every type."""
    from PIL import Image

    planes = [np.asarray(frame.fit(Image.fromarray(plane))) for plane in image.contiguous().numpy()]
    return torch.from_numpy(np.stack(planes))
