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
"""Numbers at a time."""
_STEPS = 256
"""Values are compared by their place between the least and the greatest, in so many steps. A byte's place never lies
half-way between two of them, because no difference of bytes is divisible by 256: single precision rounds it alike."""
_LEAST_PIXELS = 16
"""A picture with fewer, or a row of fewer than `_LEAST_VALUES` numbers, is recognised by its exact values alone."""
_LEAST_VALUES, _LEAST_CONTENT = 64, 32
"""So is a row of which fewer than `_LEAST_CONTENT` numbers differ from its first, such as one of a table."""
_LEAST_LEVELS, _LEAST_PLANE_LEVELS = 4, 16
"""A picture with fewer values is not taken for its negative; one with fewer in a plane is told by its colours."""
_INNER = {32: 28}
"""Sides of which a published set has a smaller sibling: svhn28 is the middle of svhn."""
_ENCODINGS = ((255.0, 0.0), (127.5, 127.5), (1.0, 0.0))
"""Scale and offset of bytes that were written as 0 .. 1, as -1 .. 1, or as they are."""
_ROUGHNESS = 0.2
"""How far from a byte such a number may be: half precision rounds by up to an eighth."""


def image_fingerprints(examples: LabelledImages) -> Fingerprints:
    """The canonical forms of each image, as fingerprints: shape (n, forms). Labels do not matter.

    Two images share one if they differ by a scale and an offset of their numbers, one for all channels or one each, by
    their sign, by a frame of one value and equal width, or by the type of their numbers; if one is the other repeated
    in three channels, or its luma; or if one is cut from the other as `svhn28` is from `svhn`. A grey image may be
    flattened. Where pixels depend on the decoder, the form is the image's file.
    """
    if isinstance(examples, FileExamples) and examples.assumptions:
        return _file_fingerprints(examples, unheard)[:, None]
    found = [np.zeros((0, 1), dtype=np.uint64), *map(_forms, _batches(examples))]
    return np.concatenate(found[1:] or found)


def exact_fingerprints(examples: LabelledImages, progress: Progress = unheard) -> Fingerprints:
    """A fingerprint of each image as it is, shape (n,): two are equal where one is a copy of the other.

    Where images are streamed, of their files.
    """
    if isinstance(examples, FileExamples):
        return _file_fingerprints(examples, progress)
    return np.concatenate([np.zeros(0, dtype=np.uint64), *(_hashes(_plain(batch)) for batch in _batches(examples))])


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
    """The forms of a batch, shape (m, forms). Where an image lacks one, the first stands for it."""
    exact = _hashes(_plain(images.float()))
    channels, height, width = images.shape[1:]
    if min(height, width) == 1 or height * width < _LEAST_PIXELS:
        return np.stack([exact, _row_form(images.flatten(1), exact)], axis=1)
    forms = [exact, *_placed_forms(images, exact)]
    if channels == 3:
        forms.append(_plane_form(images, exact))
    inner = (height - _INNER[height]) // 2 if height == width and height in _INNER else 0
    if inner and channels == 1:
        forms += _placed_forms(_cut(images, inner), exact)
    for is_one, luma in _lumas(images) if channels == 3 else ():
        for shown in (luma, _cut(luma, inner)) if inner else (luma,):
            forms += [np.where(is_one, form, exact) for form in _placed_forms(shown, exact)]
    return np.stack(forms, axis=1)


def _row_form(rows: Tensor, exact: Fingerprints) -> Fingerprints:
    """The form of rows of numbers, shape (m, F): the places of their values, where these are many."""
    places = _places(rows[:, None])[:, 0]
    commonest = _counts(places).amax(-1)
    has_many = (rows.shape[1] - commonest >= _LEAST_CONTENT) & (rows.shape[1] >= _LEAST_VALUES)
    return np.where(has_many.numpy(), _hashes(places), exact)


def _placed_forms(images: Tensor, exact: Fingerprints) -> list[Fingerprints]:
    """Two forms of images, shape (m, C, H, W), by the places of their values: as they are, and without a frame."""
    places = _places(images.flatten(1)[:, None]).view(images.shape)
    whole = np.where(_has_content(places), _hashes(places), exact)
    return [whole, _unframed(images, whole)]


def _plane_form(images: Tensor, exact: Fingerprints) -> Fingerprints:
    """The form of colour images, each plane of which has a scale and an offset of its own."""
    places = _places(images.flatten(2))
    is_rich = (_levels(places) >= _LEAST_PLANE_LEVELS).all(1)
    return np.where(is_rich.numpy(), _hashes(places.view(images.shape)), exact)


