"""A data set by its name."""

from __future__ import annotations

from pathlib import Path

from pactl_cli import catalogue
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.progress import Progress, unheard
from pactl_cli.data.reading import Reading
from pactl_cli.data.resizing import resized
from pactl_cli.errors import PactlError


def load_dataset(
    name: str,
    data_dir: Path,
    progress: Progress = unheard,
    *,
    may_write: bool = True,
    reading: Reading | None = None,
    original: bool = False,
) -> Dataset:
    """The data set `name`, on the CPU.

    Args:
        name: of the catalogue, or a kind of the user's own data and a path, as `npz:PATH`.
        data_dir: where named data sets lie, in torchvision's layout; what is absent is fetched into it.
        progress: told of images read one by one and of bytes fetched.
        reading: how the user's own data are read.
        original: whether images stay as the files have them, whatever size is asked for.
        may_write: whether anything may be written below `data_dir`; if not, what is absent is missing.

    Raises:
        MissingError: if it is absent and cannot or may not be fetched.
        PactlError: if it is truncated or altered, or not what a data set must be, or is not read in that way, or as
            `resized` does.
    """
    entry, how = catalogue.dataset_entry(name), reading or Reading()
    how.refuse(f"it has no meaning for --dataset {name}", but=(*entry.reads, "image_size"))
    more = {"reading": how} if entry.takes_path or entry.reads else {}
    directory = DataDirectory(data_dir, may_write)
    dataset: Dataset = entry.maker()(name, directory, progress, **more)
    if isinstance(dataset.train, Examples) and entry.train_examples not in (None, len(dataset.train)):
        raise PactlError(
            f"{name} in {data_dir} has {len(dataset.train):,} training examples, not {entry.train_examples:,}",
            "restore its files, or delete them to have them fetched again",
        )
    return dataset if original else resized(dataset, how.image_size, directory, progress)
