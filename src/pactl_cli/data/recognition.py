"""Fingerprints that recognise examples that weights were trained on, also in another form, and exact copies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.adaptation import grey
from pactl_cli.data.dataset import Examples, LabelledExamples, Origins
from pactl_cli.data.files.decoding import own_pixels
from pactl_cli.data.files.progress import Progress, unheard
from pactl_cli.data.files.workers import mapped, useful_workers
from pactl_cli.data.lazy_examples import LazyExamples
from pactl_cli.data.streaming import FileExamples
from pactl_cli.models.inputs import Inputs, change

Fingerprints = NDArray[np.uint64]
"""Hashes of 64 bits."""

_BATCH_VALUES = 1 << 22
_FILES_AT_ONCE = 64
_STEPS = 256
"""Values are compared by their place between the least and the greatest, in so many steps. A byte's place never lies
half-way between two steps, because no difference of bytes is divisible by 256. So single precision rounds it alike."""
_LEAST_PIXELS = 16
"""A picture with fewer pixels is treated as a row of numbers."""
_LEAST_VALUES, _LEAST_CONTENT = 64, 32
"""A row with fewer numbers, or fewer that differ from its commonest, such as one of a table, is identified by its exact
values alone."""
_LEAST_LEVELS = 16
"""An image, or a plane, with fewer different values, such as an icon or a mask, is identified by its bytes alone."""
_INNER = {32: 28}
"""The sides of published images whose centre is an image of another set: svhn28 is the centre of svhn."""
_ENCODINGS = ((255.0, 0.0, 0.2), (127.5, 127.5, 0.2), (1.0, 0.0, 0.0))
"""Scale and offset that recover bytes written as 0 .. 1, as -1 .. 1, or as they are, and the tolerance: half precision
rounds the first two by up to an eighth."""

_Values = tuple[Tensor, Tensor]
"""Values to compare, and which items of a batch may be compared by them, shape (m,)."""


def image_fingerprints(examples: LabelledExamples) -> Fingerprints:
    """Return fingerprints of the canonical forms of each input, shape (n, forms). Labels do not matter.

    Two inputs share a fingerprint in the following cases.

    - Images written from the same bytes, as 0 .. 1, as -1 .. 1 or as they are, also in half precision or repeated in
      three channels. A grey image may be flattened.
    - If the bytes have at least 16 values: images that differ by sign, by a scale and an offset, for all channels or
      for each, or by a frame of one value and equal width; an image and its luma; `svhn` and its centre, `svhn28`.
    - If `by_file`: the same files, or the same pixels before they are scaled.
    - Integers that are equal in single precision, which is what networks of the catalogue see.
    - Rows of integers that differ by padding, which is zeros at the end or at the beginning.
    - Inputs made from the same text, however it was split and cut.
    - Mappings of tensors, only if they are equal.
    """
    if isinstance(examples, FileExamples) and examples.by_file:
        return np.stack([_file_fingerprints(examples, unheard), _own_pixels(examples)], axis=1)
    forms: Fingerprints = np.concatenate([_forms(batch) for batch in _batches(examples)])
    origins = examples.origins if isinstance(examples, Examples | LazyExamples) else None
    return forms if origins is None or not len(origins) else np.concatenate([forms, origins[:, None]], axis=1)


def text_fingerprints(texts: Sequence[str]) -> Origins:
    """Return a fingerprint of the words of each text, shape (n,), which does not depend on the space between them."""
    return np.array([_hash(f"text {' '.join(text.split())}".encode()) for text in texts], dtype=np.uint64)


def exact_fingerprints(
    examples: LabelledExamples, sized: Callable[[], LabelledExamples] | None = None, progress: Progress = unheard
) -> Fingerprints:
    """Return a fingerprint of each input, shape (n,), which is equal for exact copies.

    If `by_file`, it is of the file. But if the files differ in size, it is of the sides of each and of its pixels in
    `sized()`, the same images in one size, and so independent of the file's format. Integers of any width are compared
    as numbers.
    """
    if isinstance(examples, FileExamples) and examples.files.sides is not None and sized is not None:
        sides = examples.files.sides[examples.rows].astype(np.int64)
        pixels = exact_fingerprints(sized(), progress=progress).view(np.int64)
        return _hashes(torch.from_numpy(np.column_stack([sides, pixels])))
    if isinstance(examples, FileExamples) and examples.by_file:
        return _file_fingerprints(examples, progress)
    return np.concatenate([_exact(batch) for batch in _batches(examples)])


def _file_fingerprints(examples: FileExamples, progress: Progress) -> Fingerprints:
    files = np.ascontiguousarray(examples.files.digests(examples.rows, progress)[:, :8])
    return files.view("<u8").ravel().astype(np.uint64)


def _own_pixels(examples: FileExamples) -> Fingerprints:
    """Return a hash of the pixels of each picture in its own size, the same as for a resident image of that size."""
    parts = np.array_split(examples.rows, max(1, len(examples) // _FILES_AT_ONCE))
    paths = [examples.files.paths[rows].tolist() for rows in parts]
    hashes = partial(_hashes_of_files, examples.frame.mode)
    workers = useful_workers() if examples.workers is None else examples.workers
    return np.concatenate(list(mapped(hashes, paths, len(paths), workers)))


def _hashes_of_files(mode: str, paths: list[bytes]) -> Fingerprints:
    pixels = (torch.from_numpy(own_pixels(path, mode).copy()) for path in paths)
    return np.array([_hashes(picture[None])[0] for picture in pixels], dtype=np.uint64)


def _exact(inputs: Inputs) -> Fingerprints:
    """Return a hash of each input, shape (m,); of a mapping, from the hashes of its tensors with names and shapes."""
    if isinstance(inputs, Tensor):
        return _hashes(_plain(inputs))
    tensors = [
        _hashes(plain, f"{json.dumps(name)}{plain.dtype}{tuple(plain.shape[1:])}".encode())
        for name in sorted(inputs)
        for plain in [_plain(inputs[name]) if inputs[name].dtype != torch.uint8 else inputs[name].long()]
    ]
    return _hashes(torch.from_numpy(np.stack(tensors, axis=1).view(np.int64)), b"mapping")


def _batches(examples: LabelledExamples) -> Iterator[Inputs]:
    """Yield the inputs on the CPU, a few at a time; one empty batch if there are none."""
    size = max(1, _BATCH_VALUES // examples.spec.values)
    parts = torch.arange(len(examples), device=examples.labels.device).split(size)
    with closing(examples.batches(parts)) as batches:
        for batch in batches:
            yield change(batch.inputs, Tensor.cpu)


def _hash(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


# --- Canonical forms --------------------------------------------------------------------------------------------------


def _forms(inputs: Inputs) -> Fingerprints:
    """Return the forms of a batch, shape (m, forms). If an input lacks a form, its exact hash takes the place."""
    if not isinstance(inputs, Tensor):
        return _exact(inputs)[:, None]
    images = inputs.view(len(inputs), 1, 1, -1) if inputs.ndim == 2 else inputs
    if inputs.dtype in (torch.uint8, torch.float32):
        return _number_forms(images)
    forms = [_number_forms(images.float()), _exact(inputs)[:, None]]
    return np.concatenate([*forms, _unpadded(inputs)] if inputs.ndim == 2 else forms, axis=1)


def _unpadded(rows: Tensor) -> Fingerprints:
    """Return the forms of rows of tokens without zeros at their end, and at their beginning, shape (m, 2)."""
    forms = [
        (_hash(b"until " + np.trim_zeros(row, "b").tobytes()), _hash(b"from " + np.trim_zeros(row, "f").tobytes()))
        for row in _plain(rows).numpy()
    ]
    return np.array(forms, dtype=np.uint64).reshape(-1, 2)


def _number_forms(images: Tensor) -> Fingerprints:
    """Return the forms of images, or of rows as images of one row, in bytes or in single precision."""
    exact = _hashes(_plain(images.float()))
    channels, height, width = images.shape[1:]
    is_row = min(height, width) == 1 or height * width < _LEAST_PIXELS
    of_values = _row_forms if is_row else _picture_forms
    forms = [exact] if images.dtype == torch.uint8 else [exact, *of_values(images, exact)]
    for is_one, written in _bytes_of(images):
        own = [_hashes(written), *([] if is_row else _two_forms(written, exact, _as_bytes)), *of_values(written, exact)]
        if channels == 3 and not is_row:
            own += _grey_forms(written, exact)
        forms += [np.where(is_one, form, exact) for form in own]
    return np.stack(forms, axis=1)


def _row_forms(rows: Tensor, exact: Fingerprints) -> list[Fingerprints]:
    """Return the form of rows of numbers by the places of their values, if there are many."""
    places, is_faithful = _over_all(rows)
    count = places.shape[-1]
    has_many = (count - _counts(places).amax(-1)[:, 0] >= _LEAST_CONTENT) & (count >= _LEAST_VALUES)
    return [np.where((is_faithful & has_many).numpy(), _hashes(places[:, 0]), exact)]


def _picture_forms(images: Tensor, exact: Fingerprints) -> list[Fingerprints]:
    """Return the forms of images by the places of their values, over all planes and in each, with and without a frame,
    and the forms of the centre of grey images."""
    forms = _two_forms(images, exact, _over_all)
    if images.shape[1] > 1:
        return forms + _two_forms(images, exact, _in_each)
    return forms + _middle_forms(images, exact)


def _grey_forms(images: Tensor, exact: Fingerprints) -> list[Fingerprints]:
    """Return the forms of the luma of colour images of bytes, if each plane has many values."""
    is_rich = (_counts(images.flatten(2).to(torch.int16)) > 0).sum(-1).amin(1) >= _LEAST_LEVELS
    luma = grey(images)
    forms = _two_forms(luma, exact, _over_all) + _middle_forms(luma, exact)
    return [np.where(is_rich.numpy(), form, exact) for form in forms]


def _middle_forms(images: Tensor, exact: Fingerprints) -> list[Fingerprints]:
    """Return the forms of the centre of grey images, if their size is in `_INNER`."""
    height, width = images.shape[2:]
    if height != width or height not in _INNER:
        return []
    return _two_forms(_cut(images, (height - _INNER[height]) // 2), exact, _over_all)


def _over_all(images: Tensor) -> _Values:
    """Return the places of the values among all of an image, shape (m, 1, C H W)."""
    return _places(images.flatten(1)[:, None])


def _in_each(images: Tensor) -> _Values:
    """Return the places of the values in each plane, shape (m, C, H W)."""
    return _places(images.flatten(2))


def _as_bytes(images: Tensor) -> _Values:
    """Return the bytes themselves."""
    return images, torch.ones(len(images), dtype=torch.bool)


def _two_forms(images: Tensor, exact: Fingerprints, read: Callable[[Tensor], _Values]) -> list[Fingerprints]:
    """Return the forms of images, shape (m, C, H, W), with and without a frame, by the values that `read` returns."""
    values, is_one = read(images)
    whole = np.where((is_one & _has_content(images)).numpy(), _hashes(values.view(images.shape)), exact)
    return [whole, _unframed(images, whole, read)]


def _unframed(images: Tensor, whole: Fingerprints, read: Callable[[Tensor], _Values]) -> Fingerprints:
    """Return the form of images without the rings at their edge that have one value in each plane; where too little is
    within, that of the whole image."""
    found = whole.copy()
    rings = _frame_widths(images)
    for ring in rings.unique().tolist():
        chosen = (rings == ring).numpy()
        inner = _cut(images[rings == ring], ring).contiguous()
        if ring:
            found[chosen] = _unframed(inner, whole[chosen], read)
            continue
        values, is_one = read(inner)
        own = _hashes(values.view(inner.shape), str(inner.shape[2:]).encode())
        found[chosen] = np.where((is_one & _has_content(inner)).numpy(), own, whole[chosen])
    return found


def _has_content(images: Tensor) -> Tensor:
    """Return for each image, shape (m, C, H, W), whether every plane has more than one value, shape (m,)."""
    return (images != images[..., :1, :1]).flatten(2).any(2).all(1)


def _frame_widths(images: Tensor) -> Tensor:
    """Return the number of rings at the edge with one value in each plane, shape (m,); 0 if nothing else is within."""
    height, width = images.shape[2:]
    content = (images != images[..., :1, :1]).any(1)
    away = torch.minimum(
        torch.minimum(torch.arange(height), height - 1 - torch.arange(height))[:, None],
        torch.minimum(torch.arange(width), width - 1 - torch.arange(width))[None],
    )
    beyond = height * width
    rings = torch.where(content, away, beyond).flatten(1).amin(1)
    return torch.where(rings == beyond, 0, rings)


def _places(values: Tensor) -> _Values:
    """Return the place of each value between the least and the greatest of its row, in steps, shape (m, K, F), int16.

    A row or its negative is taken, whichever begins below the middle. An item may be compared by places if they
    distinguish all of its values, as for bytes, and are many in each row.
    """
    are_bytes = values.dtype == torch.uint8
    exact = values.float() if are_bytes else values.double()
    least, greatest = exact.amin(-1, keepdim=True), exact.amax(-1, keepdim=True)
    span = torch.where(greatest > least, greatest - least, 1.0)
    places = ((exact - least) * _STEPS / span).round().to(torch.int16)
    levels = different = (_counts(places) > 0).sum(-1)
    if not are_bytes:
        ordered = exact.sort(-1).values
        different = 1 + (ordered[..., 1:] != ordered[..., :-1]).sum(-1)
    lean = 2 * places - _STEPS
    first = (lean != 0).to(torch.uint8).argmax(-1, keepdim=True)
    turned = torch.where(lean.gather(-1, first) > 0, _STEPS - places, places)
    return turned, ((levels == different) & (levels >= _LEAST_LEVELS)).all(1)


def _counts(places: Tensor) -> Tensor:
    """Return the number of times that each place occurs in each row, shape (m, K, steps)."""
    counts = torch.zeros((*places.shape[:-1], _STEPS + 1), dtype=torch.int32)
    return counts.scatter_add_(-1, places.long(), torch.ones((), dtype=torch.int32).expand(places.shape))


def _plain(images: Tensor) -> Tensor:
    """Return the values with unsigned zeros, and integers other than bytes in 64 bits."""
    if images.is_floating_point():
        return images + 0.0
    return images if images.dtype == torch.uint8 else images.long()


def _hashes(batch: Tensor, before: bytes = b"") -> Fingerprints:
    """Return a hash of each item, shape (m,); of one plane, if the item is an image whose planes are all equal."""
    items: Iterable[NDArray[Any]] = batch.contiguous().numpy()
    if batch.ndim == 4:
        alike = (batch == batch[:, :1]).flatten(1).all(1).tolist()
        items = (item[:1] if one else item for item, one in zip(items, alike, strict=True))
    return np.array([_hash(before + item.tobytes()) for item in items], dtype=np.uint64)


def _cut(images: Tensor, edge: int) -> Tensor:
    """Return images, shape (m, C, H, W), without `edge` pixels on each side."""
    return images[..., edge : images.shape[-2] - edge, edge : images.shape[-1] - edge]


def _bytes_of(images: Tensor) -> Iterator[tuple[NDArray[np.bool_], Tensor]]:
    """Yield for each encoding which images fit it, and the bytes from which these were written."""
    if images.dtype == torch.uint8:
        yield np.ones(len(images), dtype=bool), images
        return
    for scale, offset, roughness in _ENCODINGS:
        values = images * scale + offset
        rounded = values.round()
        is_near = ((values - rounded).abs() <= roughness) & (rounded >= 0) & (rounded <= 255)
        yield is_near.flatten(1).all(1).numpy(), rounded.clamp(0, 255).to(torch.uint8)
