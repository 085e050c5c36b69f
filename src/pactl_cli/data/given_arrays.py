"""The user's own arrays as data sets and as inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
import torch
from torch import Tensor

from pactl_cli.data.array_archive import SAVE, ArrayArchive
from pactl_cli.data.array_values import ArrayRows, Form, Held, Stored, Values, input_type, require_finite
from pactl_cli.data.channels import has_channels_last
from pactl_cli.data.dataset import Dataset, Examples, LabelledExamples
from pactl_cli.data.files.arrays import list_arrays
from pactl_cli.data.files.capacity import available_memory
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.progress import Progress, unheard
from pactl_cli.data.files.stored_array import StoredArray
from pactl_cli.data.labels import read_labels
from pactl_cli.data.lazy_examples import LazyExamples
from pactl_cli.data.reading import Reading
from pactl_cli.data.sparse_matrices import is_sparse, sparse_rows
from pactl_cli.data.spellings import Pair, find_parts
from pactl_cli.data.vocabulary import with_vocabulary
from pactl_cli.errors import PactlError, quoted
from pactl_cli.models.inputs import MAPPING, InputSpec, TensorSpec

_SHAPES = "use (n, H, W), (n, H, W, C), (n, C, H, W) or (n, F)"
_FLOAT_BYTES, _LARGEST = 4, 1 << 62


def load_npz(name: str, data_dir: DataDirectory, progress: Progress, *, reading: Reading) -> Dataset:
    """Load the data set `npz:PATH`: labels, and inputs in one of these forms.

    Images (n, H, W), (n, H, W, C) or (n, C, H, W); features (n, F); integers other than bytes as sequences of tokens
    (n, L); sparse matrices; dictionaries of arrays.

    Raises:
        PactlError: if the file cannot be read, or its arrays do not form a data set.
    """
    return read_archive(name, ArrayArchive.of(name), progress, reading)


def read_archive(name: str, archive: ArrayArchive, progress: Progress, reading: Reading) -> Dataset:
    """Return the data set that the arrays of an archive form.

    Raises:
        PactlError: if they cannot be read, or do not form a data set.
    """
    pairs, notes = find_parts(name, archive.stems, archive.listed(), SAVE)
    for pair in pairs:
        if archive.keys(pair.y):
            raise PactlError(f"{archive.called(pair.y)} is a dictionary of arrays", "labels are one array")
        archive.require_no_objects(pair.y, saved_as="str")
    columns = [archive.read(pair.y)[pair.y] for pair in pairs]
    labels = read_labels(name, *columns, called=(pairs[0].y, pairs[-1].y))
    notes += labels.notes
    parts = [
        _Part(archive, pair, given, reading, notes if pair is pairs[0] else [])
        for pair, given in zip(pairs, labels.parts, strict=True)
    ]
    train, *tests = _examples(parts, progress)
    _require_usable(name, pairs, [train, *tests])
    test = tests[0] if tests else None
    return with_vocabulary(Dataset(name, labels.classes, train, test, labels.names, tuple(notes)))


def load_inputs(path: Path, array: str | None, reading: Reading) -> LabelledExamples:
    """Return the inputs in an `.npy` file, or in an array or a dictionary of arrays of an `.npz` file. Labels are 0.

    Args:
        array: the name of the array or dictionary; None if the file has only one.

    Raises:
        PactlError: if it cannot be read, or is not one of inputs, or `array` is None and there are several.
    """
    archive = ArrayArchive(str(path), path, list_arrays(path))
    stems, stem = archive.stems, array
    if stem is None:
        if len(stems) != 1:
            hint = f"name one: {path}:{stems[0]}" if stems else SAVE
            raise PactlError(f"{path} has {archive.listed()}", hint)
        [stem] = stems
    if stem not in stems:
        raise PactlError(f"{path} has no array {quoted(stem)}: it has {archive.listed()}")
    keys = archive.keys(stem)
    rows = "indptr" if is_sparse(set(keys)) else next(iter(keys), "")
    shape = archive.headers[f"{stem}.{rows}" if rows else stem].shape
    count = max(0, shape[0] - (rows == "indptr")) if shape else 0
    labels = torch.zeros(1, dtype=torch.int64).expand(count)  # a view: a header could claim any count
    return _examples([_Part(archive, Pair(stem, "the first axis"), labels, reading, [])], unheard)[0]


@dataclass(frozen=True)
class _Part:
    """The inputs of one part of a data set, not read yet.

    Attributes:
        pair: the names of the inputs' array or dictionary of arrays, and of the labels' array.
        notes: gets sentences that tell the user how the inputs were interpreted.
    """

    archive: ArrayArchive
    pair: Pair
    labels: Tensor
    reading: Reading
    notes: list[str]

    @property
    def what(self) -> str:
        """The name of the inputs for messages."""
        return self.archive.called(self.pair.x)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the dictionary; empty for an array."""
        return self.archive.keys(self.pair.x)

    def array(self) -> Values:
        """Return the array."""
        return self.archive.read(self.pair.x)[self.pair.x]

    def arrays(self) -> dict[str, Values]:
        """Return the arrays of the dictionary by key.

        Raises:
            PactlError: if one holds Python objects, or they do not fit into memory.
        """
        names = {f"{self.pair.x}.{key}": key for key in self.keys}
        for name in names:
            self.archive.require_no_objects(name)
        return {names[name]: array for name, array in self.archive.read(*names).items()}

    def require_rows(self, name: str) -> None:
        """Raise PactlError unless an array has a row for each label."""
        self.archive.require_no_objects(name)
        shape, called = self.archive.headers[name].shape, self.archive.called(name)
        if not shape:
            raise PactlError(f"{called} is a single number, not examples")
        if shape[0] != len(self.labels):
            raise PactlError(
                f"{called} has {shape[0]:,} examples and {self.pair.y} {len(self.labels):,}",
                "give one label for each example",
            )
        if 0 in shape:
            raise PactlError(f"{called} is empty: its shape is {shape}")
        if self.archive.headers[name].size_bytes > _LARGEST:
            raise PactlError(f"{called} cannot be read: its header claims more numbers than a file can hold", SAVE)

    def form(self) -> Form:
        """Return the form in which a network gets the array.

        Raises:
            PactlError: if the shape or the type of the array does not suit inputs.
        """
        self.require_rows(self.pair.x)
        header = self.archive.headers[self.pair.x]
        shape, dtype = header.shape, input_type(self.what, header.dtype)
        if len(shape) != 4:
            self.reading.refuse(f"{self.pair.x} of {shape} has no such axis", only=("channels",))
        if len(shape) not in (2, 3, 4):
            hint = "for one feature of each example, reshape(-1, 1)" if len(shape) == 1 else _SHAPES
            raise PactlError(f"{self.what} has {len(shape)} dimensions, {shape}", hint)
        if len(shape) == 2:
            return Form(shape[1:], dtype)
        if dtype == np.int64:
            self.notes.append(
                f"{self.pair.x} of {header.dtype} is read as images of unscaled integers; for pixels of 0 to 255, "
                f'save {self.pair.x}.astype("uint8")'
            )
        if len(shape) == 3:
            return Form((1, *shape[1:]), dtype)
        if has_channels_last(self.pair.x, self.what, shape, self.reading.channels, self.notes):
            return Form((shape[3], shape[1], shape[2]), dtype, channels_last=True)
        return Form(shape[1:], dtype)


