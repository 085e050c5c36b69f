"""A cache of decoded images and image headers, so that tens of thousands of files are read only once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from pactl_cli.certificate.format import FORMAT
from pactl_cli.data.files.arrays import read_arrays
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.pictures import Headers, Pictures, Pixels, read_headers
from pactl_cli.data.files.progress import Progress
from pactl_cli.errors import PactlError

_FOLDER = "folders"
"""The cache's directory below the data directory, with two files for each source of images."""
_FORMAT = 2
"""The version of the cache files and of the rules for reading pictures. Increase it if a pixel may change."""
_SETTLED_SECONDS = 2.0
"""A file that changed more recently may change again unnoticed, because some file systems have clocks this coarse."""

_IMAGES, _HEADERS = "images", "headers"


class DecodedCache:
    """The cached images and headers of one source. After a change of any file, they are read and kept again.

    If nothing can or may be written, the result is the same without the cache.
    """

    def __init__(self, source: str, files: Sequence[str], data_dir: DataDirectory) -> None:
        """Record the state of the files, whose change invalidates the cache.

        Args:
            source: a kind of data set and an absolute path, which name the cache files.
            data_dir: the directory above the cache.
        """
        self._source, self._data_dir, self._looked = source, data_dir, time.time()
        self._state, self._changed = _state(files)

    def images(self, pictures: Pictures, progress: Progress) -> Pixels:
        """Return the images that `pictures.read` returns, shape (n, C, H, W).

        Raises:
            PactlError: as `pictures.read` does.
        """
        like = np.broadcast_to(np.uint8(0), (len(pictures.paths), *pictures.frame.shape))
        content = f"{pictures.frame}\0" + "\0".join(pictures.paths)
        images: Pixels = self._loaded_or_made(_IMAGES, content, like, lambda: pictures.read(progress))
        return images

    def headers(self, name: str, paths: Sequence[str], progress: Progress) -> Headers:
        """Return the headers that `read_headers` returns, shape (n, 3).

        Raises:
            PactlError: as `read_headers` does.
        """
        like = np.broadcast_to(np.int32(0), (len(paths), 3))
        content = "\0".join(paths)
        headers: Headers = self._loaded_or_made(_HEADERS, content, like, lambda: read_headers(name, paths, progress))
        return headers

    def _loaded_or_made(self, kind: str, content: str, like: NDArray[Any], make: Callable[[], NDArray[Any]]) -> Any:
        """Load the array of a cache file, or make it and keep it if possible.

        Args:
            kind: the array's name, and the end of the file's name.
            content: identifies the array together with the state of the files.
            like: an array of the same shape and type.
        """
        prefix = sha256(os.fsencode(self._source)).hexdigest()[:16]
        state = sha256(self._state + os.fsencode(content)).hexdigest()[:32]
        path = self._data_dir.path / _FOLDER / f"{prefix}-{state}.{kind}.npz"
        if (loaded := _load(path, kind, like)) is not None:
            return loaded
        made = make()
        if self._data_dir.may_write and self._changed < self._looked - _SETTLED_SECONDS:
            with suppress(OSError):  # the disk is full or read-only
                _save(path, kind, made)
                for stale in path.parent.glob(f"{prefix}-*.{kind}.npz"):
                    if stale != path:
                        stale.unlink(missing_ok=True)
        return made


def _state(files: Sequence[str]) -> tuple[bytes, float]:
    """Return a fingerprint that changes if any file changes, and the time of the last change.

    It includes the inode's change time, which no program can set back, unlike the modification time.
    """
    digest = sha256(f"{_FORMAT} {FORMAT} {PIL.__version__}".encode())
    changed = 0.0
    for path in files:
        try:
            status = os.stat(path)
        except OSError:
            return b"", float("inf")  # reading the file will raise the error
        digest.update(f"\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode())
        changed = max(changed, status.st_ctime)
    return digest.digest(), changed


def _load(path: Path, kind: str, like: NDArray[Any]) -> NDArray[Any] | None:
    """Return the array of a cache file, or None if it is absent, unlike `like`, or damaged, as its CRC-32 shows."""
    try:
        array = read_arrays(path, (kind,)).get(kind)
    except PactlError:
        return None
    return array if array is not None and (array.dtype, array.shape) == (like.dtype, like.shape) else None


def _save(path: Path, kind: str, array: NDArray[Any]) -> None:
    """Write a cache file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.stem}.", suffix=".partial", delete=False) as file:
        try:
            np.savez(file, **{kind: array})  # type: ignore[arg-type]
            file.flush()
            with suppress(OSError):  # the file system may have no modes
                os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
