"""Folders of images or texts as data sets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pactl_cli.data.dataset import Dataset, LabelledExamples, resident_parts
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.decoded_cache import DecodedCache
from pactl_cli.data.files.decoding import Frame
from pactl_cli.data.files.image_listing import (
    EXTENSIONS,
    Listing,
    count_files,
    list_folders,
    list_images,
    note_of_unread,
)
from pactl_cli.data.files.pictures import Pictures
from pactl_cli.data.files.progress import Progress
from pactl_cli.data.reading import OF_TEXTS, Reading
from pactl_cli.data.spellings import TEST_PARTS
from pactl_cli.data.streaming import exceeds_memory, streamed, unsized
from pactl_cli.data.texts import TEXT_EXTENSION, load_texts
from pactl_cli.errors import MissingError, PactlError, names_in_words, printable

_NO_CLASSES = frozenset(
    ("test", "tests", "testing", "train", "training", "val", "valid", "validation", "dev", "eval", "images", "labels")
)
"""Names of folders, in lower case, that are hardly classes if there is no train/."""


@dataclass(frozen=True)
class _Found:
    """The files of a folder: those of the training set, and of the test set if there is one, and notes for the user."""

    train: Listing
    test: Listing | None
    notes: tuple[str, ...]


def load_folder(name: str, data_dir: DataDirectory, progress: Progress, *, reading: Reading) -> Dataset:
    """Load the data set `folder:PATH`: images or texts in train/CLASS/ and test/CLASS/ or val/CLASS/, or in CLASS/.

    Images that differ in size stay files until a size is given. Texts beside images are counted and not read.

    Raises:
        PactlError: if files are missing or cannot be read, or the test set has a class that the training set lacks.
    """
    folder = Path(os.path.expanduser(name.partition(":")[2]))
    with _explained(name):
        texts, pictures = count_files(folder, TEXT_EXTENSION, EXTENSIONS)
    if texts and not pictures:
        found = _listed(name, folder, (TEXT_EXTENSION,))
        return load_texts(name, (found.train, found.test), found.notes, reading, progress)
    reading.refuse(f"--dataset {name} has no texts", only=OF_TEXTS)
    found = _listed(name, folder, EXTENSIONS)
    notes = (*found.notes, *([f"{texts:,} text files beside the images are not read"] if texts else []))
    return replace(_load_images(name, folder, found, data_dir, progress), notes=notes)


def _load_images(name: str, folder: Path, found: _Found, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Load the data set of the images that were found in a folder."""
    train, test = found.train.samples, found.test.samples if found.test else []
    paths = tuple(path for path, _ in (*train, *test))
    cache = DecodedCache(f"folder:{os.path.abspath(folder)}", paths, data_dir)
    headers = cache.headers(name, paths, progress)
    sides, channels = headers[:, :2], 1 if headers[:, 2].all() else 3
    frame = Frame((channels, *sides[0].tolist()))
    parts: Sequence[LabelledExamples]
    if (sides != sides[0]).any():
        parts = [unsized(train, channels, sides[: len(train)]), unsized(test, channels, sides[len(train) :])]
    elif exceeds_memory(len(paths), frame):
        parts = [streamed(samples, frame) for samples in (train, test)]
    else:
        images = torch.from_numpy(cache.images(Pictures(name, paths, frame), progress))
        parts = resident_parts(images, *([label for _, label in samples] for samples in (train, test)))
    names = tuple(map(printable, found.train.classes))
    return Dataset(name, len(names), parts[0], parts[1] if test else None, names)


def _listed(name: str, folder: Path, extensions: tuple[str, ...]) -> _Found:
    """List the images or texts of the training set, and of the test set if there is one."""
    with _explained(name):
        train, test, notes = _parts(name, folder)
        listed = list_images(train, None, extensions)
        other = list_images(test, listed.classes, extensions) if test and len(listed.classes) > 1 else None
    if len(listed.classes) < 2:
        raise PactlError(
            f"--dataset {name} has a single class, the folder {listed.classes[0]} in {train}",
            "name the folder above the class folders, or above train/",
        )
    return _Found(listed, other, (*notes, *note_of_unread(*filter(None, (listed, other)))))


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn an OSError about a folder into an error that names the data set."""
    try:
        yield
    except OSError as error:
        raise PactlError(f"--dataset {name}: {error}", "every class needs a folder with an image or a text") from error


def _parts(name: str, folder: Path) -> tuple[Path, Path | None, tuple[str, ...]]:
    """Return the training set's folder of class folders, the test set's if there is one, and notes for the user."""
    if os.path.isdir(folder / "train"):
        test = next((folder / part for part in TEST_PARTS if os.path.isdir(folder / part)), None)
        unread = [name for name in list_folders(folder) if folder / name not in (folder / "train", test)]
        note = f"folders beside train/ that are not read: {names_in_words(unread)}"
        return folder / "train", test, (note,) if unread else ()
    if not os.path.isdir(folder):
        raise MissingError(f"--dataset {name}: there is no folder {folder}", "name an existing folder")
    names = list_folders(folder)
    odd = [part for part in names if part.lower() in _NO_CLASSES]
    if odd or not names:
        beside = f" beside {names_in_words(odd)}" if odd else ""
        raise MissingError(
            f"--dataset {name}: there is no folder {folder / 'train'}{beside}",
            "it needs train/CLASS/image files, and perhaps test/CLASS/; or CLASS/image files alone",
        )
    note = f"there is no train/: its folders ({names_in_words(names)}) are the classes, and there is no test set"
    return folder, None, (note,)