def _examples(parts: Sequence[_Part], progress: Progress) -> list[LabelledExamples]:
    """Return the examples of each part, resident if all parts fit into half of the available memory together."""
    room = available_memory() // 2
    keys = [set(part.keys) for part in parts]
    if not any(keys):
        return _of_arrays(parts, room, progress)
    for part in parts:
        part.reading.refuse(f"{part.pair.x} as a dictionary of arrays has no such axis", only=("channels",))
    if all(map(is_sparse, keys)):
        return _of_sparse(parts, room)
    if not all(keys) or any(map(is_sparse, keys)):
        raise PactlError(
            f"{parts[-1].what} and {parts[0].pair.x} differ in kind: each must be an array, a sparse matrix, or a "
            "dictionary of arrays"
        )
    return [_mapping(part, room) for part in parts]


def _of_arrays(parts: Sequence[_Part], room: int, progress: Progress) -> list[LabelledExamples]:
    """Return the examples of parts that are one array each."""
    forms, need = [part.form() for part in parts], 0
    for part, form in zip(parts, forms, strict=True):
        header = part.archive.headers[part.pair.x]
        is_as_given = form.dtype == header.dtype and not form.channels_last and not header.columns_first
        need += len(part.labels) * form.size_bytes + (0 if is_as_given else header.size_bytes)
    examples: list[LabelledExamples] = []
    for part, form in zip(parts, forms, strict=True):
        fits = need <= room
        stored = Held(part.array()) if fits else _stored(part, room)
        require_finite(part.what, part.pair.x, _reported(stored.pieces(), len(part.labels), progress))
        examples.append(_made(stored, form, part.labels, resident=fits))
    return examples


