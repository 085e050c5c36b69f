"""Published data sets: found where torchvision keeps them, or downloaded there once, and always checked."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from http.client import HTTPException
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from warnings import catch_warnings

from filelock import FileLock

from pactl_cli.data.files.checked_files import CheckedFile, read_checked, read_packed
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.progress import Progress
from pactl_cli.errors import MissingError

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
_TORCHVISION_SAYS = "File not found or corrupted."


@dataclass(frozen=True)
class Published:
    """The files of a published data set.

    Attributes:
        name: of the data set.
        folder: the folder of the files below a data directory; "" for that directory itself.
        checksums: md5 or sha256 of each file, in hexadecimal; "" if none is known.
        fetch: a function that downloads the files, in the same layout, below the given directory.
        origin: the address of the download, for messages.
        packed: the checksum of FILE.gz for each FILE that may be there only in that form, which is unpacked in memory;
            "" if the checksum of FILE suffices.
    """

    name: str
    folder: str
    checksums: Mapping[str, str]
    fetch: Callable[[Path], object]
    origin: str
    packed: Mapping[str, str] = field(default_factory=dict)

    def read(self, data_dir: DataDirectory, progress: Progress) -> dict[str, CheckedFile]:
        """Read and check each file once. Download all if none of them is there.

        Raises:
            MissingError: if some are missing, or all are missing and cannot be downloaded.
            PactlError: if one is unreadable, truncated or altered.
        """
        folder = self.located(data_dir, progress)
        remedy = self.remedy(folder)
        return {file: self._file(folder / file, expected, remedy) for file, expected in self.checksums.items()}

    def _file(self, path: Path, expected: str, remedy: str) -> CheckedFile:
        """Read one of the files, or the content of its archive if only that is there."""
        archive = path.with_name(f"{path.name}.gz")
        if path.name in self.packed and not os.path.lexists(path) and os.path.lexists(archive):
            return read_packed(archive, self.packed[path.name], expected, remedy)
        return read_checked(path, expected, remedy)

    def located(self, data_dir: DataDirectory, progress: Progress) -> Path:
        """Return the folder that holds the files, unchecked. Download them if none of them is there.

        Raises:
            MissingError: if they cannot be downloaded, or the data directory must not be written.
        """
        folder = data_dir.path / self.folder
        if not self.lie_in(folder):
            if not data_dir.may_write:
                raise MissingError(
                    f"{self.name} is not in {folder}, and this command downloads nothing",
                    "name the directory that has it with --data-dir, or download it with pactl train --dataset "
                    f"{self.name}",
                )
            self._fetch_once(data_dir.path, progress)
        return folder

    def lie_in(self, folder: Path) -> bool:
        """Return whether any of the files is in a folder, valid or not."""
        return any(
            os.path.lexists(folder / file) for file in (*self.checksums, *(f"{each}.gz" for each in self.packed))
        )

    def _fetch_once(self, data_dir: Path, progress: Progress) -> None:
        """Download the files to a scratch directory and move them into place, unless another process has done so."""
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            with _only_process(data_dir / f".{self.name}.lock") as is_alone:
                if not self.lie_in(data_dir / self.folder):
                    whose = "" if is_alone else f".{os.getpid()}"
                    self._fetch(data_dir, data_dir / f".{self.name}{whose}.partial", progress)
        except (OSError, RuntimeError, HTTPException) as error:
            if isinstance(error, HTTPError):
                error.close()
            reason = str(error).replace(_TORCHVISION_SAYS, "the download is truncated or altered")
            place = f"{self.folder} below a directory" if self.folder else "a directory"
            raise MissingError(
                f"{self.name} is not in {data_dir / self.folder} and cannot be downloaded from {self.origin}: {reason}",
                f"put {self._list()} into {place} and name that directory with --data-dir",
            ) from error

    def _fetch(self, data_dir: Path, scratch: Path, progress: Progress) -> None:
        place = data_dir / self.folder
        if self.folder and os.path.isdir(place) and os.listdir(place):
            raise FileExistsError(f"{place} is in the way: it is a folder with other files")
        shutil.rmtree(scratch, ignore_errors=True)  # a killed process may have left it
        try:
            with _shown(progress):
                self.fetch(scratch)
            place.parent.mkdir(parents=True, exist_ok=True)
            for source in [scratch / self.folder] if self.folder else [scratch / file for file in self.checksums]:
                source.rename(data_dir / source.relative_to(scratch))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _list(self) -> str:
        """Return the names of the files in words."""
        first, *others = self.checksums
        return f"{first} and {len(others)} more files" if len(others) > 3 else " and ".join(self.checksums)

    def remedy(self, folder: Path) -> str:
        """Return the hint for an invalid file."""
        return f"restore the file, or delete {folder if self.folder else self._list()} to have it downloaded again"


@contextmanager
def _only_process(path: Path) -> Iterator[bool]:
    """Wait until no other process holds a lock file, then hold it and yield True, and remove it at the end.

    Yield False at once if the file system has no locks.
    """
    lock = FileLock(path)
    try:
        with catch_warnings(action="ignore"):  # filelock warns if it uses another kind of lock instead
            lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield lock.is_locked
    finally:  # remove it while it is held: a waiting process notices, and makes another
        path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def _shown(progress: Progress) -> Iterator[None]:
    """Report torchvision's downloads as progress, instead of its own bar on stderr and messages on stdout."""
    from torchvision.datasets import utils

    before = getattr(utils, "tqdm", None)
    finished = 0

    class Meter:
        """The part of tqdm that torchvision uses."""

        def __init__(self, total: int | None = None, **_: Any) -> None:
            self._done, self._total = 0, total

        def __enter__(self) -> Meter:
            return self

        def __exit__(self, *_: object) -> None:
            nonlocal finished
            finished += self._done

        def update(self, count: int) -> None:
            """Report `count` more bytes."""
            self._done += count
            progress(finished + self._done, finished + max(self._done, self._total or 0))

    utils.tqdm = Meter
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        utils.tqdm = before