def _unframed(images: Tensor, whole: Fingerprints) -> Fingerprints:
    """The form of images without the rings at their edge that have one value in each plane, if anything is within."""
    found = whole.copy()
    rings = _frame_widths(images)
    for ring in rings.unique().tolist():
        chosen = (rings == ring).numpy()
        inner = _cut(images[rings == ring], ring)
        if ring:
            found[chosen] = _unframed(inner, whole[chosen])
            continue
        places = _places(inner.flatten(1)[:, None]).view(inner.shape)
        found[chosen] = np.where(_has_content(places), _hashes(places, str(inner.shape[2:]).encode()), whole[chosen])
    return found


def _has_content(images: Tensor) -> NDArray[np.bool_]:
    """Whether each plane of an image, shape (m, C, H, W), has more than one value."""
    return (images != images[..., :1, :1]).flatten(2).any(2).all(1).numpy()


def _frame_widths(images: Tensor) -> Tensor:
    """How many rings at the edge have one value in each plane, shape (m,); 0 if nothing else is within."""
    height, width = images.shape[2:]
    content = (images != images[..., :1, :1]).any(1)
    away = torch.minimum(
        torch.minimum(torch.arange(height), height - 1 - torch.arange(height))[:, None],
        torch.minimum(torch.arange(width), width - 1 - torch.arange(width))[None],
    )
    beyond = height * width
    rings = torch.where(content, away, beyond).flatten(1).amin(1)
    return torch.where(rings == beyond, 0, rings)


def _places(values: Tensor) -> Tensor:
    """Where each value lies between the least and the greatest of its row, in steps: shape (m, K, F), int16.

    Of rows with several values it is that or its negative: the one that begins below the middle.
    """
    exact = values.double()
    least, greatest = exact.amin(-1, keepdim=True), exact.amax(-1, keepdim=True)
    span = torch.where(greatest > least, greatest - least, 1.0)
    places = ((exact - least) / span * _STEPS).round().to(torch.int16)
    lean = 2 * places - _STEPS
    first = (lean != 0).to(torch.uint8).argmax(-1, keepdim=True)
    turned = (lean.gather(-1, first) > 0) & (_levels(places) >= _LEAST_LEVELS)[..., None]
    return torch.where(turned, _STEPS - places, places)


def _levels(places: Tensor) -> Tensor:
    """How many different places there are in each row, shape (m, K)."""
    return (_counts(places) > 0).sum(-1)


def _counts(places: Tensor) -> Tensor:
    """How often each place occurs in each row, shape (m, K, steps)."""
    counts = torch.zeros((*places.shape[:-1], _STEPS + 1), dtype=torch.int32)
    return counts.scatter_add_(-1, places.long(), torch.ones((), dtype=torch.int32).expand(places.shape))


def _plain(images: Tensor) -> Tensor:
    """The values, of which a zero has no sign."""
    return images + 0.0 if images.is_floating_point() else images


def _hashes(batch: Tensor, before: bytes = b"") -> Fingerprints:
    """A hash of each item, shape (m, ...); of an image, shape (m, C, H, W), all of whose planes are alike, of one."""
    items = batch.contiguous().numpy()
    if batch.ndim == 4:
        alike = (batch == batch[:, :1]).flatten(1).all(1).tolist()
        return np.array(
            [_hash(before + (item[:1] if one else item).tobytes()) for item, one in zip(items, alike, strict=True)],
            dtype=np.uint64,
        )
    return np.array([_hash(before + item.tobytes()) for item in items], dtype=np.uint64)


def _cut(images: Tensor, edge: int) -> Tensor:
    """Images, shape (m, C, H, W), without their edge."""
    return images[..., edge : images.shape[-2] - edge, edge : images.shape[-1] - edge]


def _lumas(images: Tensor) -> Iterator[tuple[NDArray[np.bool_], Tensor]]:
    """Colour images in grey, as bytes, for each way in which bytes may be written; and which images are written so."""
    if images.dtype == torch.uint8:
        yield np.ones(len(images), dtype=bool), grey(images)
        return
    for scale, offset in _ENCODINGS:
        values = images * scale + offset
        rounded = values.round()
        is_near = ((values - rounded).abs() < _ROUGHNESS) & (rounded >= 0) & (rounded <= 255)
        yield is_near.flatten(1).all(1).numpy(), grey(rounded.clamp(0, 255).to(torch.uint8))
