"""Listing of image files in class folders, in the order of torchvision's ImageFolder, but each file only once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from stat import S_ISREG

from pactl_cli.errors import names_in_words

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif", ".jfif", ".jpe")
"""Extensions of image files, in any case: torchvision's, and others of the same formats."""

_UNREAD = (
    *(".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpf", ".jpx", ".jxl", ".jxr", ".apng", ".tga", ".pbm"),
    *(".pnm", ".pfm", ".pcx", ".ico", ".psd", ".xcf", ".exr", ".hdr", ".svg", ".dcm", ".nii", ".dng", ".cr2", ".cr3"),
    *(".nef", ".nrw", ".arw", ".srw", ".orf", ".rw2", ".raf", ".pef", ".raw", ".3fr", ".x3f"),
)
"""Extensions of pictures in other formats, which are counted and reported."""
_LEFT_BEHIND = frozenset(
    (
        "__macosx",
        "@eadir",
        "#recycle",
        "@recycle",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",
    )
)
"""Names that archivers, file servers and operating systems leave in folders, in lower case."""

Samples = list[tuple[str, int]]
"""Paths of images, each with its label."""

_Identity = tuple[int, int]
"""Device and inode, which identify a file or directory under all its names."""


@dataclass(frozen=True)
class Listing:
    """The files of one part of a data set.

    Attributes:
        classes: names of the class folders, in order of their labels.
        samples: the files of all classes.
        unread: the number of pictures in formats that are not read, by extension.
    """

    classes: tuple[str, ...]
    samples: Samples
    unread: Mapping[str, int] = field(default_factory=dict)


def is_left_out(name: str) -> bool:
    """Return whether a file or folder of this name is not data: it is hidden, or some program left it there."""
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def list_folders(part: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, without those that `is_left_out` excludes.

    Raises:
        OSError: if the folder cannot be read.
    """
    with os.scandir(part) as entries:
        return sorted(entry.name for entry in entries if not is_left_out(entry.name) and entry.is_dir())


def list_images(
    part: Path, classes: tuple[str, ...] | None = None, extensions: tuple[str, ...] = EXTENSIONS
) -> Listing:
    """List the images, or other files with some extensions, below the class folders of a part, `part/CLASS/**`.

    A file with several names, by hard or symbolic links, is listed once, under the first name: if one example counted
    twice, the sample would not be independent. A link to a directory is followed, unless it leads to a directory above
    itself or to one that is already listed.

    Args:
        classes: the classes of the training set, some of which may be absent here; None for the classes found here.

    Raises:
        OSError: if there are no classes, or one has no image of its own, or the training set lacks it, or a file
            cannot be read or is not a plain file.
    """
    names = list_folders(part)
    if not names:
        raise FileNotFoundError(f"there is no class folder in {part}")
    walk = _Walk(str(part), extensions)
    images = {name: walk.images(name) for name in names}
    if empty := [name for name, paths in images.items() if not paths and classes is None]:
        raise FileNotFoundError(
            f"there is no file of the classes {', '.join(map(walk.in_words, empty))}; extensions that are read: "
            f"{', '.join(extensions)}"
        )
    labels = {name: label for label, name in enumerate(names if classes is None else classes)}
    if others := [name for name, paths in images.items() if paths and name not in labels]:
        raise FileNotFoundError(f"{part} has classes that the training set lacks: {names_in_words(others)}")
    if not any(images.values()):
        raise FileNotFoundError(f"there is no file of a class in {part}")
    samples = [(path, labels[name]) for name, paths in images.items() for path in paths]
    return Listing(tuple(labels), samples, sum(walk.unread.values(), Counter()))


def count_files(folder: Path, *kinds: str | tuple[str, ...]) -> list[int]:
    """Return the number of files of each kind, given by extensions, in the class folders of the training set."""
    part = folder / "train" if os.path.isdir(folder / "train") else folder
    counts = [0] * len(kinds)
    for place in list_folders(part) if os.path.isdir(part) else ():
        for _, folders, files in os.walk(part / place):
            folders[:] = [name for name in folders if not is_left_out(name)]
            names = [name.lower() for name in files if not is_left_out(name)]
            counts = [
                count + sum(name.endswith(kind) for name in names) for count, kind in zip(counts, kinds, strict=True)
            ]
    return counts


class _Walk:
    """A walk through the folders of one part that remembers the files and directories that it has met."""

    def __init__(self, root: str, extensions: tuple[str, ...]) -> None:
        self._root, self._extensions = root, extensions
        self._above = _and_all_above(os.path.realpath(root))
        self._listed: set[_Identity] = set()
        self._taken: set[_Identity] = set()
        self.unread: dict[str, Counter[str]] = {}

    def images(self, name: str) -> list[str]:
        """Return the paths of images in a class folder and below, with directories in the order of their paths."""
        found = []
        self.unread[name] = Counter()
        waiting = [(os.path.join(self._root, name), self._above)]
        while waiting:
            path, above = heappop(waiting)  # a path sorts before all paths below it, so this is the order of all
            here = _identity(os.stat(path))
            if here in self._listed or here in above:
                continue
            self._listed.add(here)
            folders, files = _content(path, self._extensions, self.unread[name])
            below = above | _and_all_above(os.path.realpath(path))
            for folder in folders:
                heappush(waiting, (folder, below))
            found += [file for file in files if self._is_new(file)]
        return found

    def in_words(self, name: str) -> str:
        """Return a class's name with the number of its pictures that are not read."""
        return f"{name} ({_counted(self.unread[name])})" if self.unread[name] else name

    def _is_new(self, path: str) -> bool:
        """Return whether a file is met for the first time under any name."""
        status = os.stat(path)
        if not S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a plain file")
        known = _identity(status) in self._taken
        self._taken.add(_identity(status))
        return not known


def note_of_unread(*parts: Listing) -> tuple[str, ...]:
    """Return a sentence about pictures in formats that are not read, if there are any."""
    unread = sum((Counter(part.unread) for part in parts), Counter[str]())
    if not unread:
        return ()
    return (f"pictures in formats that are not read are left out ({_counted(unread)}): save them as PNG or JPEG",)


def _counted(unread: Counter[str]) -> str:
    return ", ".join(f"{count:,} {extension}" for extension, count in sorted(unread.items()))


def _content(path: str, extensions: tuple[str, ...], unread: Counter[str]) -> tuple[list[str], list[str]]:
    """Return the paths of the directories, and the sorted paths of the files to read, in a directory. Count others."""
    folders, files = [], []
    with os.scandir(path) as entries:
        for entry in entries:
            extension = os.path.splitext(entry.name)[1].lower()
            if is_left_out(entry.name):
                continue
            if entry.is_dir():
                folders.append(entry.path)
            elif extension in extensions:
                files.append(entry.path)
            elif extension in _UNREAD:
                unread[extension] += 1
    return folders, sorted(files)


def _and_all_above(path: str) -> frozenset[_Identity]:
    """Return the identities of a directory, given by its real path, and of all directories above it."""
    return frozenset(_identity(place.stat()) for place in (Path(path), *Path(path).parents))


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino
