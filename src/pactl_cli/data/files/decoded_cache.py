"""Decoded images kept in one file, so that tens of thousands of files are read once."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import PIL

from pactl_cli.data.files.arrays import read_arrays
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.pictures import Pictures, Pixels
from pactl_cli.data.files.progress import Progress
from pactl_cli.errors import PactlError

PLACE = "folders"
"""The directory, below the data directory, with a file for each source of images."""

_FORMAT = 1
_SETTLED_SECONDS = 2.0
"""A file that changed so recently may change again unseen: the coarsest clocks of file systems tick that slowly."""


def decoded(pictures: Pictures, source: str, data_dir: DataDirectory, progress: Progress) -> Pixels:
    """What `pictures.read` gives, shape (n, C, H, W): from the cache if nothing has changed since, else read and kept.

    Where nothing can or may be kept, nothing is, and the result is the same.

    Args:
        source: where they come from: a kind of data set and an absolute path. The cache has one file for each.
        data_dir: it has the cache below it.

    Raises:
        PactlError: as `pictures.read` does.
    """
    now = time.time()
    state, changed = _state(pictures)
    prefix = sha256(os.fsencode(source)).hexdigest()[:16]
    path = data_dir.path / PLACE / f"{prefix}-{state}.npz"
    kept = _kept(path, len(pictures.paths))
    if kept is not None:
        return kept
    images = pictures.read(progress)
    if data_dir.may_write and changed < now - _SETTLED_SECONDS:
        with suppress(OSError):  # of a disk that is full or read-only
            _keep(path, images)
            for stale in path.parent.glob(f"{prefix}-*"):
                if stale != path:
                    stale.unlink(missing_ok=True)
    return images


def _state(pictures: Pictures) -> tuple[str, float]:
    """A fingerprint of all that a change of any file changes, and the time of the last change.

    It has the time of the inode's change too, which no program can set back as some do that of the content.
    """
    digest = sha256(f"{_FORMAT} {PIL.__version__} {pictures.mode}\0".encode())
    digest.update(os.fsencode("\0".join(pictures.paths)))
    changed = 0.0
    for path in [pictures.archive] if pictures.archive else pictures.paths:
        try:
            status = os.stat(path)
        except OSError:
            return "", float("inf")  # reading it will complain
        digest.update(f"\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode())
        changed = max(changed, status.st_ctime)
    return digest.hexdigest()[:32], changed


def _kept(path: Path, count: int) -> Pixels | None:
    """The images of a cache file, or None if it has not all of them, unharmed: the archive holds their CRC-32."""
    try:
        images = read_arrays(path, ("images",)).get("images")
    except PactlError:
        return None
    whole = images is not None and images.dtype == np.uint8 and images.ndim == 4 and len(images) == count
    return images if whole else None


def _keep(path: Path, images: Pixels) -> None:
    """Writes a cache file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.stem}.", suffix=".partial", delete=False) as file:
        try:
            np.savez(file, images=images)
            file.flush()
            with suppress(OSError):  # of a file system without modes
                os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
