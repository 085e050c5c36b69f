"""Tiny ImageNet, unpacked or in its archive."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import torch

from pactl_cli import catalogue
from pactl_cli.data.dataset import Dataset, resident_parts
from pactl_cli.data.files.checked_files import check_file, require_unchanged
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.decoded_cache import DecodedCache
from pactl_cli.data.files.decoding import Frame
from pactl_cli.data.files.downloads import Published
from pactl_cli.data.files.pictures import Pictures
from pactl_cli.data.files.progress import Progress
from pactl_cli.errors import MissingError, PactlError

FOLDER = "tiny-imagenet-200"
URL = f"http://cs231n.stanford.edu/{FOLDER}.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"

_CLASSES = "wnids.txt"
_ANNOTATIONS = "val/val_annotations.txt"
_VALIDATION = "val/images"
_FRAME = Frame((3, 64, 64))


def load_tiny_imagenet(name: str, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Load Tiny ImageNet: 100,000 colour images of 64 x 64 in 200 classes, and 10,000 validation images as test set.

    Classes, and the images of each, are in the order of their names. The archive is not unpacked. If it is there, an
    unpacked folder is ignored, because only the archive has a checksum.

    Raises:
        PactlError: if it is absent, incomplete, truncated or altered.
    """
    published = _published(name)
    unpacked = data_dir.path / FOLDER
    if os.path.isdir(unpacked) and not published.lie_in(data_dir.path):
        return _loaded(name, _unpacked(unpacked), data_dir, progress)
    folder = published.located(data_dir, progress)
    archive, remedy = folder / f"{FOLDER}.zip", published.remedy(folder)
    state = check_file(archive, MD5, remedy)
    try:
        return _loaded(name, _packed(archive), data_dir, progress)
    finally:  # worker processes open the archive again by its name, and another file may have replaced it
        require_unchanged(archive, state, remedy)


def _loaded(name: str, content: _Content, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Load the data set from its folder or its archive."""
    train, test = content.train(), content.test()
    paths = tuple(f"{content.root}/{path}" for path in (*train, *test))
    source = f"{name}:{os.path.abspath(content.archive or content.root)}"
    cache = DecodedCache(source, [content.archive] if content.archive else paths, data_dir)
    images = torch.from_numpy(cache.images(Pictures(name, paths, _FRAME, content.archive), progress))
    parts = resident_parts(images, list(train.values()), list(test.values()))
    return Dataset(name, len(content.classes), parts[0], parts[1])


def _published(name: str) -> Published:
    """Return the archive as a published file, which is checked after the download and at every reading."""
    from torchvision.datasets.utils import download_url

    file = f"{FOLDER}.zip"
    return Published(name, "", {file: MD5}, lambda place: download_url(URL, place, file, MD5), origin=URL)


@dataclass(frozen=True)
class _Content:
    """The content of the folder or the archive.

    Attributes:
        archive: the archive's path; "" if unpacked.
        root: the prefix of every name.
        classes: in order.
        files: names of files by folder.
        annotations: a line for each validation image, which begins with its file name and class.
    """

    archive: str
    root: str
    classes: list[str]
    files: dict[str, list[str]]
    annotations: str

    def train(self) -> dict[str, int]:
        """Return the label of each training image by name, in order."""
        examples = catalogue.DATASETS["tiny-imagenet"].train_examples or 0
        labels: dict[str, int] = {}
        for label, wnid in enumerate(self.classes):
            folder = f"train/{wnid}/images"
            images = self._images(folder)
            if len(images) * len(self.classes) != examples:
                raise self._incomplete(f"{folder} has {len(images):,} images, not {examples // len(self.classes):,}")
            labels |= {f"{folder}/{image}": label for image in images}
        return labels

    def test(self) -> dict[str, int]:
        """Return the label of each validation image by name, in order."""
        label = {wnid: label for label, wnid in enumerate(self.classes)}
        wnids = dict(line.split("\t")[:2] for line in self.annotations.splitlines() if "\t" in line)
        images = self._images(_VALIDATION)
        if odd := wnids.keys() ^ set(images):
            raise self._incomplete(f"{_VALIDATION}/{min(odd)} is missing, or its line in {_ANNOTATIONS}")
        if odd := wnids.values() - label.keys():
            raise self._incomplete(f"{_ANNOTATIONS} has the class {min(odd)}, which {_CLASSES} lacks")
        return {f"{_VALIDATION}/{image}": label[wnids[image]] for image in images}

    def _images(self, folder: str) -> list[str]:
        return sorted(file for file in self.files.get(folder, ()) if file.endswith(".JPEG"))

    def _incomplete(self, complaint: str) -> PactlError:
        return PactlError(
            f"{self.root}/{complaint}", f"restore it, or delete {self.archive or self.root} to have it downloaded again"
        )


def _packed(path: Path) -> _Content:
    """Return the content of the archive, which has been checked."""
    files = defaultdict(list)
    with ZipFile(path) as archive:
        for name in archive.namelist():
            folder, _, file = name.removeprefix(f"{FOLDER}/").rpartition("/")
            files[folder].append(file)
        classes, annotations = (archive.read(f"{FOLDER}/{name}").decode() for name in (_CLASSES, _ANNOTATIONS))
    return _Content(str(path), FOLDER, sorted(classes.split()), files, annotations)


def _unpacked(path: Path) -> _Content:
    """Return the content of the folder.

    Raises:
        PactlError: naming a file or folder that is missing or cannot be read.
    """
    try:
        classes, annotations = ((path / name).read_text("utf-8", "replace") for name in (_CLASSES, _ANNOTATIONS))
        folders = [_VALIDATION, *(f"train/{wnid}/images" for wnid in classes.split())]
        files = {folder: os.listdir(path / folder) for folder in folders}
    except OSError as error:
        kind = MissingError if isinstance(error, FileNotFoundError) else PactlError
        raise kind(
            f"{error.filename} cannot be read: {error.strerror}",
            f"restore it, or delete {path} to have it downloaded again",
        ) from error
    return _Content("", str(path), sorted(classes.split()), files, annotations)
