"""Arrays that stay in their file: rows of an uncompressed member of an `.npz` file, read on demand."""

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
    """An array at a place in a file.

    Attributes:
        place: the offset of the array's first byte.
        state: the state that the file must keep while it is read, so that the hashed bytes are the bytes that are used.
        crc: the checksums of the member's bytes before the array, and of the whole member.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    place: int
    state: FileState
    crc: tuple[int, int]

    @property
    def row_bytes(self) -> int:
        """The size of one row in bytes."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows.

        Raises:
            PactlError: if the file has changed or is too short.
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
        """Yield all rows in order, a few at a time, each with the index of its first row.

        Raises:
            PactlError: as `read` does, or at the end if the checksum is wrong.
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
    """Return an array that stays in its `.npz` file; None if it is compressed, or its rows are not contiguous.

    Args:
        header: as `list_arrays` returned it.

    Raises:
        PactlError: if the file cannot be read, or has changed since it was listed.
    """
    with explained(path), open_file(path) as file, ZipFile(file) as archive:
        member = archive.NameToInfo.get(f"{name}.npy")
        if member is None or member.compress_type != ZIP_STORED or header.columns_first or not header.size_bytes:
            return None
        if member.file_size != header.start + header.size_bytes:
            raise ValueError(f"the size of {name} is not the one that its header claims")
        with archive.open(member) as content:  # zipfile checks that the member's header agrees with the archive's
            before = content.read(header.start)
        file.seek(member.header_offset + 26)
        lengths = np.frombuffer(file.read(4), dtype="<u2")
        place = member.header_offset + 30 + int(lengths.sum()) + header.start
        crc = crc32(before), member.CRC
        return StoredArray(path, header.shape, header.dtype, place, file_state(file), crc)
