"""`pactl predict`: labels for the user's own inputs, one batch at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path

import torch

from pactl_cli.data.dataset import LabelledExamples
from pactl_cli.data.files.image_listing import EXTENSIONS, is_left_out
from pactl_cli.data.files.tokenizing import BUILT_IN
from pactl_cli.data.tables.loading import ENDINGS
from pactl_cli.data.texts import TEXT_EXTENSION
from pactl_cli.data.unlabelled import Reader, in_batches
from pactl_cli.errors import MissingError, PactlError
from pactl_cli.models.inputs import IMAGE, Inputs, change, count_inputs
from pactl_cli.problem.configuring import reading_of
from pactl_cli.stages.classifier import Classifier
from pactl_cli.training import counting

_ARRAYS, _TABLES = (".npz", ".npy"), tuple(ending for endings in ENDINGS.values() for ending in endings)


@dataclass(frozen=True)
class Prediction:
    """The answer of a classifier to one input.

    Attributes:
        name: the path of the input, with its place in brackets if a file holds several.
        label: the number of the class; None if the classifier abstains.
        class_name: the name of the class; None if the classifier abstains.
        margin: the difference of the two largest logits.
        abstains: whether the classifier abstains; None if it never does.
    """

    name: str
    label: int | None
    class_name: str | None
    margin: float
    abstains: bool | None = None


Found = Prediction | PactlError
"""The answer to one input, or the reason why it cannot be read."""


def predict(
    classifier: Classifier, inputs: Iterable[str], *, batch_size: int | None = None, tokenizer: str | None = None
) -> Iterator[list[Found]]:
    """Yield the answers of a classifier to inputs, batch by batch, in their order.

    Args:
        inputs: paths of files or of folders of files, read as they are needed.
        batch_size: inputs in a batch; by default as many as `bound` counts at a time.
        tokenizer: the file of the tokenizer, if the run has one.

    Raises:
        PactlError: if the classifier takes other inputs, or a file of many inputs cannot be read.
    """
    files = _Files.of(classifier, tokenizer)
    size = batch_size or counting.batch_size(classifier.spec, classifier.device)
    for is_of_many, paths in groupby(files.listed(inputs), key=files.holds_many):
        read = files.many if is_of_many else files.each
        for names, failures, batch in read(paths, size):
            answers = _answers(classifier, batch)
            yield [failure or Prediction(name, *next(answers)) for name, failure in zip(names, failures, strict=True)]


@torch.no_grad()
def _answers(classifier: Classifier, inputs: Inputs) -> Iterator[tuple[int | None, str | None, float, bool | None]]:
    """Yield the label, class name and margin of each input, and whether the classifier abstains."""
    if not count_inputs(inputs):
        return
    found = classifier(change(inputs, lambda tensor: tensor.to(classifier.device)))
    logits, accepted = found.double().cpu(), classifier.accepted(found).tolist()
    labels, (first, second) = logits.argmax(1).tolist(), logits.topk(2, dim=1).values.T
    abstains = None if classifier.margin is None else False
    for label, margin, is_accepted in zip(labels, (first - second).tolist(), accepted, strict=True):
        if is_accepted:
            yield label, classifier.class_names[label], margin, abstains
        else:
            yield None, None, margin, True


_Read = tuple[Sequence[str], Sequence[PactlError | None], Inputs]
"""The names of inputs, the reason why each cannot be read or None, and the inputs that can be read."""


@dataclass(frozen=True)
class _Files:
    """A reader that chooses by a file's name how to read it."""

    reader: Reader
    takes_pictures: bool
    takes_texts: bool

    @classmethod
    def of(cls, classifier: Classifier, tokenizer: str | None) -> _Files:
        """Return the reader of inputs of a classifier.

        Raises:
            PactlError: if a tokenizer must be named, or is named but not used.
        """
        settings, side = classifier.settings, classifier.certificate.side_information
        given, spec = classifier.calibrated, classifier.spec
        of_folder = settings.dataset.startswith("folder:")
        takes_texts = settings.text is not None or (of_folder and spec.kind != IMAGE)
        if (settings.tokenizer not in BUILT_IN) != (tokenizer is not None):
            if tokenizer is not None:
                raise PactlError(f"--tokenizer {tokenizer}: the run uses no tokenizer from a file", "leave it out")
            raise MissingError("the run uses a tokenizer from a file", "name it: --tokenizer PATH")
        reader = Reader(
            spec,
            replace(reading_of(settings, tokenizer), image_size=classifier.certificate.configuration["image_size"]),
            given.channels,
            given.encoding,
            side.get("tokenizer_sha256"),
        )
        return cls(reader, spec.is_image_of_bytes, takes_texts)

    def listed(self, inputs: Iterable[str]) -> Iterator[str]:
        """Yield the inputs; for a folder, yield the readable files in it and below, in the order of their paths."""
        endings = EXTENSIONS if self.takes_pictures else (TEXT_EXTENSION,)
        for path in inputs:
            if not os.path.isdir(path):
                yield path
                continue
            if not (self.takes_pictures or self.takes_texts):
                raise PactlError(f"{path} is a folder, and the classifier takes {self.in_words()}", "name its files")
            found = list(_below(path, endings))
            if not found:
                raise PactlError(f"{path} has no file that can be read: {', '.join(endings)}")
            yield from found

    def in_words(self) -> str:
        """Return the kinds of files that the classifier takes, in words."""
        said = [".npz and .npy files"] if self.reader.encoding is None else []
        said += ["pictures"] if self.takes_pictures else ["texts"] if self.takes_texts else []
        reads_tables = self.reader.encoding is not None or self.reader.reading.text is not None
        return " and ".join([*said, *(["tables (.csv, .parquet)"] if reads_tables else [])])

    def holds_many(self, path: str) -> bool:
        """Return whether a file holds many inputs."""
        is_array = path.endswith(_ARRAYS) or _named_array(path) is not None
        return is_array or (path.lower().endswith(_TABLES) and not self.takes_pictures)

    def many(self, paths: Iterator[str], size: int) -> Iterator[_Read]:
        """Yield the inputs in files that hold many, each named by its place there.

        Raises:
            PactlError: if they cannot be read, or the classifier takes other inputs.
        """
        for path in paths:
            places, examples = self._in(path)
            for part, batch in in_batches(examples, size):
                yield [f"{path}[{places[place]}]" for place in part], [None] * len(part), batch.inputs

    def _in(self, path: str) -> tuple[Sequence[int], LabelledExamples]:
        """Return the numbers and the inputs in a file that holds many."""
        is_table = path.lower().endswith(_TABLES)
        if is_table != (self.reader.encoding is not None) and not (is_table and self.reader.reading.text):
            raise PactlError(f"{path}: the classifier takes {self.in_words()}")
        if is_table:
            return self.reader.rows(Path(path))
        examples = self.reader.arrays(*(_named_array(path) or (Path(path), None)))
        return range(len(examples)), examples

    def each(self, paths: Iterator[str], size: int) -> Iterator[_Read]:
        """Yield the inputs of files that hold one each.

        Raises:
            PactlError: if the classifier takes no such files.
        """
        while names := list(islice(paths, size)):
            if self.takes_pictures:
                failures, images = self.reader.pictures(names)
                yield names, failures, images
            elif self.takes_texts:
                failures, texts = self.reader.texts(names)
                yield names, failures, texts.resident().inputs
            else:
                raise PactlError(f"{names[0]}: the classifier takes {self.in_words()}")


def _named_array(path: str) -> tuple[Path, str] | None:
    """Return the file and the array in the name FILE.npz:ARRAY; None for other names."""
    file, colon, array = path.rpartition(":")
    return (Path(file), array) if colon and file.endswith(".npz") and not os.path.lexists(path) else None


def _below(folder: str, endings: tuple[str, ...]) -> Iterator[str]:
    """Yield the files with some endings in a folder and below, without hidden files that programs leave behind."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_left_out(name))
        yield from (
            os.path.join(place, name)
            for name in sorted(files)
            if name.lower().endswith(endings) and not is_left_out(name)
        )
