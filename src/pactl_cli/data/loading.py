"""Loading of a data set by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pactl_cli import catalogue
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.progress import Progress, unheard
from pactl_cli.data.joining import join
from pactl_cli.data.reading import Reading
from pactl_cli.data.resizing import resized
from pactl_cli.errors import PactlError
from pactl_cli.models.inputs import IMAGE


def load_dataset(
    name: str,
    data_dir: Path,
    progress: Progress = unheard,
    *,
    may_write: bool = True,
    reading: Reading | None = None,
    original: bool = False,
) -> Dataset:
    """Load a data set on the CPU.

    Args:
        name: from the catalogue, or a kind of the user's own data and a path, as `npz:PATH`; or several, with commas.
        data_dir: where named data sets lie, in torchvision's layout. Absent data sets are downloaded into it.
        progress: called with counts of images read and of bytes downloaded.
        may_write: whether anything may be written below `data_dir`. If not, nothing is downloaded.
        reading: how the user's own data are read.
        original: whether images keep their size, even if `reading` asks for another.

    Raises:
        MissingError: if it is absent and cannot or may not be downloaded.
        PactlError: if it is truncated, altered or malformed, or if `reading` does not fit it, or as `resized` does.
    """
    how = reading or Reading()
    if len(catalogue.joined(name)) > 1:
        parts = load_parts(name, data_dir, how, progress, may_write=may_write)
        return join(name, _in_one_size(parts, how.image_size, DataDirectory(data_dir, may_write), progress))
    entry = catalogue.dataset_entry(name)
    how.refuse(f"it has no meaning for --dataset {name}", but=(*entry.reads, "image_size"))
    more = {"reading": how} if entry.takes_path or entry.reads else {}
    directory = DataDirectory(data_dir, may_write)
    dataset: Dataset = entry.maker()(name, directory, progress, **more)
    if isinstance(dataset.train, Examples) and entry.train_examples not in (None, len(dataset.train)):
        raise PactlError(
            f"{name} in {data_dir} has {len(dataset.train):,} training examples, not {entry.train_examples:,}",
            "restore its files, or delete them to have them downloaded again",
        )
    return dataset if original else resized(dataset, how.image_size, directory, progress)


def load_parts(
    name: str, data_dir: Path, how: Reading, progress: Progress = unheard, *, may_write: bool = True
) -> list[Dataset]:
    """Load the data sets that a name joins, or the one that it names, with images in their original size.

    Raises:
        PactlError: as `load_dataset` does.
    """
    names = catalogue.joined(name)
    reads = {each: {*catalogue.dataset_entry(each).reads, "image_size"} for each in names}
    how.refuse(f"it has no meaning for --dataset {name}", but=set().union(*reads.values()))
    return [
        load_dataset(each, data_dir, progress, may_write=may_write, reading=how.only(reads[each]), original=True)
        for each in names
    ]


def _in_one_size(
    parts: Sequence[Dataset], size: int | None, directory: DataDirectory, progress: Progress
) -> list[Dataset]:
    """Return the data sets with their images in the size of the first, or in a square of `size`."""
    first, sizes = resized(parts[0], size, directory, progress), set(parts[0].spec.sides)
    side = size or (sizes.pop() if len(sizes) == 1 else None)
    others = (resized(each, side if each.spec.kind == IMAGE else None, directory, progress) for each in parts[1:])
    return [first, *others]
