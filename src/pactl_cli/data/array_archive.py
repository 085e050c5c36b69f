"""The user's `.npz` file: its headers, and its arrays, or dictionaries of arrays, by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pactl_cli.data.array_values import Held, Values
from pactl_cli.data.files.arrays import ArrayHeader, list_arrays, read_arrays
from pactl_cli.data.files.stored_array import StoredArray, stored_array
from pactl_cli.errors import MissingError, PactlError, names_in_words, on_one_line

SAVE = "save it with numpy.savez(PATH, x_train=..., y_train=..., x_test=..., y_test=...)"


@dataclass(frozen=True)
class ArrayArchive:
    """A file of arrays, with their headers.

    Attributes:
        where: the data set or the file, for messages.
    """

    where: str
    path: Path
    headers: dict[str, ArrayHeader]

    @classmethod
    def of(cls, dataset: str) -> ArrayArchive:
        """Return the file of a data set `npz:PATH`.

        Raises:
            PactlError: if it cannot be read, or is not an archive.
        """
        path = Path(os.path.expanduser(dataset.partition(":")[2]))
        try:
            headers = list_arrays(path)
        except MissingError as error:
            raise MissingError(f"--dataset {dataset}: {error.message}") from error
        except PactlError as error:
            raise PactlError(f"--dataset {dataset}: {error.message}", error.hint or SAVE) from error
        if "" in headers:
            raise PactlError(f"--dataset {dataset}: {path} is a single array, {headers['']}, without labels", SAVE)
        return cls(f"--dataset {dataset}", path, headers)

    @property
    def stems(self) -> tuple[str, ...]:
        """The names of the arrays, and of the dictionaries of arrays, which are saved as `NAME.KEY`."""
        return tuple(dict.fromkeys(name.partition(".")[0] for name in self.headers))

    def keys(self, stem: str) -> tuple[str, ...]:
        """Return the keys of a dictionary of arrays, sorted. An array has none.

        Raises:
            PactlError: if there is both an array and a dictionary of that name.
        """
        keys = tuple(sorted(name[len(stem) + 1 :] for name in self.headers if name.startswith(f"{stem}.")))
        if keys and stem in self.headers:
            raise PactlError(f"{self.called(stem)} is an array, but {stem}.{keys[0]} is too", "save one of them")
        return keys

    def called(self, name: str) -> str:
        """Return an array's name for messages."""
        return f"{self.where}: {on_one_line(name)}"

    def listed(self) -> str:
        """Return the names and headers of all arrays in words."""
        return names_in_words([f"{name[:60]} {header}" for name, header in self.headers.items()]) or "no arrays"

    def require_no_objects(self, name: str, *, saved_as: str = "float32") -> None:
        """Raise PactlError if an array holds Python objects, and say with which type to save it."""
        if self.headers[name].dtype.hasobject:
            raise PactlError(
                f"{self.called(name)} cannot be read: it holds Python objects",
                f'save it with a type of its own: {name}.astype("{saved_as}")',
            )

    def read(self, *names: str) -> dict[str, Values]:
        """Return some arrays by name.

        Raises:
            PactlError: if they cannot be read, or would take more than half of the available memory.
        """
        try:
            return read_arrays(self.path, names)
        except PactlError as error:
            raise type(error)(f"{self.where}: {error.message}", error.hint) from error

    def stored(self, name: str) -> StoredArray | Held | None:
        """Return an array whose rows are read on demand; None if the file's form does not allow it."""
        return stored_array(self.path, name, self.headers[name])


@dataclass(frozen=True)
class HeldArrays(ArrayArchive):
    """Arrays in memory, with the interface of a file of arrays."""

    arrays: Mapping[str, Values]

    @classmethod
    def holding(cls, dataset: str, arrays: Mapping[str, Values]) -> HeldArrays:
        """Return an archive of these arrays, which have the names that they would have in a file."""
        headers = {name: ArrayHeader(array.shape, array.dtype) for name, array in arrays.items()}
        return cls(f"--dataset {dataset}", Path(), headers, arrays)

    def read(self, *names: str) -> dict[str, Values]:
        """Return some arrays by name."""
        return {name: self.arrays[name] for name in names}

    def stored(self, name: str) -> Held:
        """Return an array, which takes no more memory than it already does."""
        return Held(self.arrays[name])
