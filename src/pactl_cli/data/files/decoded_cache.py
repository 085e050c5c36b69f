"""Decoded images, and what the headers of their files say, kept so that tens of thousands of files are read once."""

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

PLACE = "folders"
"""The directory, below the data directory, with two files for each source of images."""

_FORMAT = 2
"""Of the files, and of the rules by which pictures are read: a new number where a pixel may change."""
_SETTLED_SECONDS = 2.0
"""A file that changed so recently may change again unseen: the coarsest clocks of file systems tick that slowly."""

_IMAGES, _HEADERS = "images", "headers"


class DecodedCache:
    """What is kept of the images of one source: used only while nothing has changed since, else read and kept again.

    Where nothing can or may be kept, nothing is, and the result is the same.
    """

    def __init__(self, source: str, files: Sequence[str], data_dir: DataDirectory) -> None:
        """Look at the state of the files, whose change makes stale what is kept.

        Args:
            source: where they come from: a kind of data set and an absolute path. The cache has two files for each.
            data_dir: it has the cache below it.
        """
        self._source, self._data_dir, self._looked = source, data_dir, time.time()
        self._state, self._changed = _state(files)

    def images(self, pictures: Pictures, progress: Progress) -> Pixels:
        """Return what `pictures.read` gives, shape (n, C, H, W).

        Raises:
            PactlError: as `pictures.read` does.
        """
        like = np.broadcast_to(np.uint8(0), (len(pictures.paths), *pictures.frame.shape))
        content = f"{pictures.frame}\0" + "\0".join(pictures.paths)
        images: Pixels = self._kept_or_made(_IMAGES, content, like, lambda: pictures.read(progress))
        return images

    def headers(self, name: str, paths: Sequence[str], progress: Progress) -> Headers:
        """Return what `read_headers` gives, shape (n, 3).

        Raises:
            PactlError: as `read_headers` does.
        """
        like = np.broadcast_to(np.int32(0), (len(paths), 3))
        headers: Headers = self._kept_or_made(
            _HEADERS, "\0".join(paths), like, lambda: read_headers(name, paths, progress)
        )
        return headers

    def _kept_or_made(self, kind: str, content: str, like: NDArray[Any], make: Callable[[], NDArray[Any]]) -> Any:
        """The array of a cache file, or one that is made, and kept where that may be.

        Args:
            kind: the array's name, and the end of the file's.
            content: what, beside the state of the files, says what it is.
            like: an array of its shape and type.
        """
        prefix = sha256(os.fsencode(self._source)).hexdigest()[:16]
        state = sha256(self._state + os.fsencode(content)).hexdigest()[:32]
        path = self._data_dir.path / PLACE / f"{prefix}-{state}.{kind}.npz"
        kept = _kept(path, kind, like)
        if kept is not None:
            return kept
        made = make()
        if self._data_dir.may_write and self._changed < self._looked - _SETTLED_SECONDS:
            with suppress(OSError):  # of a disk that is full or read-only
                _keep(path, kind, made)
                for stale in path.parent.glob(f"{prefix}-*.{kind}.npz"):
                    if stale != path:
                        stale.unlink(missing_ok=True)
        return made


def _state(files: Sequence[str]) -> tuple[bytes, float]:
    """A fingerprint of all that a change of any file changes, and the time of the last change.

    It has the time of the inode's change too, which no program can set back as some do that of the content.
    """
    digest = sha256(f"{_FORMAT} {FORMAT} {PIL.__version__}".encode())
    changed = 0.0
    for path in files:
        try:
            status = os.stat(path)
        except OSError:
            return b"", float("inf")  # reading it will complain
        digest.update(f"\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode())
        changed = max(changed, status.st_ctime)
    return digest.digest(), changed


def _kept(path: Path, kind: str, like: NDArray[Any]) -> NDArray[Any] | None:
    """The array of a cache file, or None if it is not such a one, unharmed: the archive holds its CRC-32."""
    try:
        kept = read_arrays(path, (kind,)).get(kind)
    except PactlError:
        return None
    return kept if kept is not None and (kept.dtype, kept.shape) == (like.dtype, like.shape) else None


def _keep(path: Path, kind: str, array: NDArray[Any]) -> None:
    """Writes a cache file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.stem}.", suffix=".partial", delete=False) as file:
        try:
            np.savez(file, **{kind: array})  # type: ignore[arg-type]
            file.flush()
            with suppress(OSError):  # of a file system without modes
                os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
