"""Folders of images, or of texts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.decoded_cache import decoded
from pactl_cli.data.files.decoding import frame_of
from pactl_cli.data.files.image_listing import EXTENSIONS, Samples, count_files, list_images
from pactl_cli.data.files.pictures import Pictures
from pactl_cli.data.files.progress import Progress
from pactl_cli.data.reading import Reading
from pactl_cli.data.streaming import exceeds_memory, streamed
from pactl_cli.data.texts import EXTENSION, load_texts, refuse_text_settings
from pactl_cli.errors import MissingError, PactlError


def load_folder(name: str, data_dir: DataDirectory, progress: Progress, *, reading: Reading) -> Dataset:
    """The data set `folder:PATH`: images of one size, or texts, in train/CLASS/ and test/CLASS/ or val/CLASS/.

    Raises:
        PactlError: if they are not there, or one cannot be read or has another size, or the classes differ.
    """
    folder = Path(os.path.expanduser(name.partition(":")[2]))
    texts, pictures = count_files(folder, EXTENSION, EXTENSIONS)
    if texts and not pictures:
        return load_texts(name, *_listed(name, folder, (EXTENSION,)), reading, progress)
    refuse_text_settings(name, reading)
    dataset = _load_images(name, folder, data_dir, progress)
    beside = f"{texts:,} text files beside the images are not read"
    return replace(dataset, notes=(*dataset.notes, beside)) if texts else dataset


def _load_images(name: str, folder: Path, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """The data set of the images in a folder."""
    names, train, test = _listed(name, folder, EXTENSIONS)
    classes = len(names)
    frame = frame_of(train[0][0])
    if exceeds_memory(len(train) + len(test), frame):
        return Dataset(name, classes, streamed(train, frame), streamed(test, frame) if test else None)
    pictures = Pictures(name, tuple(path for path, _ in (*train, *test)))
    images = decoded(pictures, f"folder:{os.path.abspath(folder)}", data_dir, progress)
    return divided(name, classes, torch.from_numpy(images), [label for _, label in train], [label for _, label in test])


def divided(
    name: str, classes: int, images: torch.Tensor, train_labels: Sequence[int], test_labels: Sequence[int]
) -> Dataset:
    """The data set of images in one tensor, those of the training set first; without test labels it has no test set."""
    train = len(train_labels)
    test = Examples(images[train:], torch.tensor(test_labels)) if test_labels else None
    return Dataset(name, classes, Examples(images[:train], torch.tensor(train_labels)), test)


def _listed(name: str, folder: Path, extensions: tuple[str, ...]) -> tuple[tuple[str, ...], Samples, Samples]:
    """The names of the classes, the training set, and the test set, empty where there is none."""
    if not os.path.isdir(folder / "train"):
        raise MissingError(
            f"--dataset {name}: there is no folder {folder / 'train'}", "it needs train/CLASS/ with images, or texts"
        )
    test = next((part for part in ("test", "val") if os.path.isdir(folder / part)), None)
    try:
        parts = [list_images(folder / part, extensions) for part in ("train", test) if part]
    except OSError as error:
        raise PactlError(f"--dataset {name}: {error}", "every class needs a folder with at least one image") from error
    classes = parts[0].classes
    if len(classes) < 2:
        raise PactlError(f"--dataset {name} has a single class", "train/ needs at least two class folders")
    if any(part.classes != classes for part in parts):
        raise PactlError(f"--dataset {name}: {test}/ and train/ have different classes")
    return classes, parts[0].samples, parts[1].samples if test else []