def _reported(pieces: Iterator[tuple[int, Values]], total: int, progress: Progress) -> Iterator[tuple[int, Values]]:
    """Yield the pieces, and report the number of rows so far, because large arrays take a while to read."""
    for start, piece in pieces:
        yield start, piece
        progress(start + len(piece), total)


def _stored(part: _Part, room: int) -> StoredArray | Held:
    """Return an array whose inputs are too large for memory: left in its file, or else in memory in its own type.

    Raises:
        PactlError: if neither is possible.
    """
    stored, header = part.archive.stored(part.pair.x), part.archive.headers[part.pair.x]
    if stored is not None:
        return stored
    if header.size_bytes <= room:
        return Held(part.array())
    raise PactlError(
        f"{part.what} takes {header.size_bytes / 1e6:,.0f} MB, more than half of the available memory, "
        f"{2 * room / 1e6:,.0f} MB, and an array saved in this way can only be read as a whole",
        f"save numpy.ascontiguousarray({part.pair.x})"
        if header.columns_first
        else "save it with numpy.savez, not savez_compressed: then it may stay in its file",
    )


def _made(stored: Stored, form: Form, labels: Tensor, *, resident: bool) -> LabelledExamples:
    """Return the examples of stored rows: resident, or made by batch."""
    if not resident:
        return LazyExamples.of(ArrayRows(stored, form), labels)
    if isinstance(stored, Held):
        return Examples(form.tensor(stored.array), labels)
    return Examples(form.tensor(stored.read(np.arange(len(labels)))), labels)


def _of_sparse(parts: Sequence[_Part], room: int) -> list[LabelledExamples]:
    """Return the examples of parts that are sparse matrices: features in single precision."""
    matrices = [sparse_rows(part.what, part.pair.x, part.arrays(), len(part.labels)) for part in parts]
    fits = sum(_FLOAT_BYTES * matrix.shape[0] * matrix.shape[1] for matrix in matrices) <= room
    return [
        _made(matrix, Form(matrix.shape[1:], np.dtype(np.float32)), part.labels, resident=fits)
        for part, matrix in zip(parts, matrices, strict=True)
    ]


def _mapping(part: _Part, room: int) -> Examples:
    """Return the examples of a part that is a dictionary of arrays."""
    types, need = {}, 0
    for key in part.keys:
        name = f"{part.pair.x}.{key}"
        part.require_rows(name)
        header = part.archive.headers[name]
        types[key] = input_type(part.archive.called(name), header.dtype, keeps="b")
        need += header.size_bytes // header.dtype.itemsize * types[key].itemsize
    if need > room:
        raise PactlError(
            f"{part.what} takes {need / 1e6:,.0f} MB, more than half of the available memory, and a dictionary of "
            "arrays is read as a whole",
            "save fewer examples",
        )
    inputs = {}
    for key, array in part.arrays().items():
        name = f"{part.pair.x}.{key}"
        require_finite(part.archive.called(name), name, Held(array).pieces())
        inputs[key] = torch.from_numpy(np.ascontiguousarray(array.astype(types[key])))
    return Examples(inputs, part.labels)


def _require_usable(name: str, pairs: Sequence[Pair], examples: Sequence[LabelledExamples]) -> None:
    """Raise PactlError unless a certificate can describe the inputs, and those of both parts are alike."""
    try:
        InputSpec.from_dict(examples[0].spec.as_dict())
    except ValueError as error:
        raise PactlError(f"--dataset {name}: {pairs[0].x} cannot be used: {error}") from error
    train, test = examples[0].spec, examples[-1].spec
    if train != test:
        raise PactlError(
            f"--dataset {name}: {pairs[-1].x} and {pairs[0].x} differ in shape or type: "
            f"{in_detail(test)}; and {in_detail(train)}",
            "prepare the examples of both parts alike",
        )


def in_detail(spec: InputSpec) -> str:
    """Return the kind, shape and types of one input in words."""
    if spec.kind != MAPPING:
        return f"{spec}, {_type_name(spec.tensors[0][1])}"
    return shorten(", ".join(f"{name} {tensor.shape} {_type_name(tensor)}" for name, tensor in spec.tensors), 300)


def _type_name(tensor: TensorSpec) -> str:
    return str(tensor.dtype).removeprefix("torch.")
