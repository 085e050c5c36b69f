"""`pactl permute`: a permutation of a training set's indices, the same on every machine."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np

from pactl_cli import catalogue
from pactl_cli.data.splits import permuted_indices
from pactl_cli.errors import PactlError, not_written
from pactl_cli.runs.directory import replace_file


def default_place(dataset: str, seed: int) -> Path:
    """Return where a permutation goes by default: a file in the working directory, named after data set and seed."""
    named = dataset in catalogue.DATASETS or catalogue.is_handed(dataset)
    name = dataset.replace(":", "-") if named else Path(dataset.rpartition(":")[2]).stem
    return Path(f"{name}-permutation-{seed}.npy")


def permute(dataset: str, seed: int, out: Path, data_dir: Path | None) -> None:
    """Write the permutation of `seed` as int64 into the `.npy` file `out`.

    A file that holds it already is not touched. The catalogue knows the length of its own data sets; the user's data
    are read for it.

    Raises:
        PactlError: if the data set is unknown or missing, or the file holds something else or cannot be written.
    """
    if len(catalogue.joined(dataset)) > 1:
        raise PactlError(f"--dataset {dataset}: a permutation is for one data set", "name one of them")
    examples = catalogue.dataset_entry(dataset).train_examples or _count(dataset, data_dir)
    buffer = BytesIO()
    np.save(buffer, permuted_indices(examples, seed))
    try:
        if out.exists():
            if out.read_bytes() == buffer.getvalue():
                return
            raise PactlError(f"--out {out} holds something else", "choose another name, or remove it")
        if not out.parent.is_dir():
            raise PactlError(f"--out {out}: there is no directory {out.parent}", "make it first")
        replace_file(out, buffer.getvalue())
    except OSError as error:
        raise not_written(f"--out {out}", error) from error


def _count(dataset: str, data_dir: Path | None) -> int:
    """Return the number of training examples in the user's own data."""
    if counted_by := catalogue.dataset_entry(dataset).counted_by:
        return int(catalogue.imported(counted_by)(dataset))
    from pactl_cli.data.loading import load_dataset
    from pactl_cli.problem.machine import data_directory

    return len(load_dataset(dataset, data_directory(data_dir), original=True).train)
