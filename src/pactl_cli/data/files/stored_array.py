"""An array that stays in its file: rows of an uncompressed member of an `.npz` file, read when they are wanted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pactl_cli.data.files.arrays import ArrayHeader, explained
from pactl_cli.data.files.checked_files import FileState, file_state, open_file
from pactl_cli.errors import PactlError

PIECE_BYTES = 1 << 24


@dataclass(frozen=True)
class StoredArray:
    """The array at a place of a file.

    Attributes:
        place: of its first byte.
        state: in which the file must be for as long as it is read: what was hashed is what is used.
        crc: checksum of the bytes before the array, in its member, and of all of them.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    place: int
    state: FileState
    crc: tuple[int, int]

    @property
    def row_bytes(self) -> int:
        """What one of its rows takes."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows.

        Raises:
            PactlError: if the file has changed, or ends before.
        """
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1) if len(rows) else rows
        ends = [*starts[1:].tolist(), len(rows)][: len(starts)]
        content, size = found.reshape(-1).view(np.uint8), self.row_bytes
        with explained(self.path), open_file(self.path) as file:
            if file_state(file) != self.state:
                raise ValueError("it has changed since it was opened")
            for start, end in zip(starts.tolist(), ends, strict=True):
                read = os.pread(file.fileno(), (end - start) * size, self.place + int(rows[start]) * size)
                if len(read) != (end - start) * size:
                    raise ValueError("it ends too early")
                content[start * size : end * size] = np.frombuffer(read, np.uint8)
        return found

    def pieces(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Give all rows in order, a few at a time, each with the index of the first.

        Raises:
            PactlError: as `read` does, or, at the end, if they are not those that were written.
        """
        crc, expected = self.crc
        step = max(1, PIECE_BYTES // self.row_bytes)
        for start in range(0, self.shape[0], step):
            piece = self.read(np.arange(start, min(start + step, self.shape[0])))
            crc = crc32(piece.tobytes(), crc)
            yield start, piece
        if crc != expected:
            raise PactlError(f"{self.path} cannot be read: its checksum is wrong: it is truncated or altered")


def stored_array(path: Path, name: str, header: ArrayHeader) -> StoredArray | None:
    """Return an array of an `.npz` file that is to stay there; None if it is compressed, or its rows are scattered.

    Args:
        header: as `list_arrays` has found it.

    Raises:
        PactlError: if the file cannot be read, or is not the one that was listed.
    """
    with explained(path), open_file(path) as file, ZipFile(file) as archive:
        member = archive.NameToInfo.get(f"{name}.npy")
        if member is None or member.compress_type != ZIP_STORED or header.columns_first or not header.size_bytes:
            return None
        if member.file_size != header.start + header.size_bytes:
            raise ValueError(f"the header of {name} does not promise as many bytes as there are")
        with archive.open(member) as content:  # which knows whether its own header agrees with the archive's
            before = content.read(header.start)
        file.seek(member.header_offset + 26)
        lengths = np.frombuffer(file.read(4), dtype="<u2")
        place = member.header_offset + 30 + int(lengths.sum()) + header.start
        crc = crc32(before), member.CRC
        return StoredArray(path, header.shape, header.dtype, place, file_state(file), crc)
