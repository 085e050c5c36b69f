"""Examples recognised again: those that weights were trained on, also in another form, and exact copies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from hashlib import blake2b
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.adaptation import grey
from pactl_cli.data.dataset import LabelledImages
from pactl_cli.data.progress import Progress, unheard
from pactl_cli.data.streaming import FileExamples

Fingerprints = NDArray[np.uint64]
"""64 bits of a hash each."""

_BATCH_VALUES = 1 << 22
"""Numbers at a time: each takes about thirty bytes while it is sorted."""
_LEAST_PIXELS = 16
"""A picture with fewer has too few orders of its pixels to be told from another by them."""
_LEAST_VALUES, _LEAST_CONTENT = 64, 32
"""A row of numbers, such as a row of a table, that has fewer, or fewer unlike its first, is recognised by its exact
values alone."""
_INNER = {32: 28}
"""Sides of which a published set has a smaller sibling: svhn28 is the middle of svhn."""
_ENCODINGS = ((255.0, 0.0), (127.5, 127.5), (1.0, 0.0))
"""Scale and offset of bytes that were written as 0 .. 1, as -1 .. 1, or as they are."""


def image_fingerprints(examples: LabelledImages) -> Fingerprints:
    """The canonical forms of each image, as fingerprints: shape (n, forms). Labels do not matter.

    Two images share one if one is the other in colour or in grey, in bytes or in floating point, scaled, shifted,
    inverted, of another contrast, flattened, in a frame of one value, or cut to the middle as `svhn28` is from `svhn`.
    A form keeps only the order of an image's values, which such a change leaves as it is. Where pixels depend on the
    decoder, the form is the image's file.
    """
    if isinstance(examples, FileExamples) and examples.assumptions:
        return _file_fingerprints(examples, unheard)[:, None]
    found = [np.zeros((0, 1), dtype=np.uint64), *map(_forms, _batches(examples))]
    width = max(rows.shape[1] for rows in found)
    # every batch has the same shape and type, but floating-point colours are not bytes in each: the first form fills up
    return np.concatenate([np.pad(rows, ((0, 0), (0, width - rows.shape[1])), mode="edge") for rows in found[1:]])


def exact_fingerprints(examples: LabelledImages, progress: Progress = unheard) -> Fingerprints:
    """A fingerprint of each image as it is, shape (n,): two are equal where one is a copy of the other.

    Where images are streamed, of their files.
    """
    if isinstance(examples, FileExamples):
        return _file_fingerprints(examples, progress)
    return np.array([_hash(image.tobytes()) for batch in _batches(examples) for image in batch.numpy()], np.uint64)


def _file_fingerprints(examples: FileExamples, progress: Progress) -> Fingerprints:
    files = np.ascontiguousarray(examples.files.digests(examples.rows, progress)[:, :8])
    return files.view("<u8").ravel().astype(np.uint64)


def _batches(examples: LabelledImages) -> Iterator[Tensor]:
    """The images on the CPU, a few at a time."""
    size = max(1, _BATCH_VALUES // prod(examples.image_shape))
    parts = torch.arange(len(examples), device=examples.labels.device).split(size)
    with closing(examples.batches(parts)) as batches:
        for batch in batches:
            yield batch.images.cpu()


def _hash(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


# --- Canonical forms --------------------------------------------------------------------------------------------------


def _forms(images: Tensor) -> Fingerprints:
    """The forms of a batch, shape (m, forms)."""
    channels, height, width = images.shape[1:]
    if min(height, width) == 1 or height * width < _LEAST_PIXELS:
        return _row_forms(images.flatten(1))[:, None]
    forms = _whole_and_unframed(_ranks(images))
    if channels == 3 and (luma := _luma(images)) is not None:
        forms += _whole_and_unframed(_ranks(luma))
    if height == width and height in _INNER and (luma := images if channels == 1 else luma) is not None:
        forms += _whole_and_unframed(_ranks(_cut(luma, (height - _INNER[height]) // 2)))
    plain = _alike(images.flatten(1)[:, None]).numpy()
    forms = [np.where(plain, _hashes(images.float()), form) for form in forms]
    return np.stack(forms, axis=1)


def _row_forms(rows: Tensor) -> Fingerprints:
    """The forms of rows of numbers, shape (m, F): the order of a row's values where it has many, else the values."""
    values = rows.float() + 0.0  # which makes a zero of a negative zero
    form = _hashes(values)
    if rows.shape[1] < _LEAST_VALUES:
        return form
    ranks = _ranks(rows[:, None])[:, 0]
    return np.where(((ranks != ranks[:, :1]).sum(1) >= _LEAST_CONTENT).numpy(), _hashes(ranks), form)


