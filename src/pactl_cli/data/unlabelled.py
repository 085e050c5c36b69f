"""Inputs without labels: pictures, texts, arrays and rows of tables, read as a network's training data were."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.adaptation import recoloured, with_channels
from pactl_cli.data.dataset import Dataset, Examples, LabelledExamples
from pactl_cli.data.files.capacity import cores
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.decoding import Frame, own_pixels
from pactl_cli.data.given_arrays import in_detail, load_inputs
from pactl_cli.data.labels import Labels
from pactl_cli.data.reading import Reading
from pactl_cli.data.resizing import resized
from pactl_cli.data.tables.encoding import Encoding, raw_inputs
from pactl_cli.data.tables.loading import read_table, require_complete, text_values
from pactl_cli.data.texts import read_text, text_dataset
from pactl_cli.errors import FAILED, PactlError, names_in_words, quoted
from pactl_cli.models.inputs import InputSpec

_GREY_OR_COLOUR = {1, 3}


@dataclass(frozen=True)
class Reader:
    """A reader that makes inputs from files as a network's training examples were made.

    Attributes:
        spec: the kind, shape and type of one input.
        reading: how files are read.
        channels: the number of channels in which pictures are decoded.
        encoding: how the rows of a table become numbers; None for other data.
        tokenizer_sha256: of the tokenizer's file; None if there is no such file.
    """

    spec: InputSpec
    reading: Reading
    channels: int
    encoding: Encoding | None
    tokenizer_sha256: str | None

    def pictures(self, paths: Sequence[str]) -> tuple[list[PactlError | None], Tensor]:
        """Return for each file the error if it has no usable picture, else None; and the pictures, (m, C, H, W)."""
        with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(cores()) as threads:
            found = list(threads.map(self._picture, paths))
        pixels = [torch.from_numpy(each.copy()) for each in found if not isinstance(each, PactlError)]
        images = torch.stack(pixels) if pixels else torch.zeros(0, self.channels, *self.spec.sides, dtype=torch.uint8)
        failures = [each if isinstance(each, PactlError) else None for each in found]
        return failures, with_channels(images, self.spec.channels)

    def _picture(self, path: str) -> NDArray[np.uint8] | PactlError:
        """Return the pixels of a file's picture, or the error if it is not usable."""
        size, sides = self.reading.image_size, self.spec.sides
        frame = Frame((self.channels, *sides)) if size is None else Frame.square(self.channels, size)  # type: ignore[arg-type]
        try:
            pixels = own_pixels(path, frame.mode, frame.fit)
        except PactlError as error:
            return error
        if pixels.shape[1:] == sides:
            return pixels
        own, needed = (" x ".join(map(str, each)) for each in (pixels.shape[1:], sides))
        return PactlError(f"{path} has {own} pixels, and the classifier takes {needed}", "resize it", FAILED)

    def texts(self, paths: Sequence[str]) -> tuple[list[PactlError | None], LabelledExamples]:
        """Return for each file the error if it is not a text, else None; and the texts as examples with labels 0."""
        texts, failures = [], list[PactlError | None]()
        for path in paths:
            try:
                texts.append(read_text(path))
                failures.append(None)
            except PactlError as error:
                failures.append(error)
        return failures, self._examples_of(texts)

    def arrays(self, path: Path, array: str | None) -> LabelledExamples:
        """Return the inputs in an array, or a dictionary of arrays, of a file, with labels 0.

        Args:
            array: the name of the array or dictionary; None if the file has only one.

        Raises:
            PactlError: as `load_inputs` does, or if the network takes other inputs.
        """
        dataset = Dataset(str(path), 2, load_inputs(path, array, self.reading.only(("channels",))), None)
        dataset = resized(dataset, self.reading.image_size, DataDirectory(path.parent, may_write=False))
        if {dataset.spec.channels, self.spec.channels} == _GREY_OR_COLOUR:
            dataset = recoloured(dataset, self.spec.channels)
        if replace(dataset.spec, vocabulary=None) != replace(self.spec, vocabulary=None):
            raise PactlError(
                f"{path} has {in_detail(dataset.spec)}, and the classifier takes {in_detail(self.spec)}",
                "bring inputs like those that it was trained on",
            )
        if self.spec.vocabulary is not None:
            _require_tokens(path, dataset.train, self.spec.vocabulary)
        return dataset.train

    def rows(self, path: Path) -> tuple[Sequence[int], LabelledExamples]:
        """Return the numbers of a table's rows in the file, and the rows as examples with labels 0.

        Columns that the network does not know are ignored.

        Raises:
            PactlError: if the table cannot be read, or lacks a column, or has an invalid value.
        """
        part = read_table(path)
        if self.encoding is None:
            return part.rows, self._examples_of(text_values(part, self.reading))
        for known in self.encoding.fields:
            if known.name not in part.columns:
                raise PactlError(
                    f"{path} has no column {quoted(known.name)}: it has {names_in_words(list(part.columns))}"
                )
        columns = {known.name: part.read(known.name, known.kind) for known in self.encoding.fields}
        if not self.encoding.fills:
            require_complete([part], [columns])
        inputs = self.encoding.encode(raw_inputs(self.encoding.fields, columns))
        return part.rows, Examples(inputs, torch.zeros(len(inputs), dtype=torch.int64))

    def _examples_of(self, texts: Sequence[str]) -> LabelledExamples:
        """Return texts as examples with labels 0."""
        labels = Labels(2, torch.zeros(len(texts), dtype=torch.int64), None, None)
        found = text_dataset("texts", labels, [texts], self.reading)
        if found.tokenizer_sha256 != self.tokenizer_sha256:
            raise PactlError(
                f"--tokenizer {self.reading.tokenizer} is not the one that split the texts of the run", "name that one"
            )
        return found.train


def in_batches(examples: LabelledExamples, size: int) -> Iterator[tuple[range, Examples]]:
    """Yield examples a few at a time, with their indices."""
    parts = torch.arange(len(examples)).split(size)
    for part, batch in zip(parts, examples.batches(parts), strict=True):
        yield range(int(part[0]), int(part[-1]) + 1), batch


def _require_tokens(path: Path, examples: LabelledExamples, vocabulary: int) -> None:
    """Raise PactlError if sequences have integers outside the vocabulary."""
    for _, batch in in_batches(examples, 1 << 14):
        assert isinstance(batch.inputs, Tensor)
        if int(batch.inputs.min()) < 0 or int(batch.inputs.max()) >= vocabulary:
            raise PactlError(f"{path} has tokens that are not among 0 .. {vocabulary - 1:,}")
