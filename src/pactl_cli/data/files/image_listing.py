"""Image files in class folders, in the order of torchvision's ImageFolder, but each file only once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from stat import S_ISREG

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of image files, in any case: those of torchvision."""

Samples = list[tuple[str, int]]
"""Paths of images, each with its label."""

_Identity = tuple[int, int]
"""Device and inode: the same for a file or directory by whatever name it is reached."""


@dataclass(frozen=True)
class Listing:
    """One part of a data set.

    Attributes:
        classes: names of the class folders, in order; the place of a name is the label.
        samples: the images of all of them.
    """

    classes: tuple[str, ...]
    samples: Samples


def list_images(part: Path, extensions: tuple[str, ...] = EXTENSIONS) -> Listing:
    """The images, or other files with some extensions, below the class folders of a part, `part/CLASS/**`.

    Of a file that has several names, by links of either kind, the first in order is kept: if one example counted twice,
    the sample would not be independent. A link to a directory is followed, unless it leads to a directory above itself
    or to one that has been listed.

    Raises:
        OSError: if there are no classes, or one has no image of its own, or something cannot be read or is no file.
    """
    with os.scandir(part) as entries:
        classes = sorted(entry.name for entry in entries if entry.is_dir())
    if not classes:
        raise FileNotFoundError(f"Couldn't find any class folder in {part}.")
    walk = _Walk(str(part), extensions)
    images = [walk.images(name) for name in classes]
    if empty := [name for name, paths in zip(classes, images, strict=True) if not paths]:
        raise FileNotFoundError(
            f"Found no valid file for the classes {', '.join(empty)}. Supported extensions are: {', '.join(extensions)}"
        )
    return Listing(tuple(classes), [(path, label) for label, paths in enumerate(images) for path in paths])


def count_files(folder: Path, *kinds: str | tuple[str, ...]) -> list[int]:
    """How many files there are of each kind, by their extensions, in the class folders of a data set in a folder.

    Names that begin with a dot do not count.
    """
    part = folder / "train" if os.path.isdir(folder / "train") else folder
    counts = [0] * len(kinds)
    for place in (entry for entry in os.scandir(part) if entry.is_dir()) if os.path.isdir(part) else ():
        for _, folders, files in os.walk(place):
            folders[:] = [name for name in folders if not name.startswith(".")]
            names = [name.lower() for name in files if not name.startswith(".")]
            counts = [
                count + sum(name.endswith(kind) for name in names) for count, kind in zip(counts, kinds, strict=True)
            ]
    return counts


class _Walk:
    """A walk through the folders of one part, which knows what it has met."""

    def __init__(self, root: str, extensions: tuple[str, ...]) -> None:
        self._root, self._extensions = root, extensions
        self._above = _and_all_above(os.path.realpath(root))
        self._listed: set[_Identity] = set()
        self._taken: set[_Identity] = set()

    def images(self, name: str) -> list[str]:
        """The paths of images in a class folder and below, directories in the order of their whole paths."""
        found = []
        waiting = [(os.path.join(self._root, name), self._above)]
        while waiting:
            path, above = heappop(waiting)  # what is below a path comes after it, so this is the order of all of them
            here = _identity(os.stat(path))
            if here in self._listed or here in above:
                continue
            self._listed.add(here)
            folders, files = _content(path, self._extensions)
            below = above | _and_all_above(os.path.realpath(path))
            for folder in folders:
                heappush(waiting, (folder, below))
            found += [file for file in files if self._is_new(file)]
        return found

    def _is_new(self, path: str) -> bool:
        """Whether a file has not been met before, under whatever name."""
        status = os.stat(path)
        if not S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a plain file")
        known = _identity(status) in self._taken
        self._taken.add(_identity(status))
        return not known


def _content(path: str, extensions: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The paths of the directories and of the files with some extensions in a directory, the files in order."""
    folders, files = [], []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir():
                folders.append(entry.path)
            elif entry.name.lower().endswith(extensions):
                files.append(entry.path)
    return folders, sorted(files)


def _and_all_above(path: str) -> frozenset[_Identity]:
    """A directory, given by its real path, and all that it lies in."""
    return frozenset(_identity(place.stat()) for place in (Path(path), *Path(path).parents))


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino
