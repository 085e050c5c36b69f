"""Texts as examples: rows of tokens, counts of tokens, or rows of tokens with a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pactl_cli.data.dataset import Dataset, Examples, Origins
from pactl_cli.data.files.capacity import available_memory
from pactl_cli.data.files.checked_files import open_file
from pactl_cli.data.files.image_listing import Listing
from pactl_cli.data.files.progress import Progress
from pactl_cli.data.files.tokenizing import BUILT_IN, TokenIds, Tokenizer
from pactl_cli.data.labels import Labels
from pactl_cli.data.lazy_examples import LazyExamples
from pactl_cli.data.reading import Reading
from pactl_cli.data.recognition import text_fingerprints
from pactl_cli.errors import PactlError, printable, reason
from pactl_cli.models.inputs import FEATURES, ONLY, TOKENS, InputSpec, TensorSpec

TEXT_EXTENSION = ".txt"
BAGGED, MASKED = "bagged", "masked"

_LARGEST_TEXT = 1 << 24
_PROGRESS_STEP = 1000


@dataclass(frozen=True)
class _TextRows:
    """The inputs of texts, made from their tokens on demand.

    Attributes:
        form: `padded`: a token is its id plus 1, and 0 is padding. `bagged`: for each id, the square root of its share
            of the text times the vocabulary's size, computed by arithmetic that is the same on every machine.
    """

    tokens: TokenIds
    form: str
    length: int

    @property
    def spec(self) -> InputSpec:
        """The kind, shape and type of one input."""
        if self.form == BAGGED:
            return InputSpec(FEATURES, ((ONLY, TensorSpec((self.tokens.vocabulary,), torch.float32)),))
        return InputSpec(TOKENS, ((ONLY, TensorSpec((self.length,), torch.int64)),))

    @property
    def vocabulary(self) -> int | None:
        """The number of tokens, including padding; None if inputs are counts."""
        return None if self.form == BAGGED else self.tokens.vocabulary + 1

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The start of each text in the tokens' ids."""
        return np.concatenate([np.zeros(1, dtype=np.int64), self.tokens.ends[:-1]])

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the inputs of some texts, on the CPU."""
        ids, text, place = self._gathered(rows)
        if self.form == BAGGED:
            counts = np.zeros((len(rows), self.tokens.vocabulary))
            np.add.at(counts, (text, ids), 1)
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * self.tokens.vocabulary
            return torch.from_numpy(np.sqrt(shares).astype(np.float32))
        padded = np.zeros((len(rows), self.length), dtype=np.int64)
        padded[text, place] = ids + 1
        return torch.from_numpy(padded)

    def masked(self) -> dict[str, Tensor]:
        """Return all texts in the form that transformers take: the tokenizer's ids, and a mask of 1 for each."""
        padded = self.read(np.arange(len(self.tokens.ends)))
        return {"input_ids": (padded - 1).clamp_(min=0), "attention_mask": (padded > 0).long()}

    def _gathered(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return all tokens of some texts, and for each token the index of its text and its place in it."""
        lengths = self.tokens.ends[rows] - self.starts[rows]
        text = np.repeat(np.arange(len(rows)), lengths)
        place = np.arange(len(text)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.tokens.ids[self.starts[rows][text] + place].astype(np.int64), text, place


def text_dataset(name: str, labels: Labels, parts: Sequence[Sequence[str]], reading: Reading) -> Dataset:
    """Return the data set of texts, in the order of their labels.

    Args:
        name: of the data set.
        parts: the texts of the training set, and of the test set if there is one.
        reading: the tokenizer and the form of an input.

    Raises:
        PactlError: if they cannot be split into tokens, or do not fit into memory.
    """
    tokenizer = Tokenizer.named(reading.tokenizer)
    texts = [text for part in parts for text in part]
    tokens = tokenizer.split(texts, reading.sequence_length)
    rows = _TextRows(tokens, reading.text_form, reading.sequence_length)
    places, origins = np.split(np.arange(len(texts)), [len(parts[0])]), text_fingerprints(texts)
    train, *tests = (
        _examples(name, rows, place, numbers, origins[place])
        for place, numbers in zip(places[: len(parts)], labels.parts, strict=True)
    )
    notes, test = (*labels.notes, *_notes(texts, tokens, reading)), tests[0] if tests else None
    return Dataset(name, labels.classes, train, test, labels.names, notes, tokenizer_sha256=tokenizer.sha256)


def _examples(
    name: str, rows: _TextRows, places: NDArray[np.int64], labels: Tensor, origins: Origins
) -> Examples | LazyExamples:
    """Return some texts as examples: resident if they fit into memory, else made by batch."""
    is_large = len(places) * rows.spec.size_bytes > available_memory() // 4
    if rows.form == MASKED:
        if is_large:
            raise PactlError(
                f"--dataset {name}: {len(places):,} texts of {rows.length:,} tokens with their masks do not fit into "
                "memory",
                "choose a smaller --sequence-length, or --text-form padded",
            )
        inputs = {key: tensor[torch.from_numpy(places)] for key, tensor in rows.masked().items()}
        return Examples(inputs, labels, origins=origins)
    if is_large:
        return LazyExamples(rows, places, labels, rows.vocabulary, origins)
    return Examples(rows.read(places), labels, rows.vocabulary, origins)


def _notes(texts: Sequence[str], tokens: TokenIds, reading: Reading) -> list[str]:
    """Return sentences that tell the user about cut and empty texts."""
    notes, what = [], reading.tokenizer if reading.tokenizer in BUILT_IN else "tokens"
    if tokens.cut:
        notes.append(
            f"{tokens.cut:,} of {len(texts):,} texts are longer than {reading.sequence_length:,} {what} and are cut: "
            "--sequence-length N reads more"
        )
    if empty := sum(not text for text in texts):
        notes.append(f"{empty:,} of {len(texts):,} texts are empty: they are kept")
    return notes


def load_texts(
    name: str, parts: tuple[Listing, Listing | None], notes: tuple[str, ...], reading: Reading, progress: Progress
) -> Dataset:
    """Return the data set of text files in class folders.

    Args:
        parts: the files of the training set, and of the test set if there is one.
        notes: sentences on how the folder was interpreted.

    Raises:
        PactlError: if a file cannot be read, or is not UTF-8, or an option for images was given.
    """
    reading.refuse(f"--dataset {name} has texts", only=("image_size",))
    train, test = parts[0].samples, parts[1].samples if parts[1] else []
    samples, texts = [*train, *test], []
    for path, _ in samples:
        try:
            texts.append(read_text(path))
        except PactlError as error:
            raise PactlError(f"--dataset {name}: {error.message}", error.hint) from error
        if not len(texts) % _PROGRESS_STEP or len(texts) == len(samples):
            progress(len(texts), len(samples))
    of_train, of_test = (torch.tensor([label for _, label in part]) for part in (train, test))
    classes = tuple(map(printable, parts[0].classes))
    labels = Labels(len(classes), of_train, of_test if test else None, classes, notes)
    return text_dataset(name, labels, [texts[: len(train)], texts[len(train) :]] if test else [texts], reading)


def read_text(path: str) -> str:
    """Return the content of a text file.

    Raises:
        PactlError: if it cannot be read, is not UTF-8, or is too large.
    """
    try:
        with open_file(Path(path)) as file:
            content = file.read(_LARGEST_TEXT + 1)
    except (OSError, ValueError) as error:
        raise PactlError(f"{path} cannot be read: {reason(error)}") from error
    if len(content) > _LARGEST_TEXT:
        raise PactlError(f"{path} has more than {_LARGEST_TEXT >> 20} MB", "is it one text?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PactlError(
            f"{path} is not UTF-8: byte {content[error.start]:#04x} at place {error.start:,}",
            "convert it, for example: iconv -f LATIN1 -t UTF-8",
        ) from error