def _whole_and_unframed(ranks: Tensor) -> list[Fingerprints]:
    """Two forms of ranks, shape (m, C, H, W): as they are, and without a frame."""
    return [_hashes(ranks), _unframed(ranks)]


def _unframed(planes: Tensor) -> Fingerprints:
    """A hash of the ranks of images, shape (m, C, H, W), without the rings at their edge that have one value each."""
    found = np.zeros(len(planes), dtype=np.uint64)
    rings = _frame_widths(planes)
    for ring in rings.unique().tolist():
        inner = _cut(planes[rings == ring], ring)
        found[(rings == ring).numpy()] = (
            _unframed(inner) if ring else _hashes(_ranks(inner), str(inner.shape[2:]).encode())
        )
    return found


def _hashes(batch: Tensor, before: bytes = b"") -> Fingerprints:
    """A hash of each item, shape (m, ...); of an image, shape (m, C, H, W), all of whose planes are alike, of one."""
    items = batch.numpy()
    if batch.ndim == 4:
        alike = (batch == batch[:, :1]).flatten(1).all(1).tolist()
        return np.array(
            [_hash(before + (item[:1] if one else item).tobytes()) for item, one in zip(items, alike, strict=True)],
            dtype=np.uint64,
        )
    return np.array([_hash(before + item.tobytes()) for item in items], dtype=np.uint64)


def _ranks(planes: Tensor) -> Tensor:
    """The place of each value among the different values of its plane, from 0, or of its negative: that of the two
    which begins with the lower. Shape (..., H, W) or (..., F), int32."""
    rows = planes.flatten(-2) if planes.ndim == 4 else planes
    values, order = rows.sort(dim=-1)
    steps = torch.zeros(values.shape, dtype=torch.int32)
    steps[..., 1:] = values[..., 1:] != values[..., :-1]
    ranks = torch.empty_like(steps).scatter_(-1, order, steps.cumsum(-1, dtype=torch.int32))
    highest = ranks.amax(-1, keepdim=True)
    lean = 2 * ranks - highest
    first = (lean != 0).int().argmax(-1, keepdim=True)
    return torch.where(lean.gather(-1, first) > 0, highest - ranks, ranks).view(planes.shape)


def _alike(rows: Tensor) -> Tensor:
    """Whether all values of an item, shape (m, 1, F), are one, shape (m,)."""
    return (rows == rows[..., :1]).flatten(1).all(1)


def _frame_widths(planes: Tensor) -> Tensor:
    """How many rings at the edge of images, shape (m, C, H, W), have one value throughout each plane, shape (m,)."""
    height, width = planes.shape[2:]
    content = (planes != planes[..., :1, :1]).any(1)
    away = torch.minimum(
        torch.minimum(torch.arange(height), height - 1 - torch.arange(height))[:, None],
        torch.minimum(torch.arange(width), width - 1 - torch.arange(width))[None],
    )
    most = (min(height, width) - 1) // 2
    return torch.where(content, away, most).flatten(1).amin(1)


def _cut(images: Tensor, edge: int) -> Tensor:
    """Images, shape (m, C, H, W), without their edge."""
    return images[..., edge : images.shape[-2] - edge, edge : images.shape[-1] - edge]


def _luma(images: Tensor) -> Tensor | None:
    """Colour images in grey, as bytes; None where their numbers stand for no bytes."""
    if images.shape[1] != 3:
        return None
    if images.dtype == torch.uint8:
        return grey(images)
    for scale, offset in _ENCODINGS:
        values = images * scale + offset
        rounded = values.round()
        if (values - rounded).abs().max() < 0.02 and rounded.min() >= 0 and rounded.max() <= 255:
            return grey(rounded.to(torch.uint8))
    return None
