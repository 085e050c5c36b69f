"""What the user has named on this command line, and what of a run that may be a stranger's follows from it.

A run directory says which data it is about, where they lay, which network it has and how large it is. None of this is
believed: data come from places that the user names, code is loaded only if the user names it, and a network that takes
much memory is built only if the user names it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pactl_cli import catalogue
from pactl_cli.catalogue import is_brought
from pactl_cli.certificate.configuration import Configuration
from pactl_cli.data.memory import available_memory
from pactl_cli.errors import MissingError, PactlError, quoted
from pactl_cli.models import sketch_network
from pactl_cli.models.layers import parameter_layout
from pactl_cli.models.size import Size
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.stages.machine import data_directory
from pactl_cli.stages.subject import Subject
from pactl_cli.subspace import projector_bytes
from pactl_cli.training.counting import BATCH

_WEIGHTS_COPIES = 6
"""The network, theta0, a permutation and its inverse, and what drawing them takes, in four bytes a weight."""
_COUNTED_COPIES, _TRAINED_COPIES = 3, 2
"""How often the largest result is held while counting, and each result in a training step."""
_MODEST_BYTES = 3 << 28
_BYTES_FOR_EACH_BYTE = 64
"""A run directory that is large itself may have a larger network."""
_ORDINARY_PARAMETERS, _ORDINARY_BATCH = 1 << 25, 1024


@dataclass(frozen=True)
class Named:
    """What the user has named on the command line, beside a run directory.

    Attributes:
        data_dir: where named data sets lie.
        dataset: the data, where they are the user's own: npz:PATH or folder:PATH.
        model_name: the network, if it is code or very large.
    """

    data_dir: Path | None = None
    dataset: str | None = None
    model_name: str | None = None

    def require_network(self, run: RunDirectory, needed: str | None) -> None:
        """Raises MissingError where a run needs code that the user has not named."""
        if needed is not None and is_brought(needed) and self.model_name != needed:
            raise MissingError(
                f"{run.path} is about a network that is not pactl's but code, {needed}, which is not loaded unasked",
                f"if you trust it: --model-name {needed}",
            )

    def require_modest(self, run: RunDirectory, subject: Subject) -> None:
        """Raises MissingError if a run makes us take much memory, and the user has not named its network."""
        configuration, batch_size = subject.configuration, subject.settings.batch_size or 1
        if configuration.model_name == self.model_name or is_brought(configuration.model_name):
            return
        sketch = sketch_of(configuration, subject.dataset.classes, subject.dataset.shape)
        size = Size.of(sketch, subject.dataset.shape)
        counting = _COUNTED_COPIES * BATCH * size.largest_bytes
        training = _TRAINED_COPIES * min(batch_size, len(subject.sample)) * size.activations_bytes
        need = projector_bytes(configuration.intrinsic_mode, parameter_layout(sketch), configuration.intrinsic_dim)
        is_ordinary = (
            configuration.base_width == subject.task.model(configuration.model_name).width
            and size.parameters <= _ORDINARY_PARAMETERS
            and batch_size <= _ORDINARY_BATCH
            and not subject.is_framed
        )
        if not is_ordinary:
            need += weights_bytes(size) + max(counting, training)
        if need > _MODEST_BYTES + _BYTES_FOR_EACH_BYTE * run.size_bytes():
            raise MissingError(
                f"{run.path} is about a network of {size.parameters:,} weights, which takes {need >> 20:,} MB with "
                f"batches of {batch_size:,} and the projector {configuration.intrinsic_mode}: it is not built unasked",
                f"if you want that: --model-name {configuration.model_name}",
            )


@dataclass(frozen=True)
class DataPlace:
    """Where the data of a run are read.

    Attributes:
        dataset: its name, with the path where it is read.
        directory: where named data sets lie.
        may_write: whether what is absent may be fetched into it, and decoded images kept there.
        by_run: whether the run, not the user, says where.
    """

    dataset: str
    directory: Path
    may_write: bool = True
    by_run: bool = False

    def in_words(self) -> str:
        """Where that is, who says so, and what is known of it."""
        entry = catalogue.dataset_entry(self.dataset)
        if entry.name.endswith(":"):
            whose = ", where the run says they are: look whether they are what you take them for" if self.by_run else ""
            return f"{quoted(self.dataset)}{whose}"
        place = (
            f"{entry.name} from {quoted(str(self.directory))}" if entry.name != "digits" else "digits, scikit-learn's"
        )
        if entry.content:
            return f"{place}; its content has the sha256 that pactl knows"
        if entry.checked:
            return f"{place}; each file has its published MD5, but pactl knows no sha256 of the content"
        return f"{place}; pactl knows no sha256 of its content: look whether it is the published one"


def place_of_data(run: RunDirectory, trained: TrainSettings, named: Named, *, only_read: bool) -> DataPlace:
    """Where to read the data of a run that may be a stranger's.

    Named data sets come from where the user says, or from the default directory; unless `only_read` also from where
    training found them, if each of their files has a checksum that pactl knows. The user's own data come from where the
    user says, or from the path that the run names, outside of it.

    Args:
        only_read: nothing is fetched or written, and nothing is read where the run says but the user's own.

    Raises:
        MissingError: if the user has to name them.
    """
    entry = catalogue.dataset_entry(trained.dataset)
    if not entry.name.endswith(":"):
        if named.dataset not in (None, trained.dataset):
            raise MissingError(f"--dataset {named.dataset} is not what {run.path} is about, which is {trained.dataset}")
        directory = data_directory(named.data_dir)
        found = trained.data_dir
        if only_read or named.data_dir or found in (None, directory) or not (entry.checked and os.path.isdir(found)):
            return DataPlace(trained.dataset, directory, may_write=not only_read)
        return DataPlace(trained.dataset, found, may_write=False, by_run=True)
    directory = data_directory(named.data_dir)
    if named.dataset is None:
        _require_outside(run, trained.dataset)
        return DataPlace(trained.dataset, directory, may_write=not only_read, by_run=True)
    if catalogue.dataset_entry(named.dataset) != entry:
        raise MissingError(
            f"--dataset {named.dataset} is of another kind than {trained.dataset}, which {run.path} is about"
        )
    return DataPlace(named.dataset, directory, may_write=not only_read)


def _require_outside(run: RunDirectory, dataset: str) -> None:
    """Raises MissingError if a run's own data lie in the run itself, which cannot vouch for them."""
    path = Path(dataset.partition(":")[2])
    if path.resolve().is_relative_to(run.path.resolve()):
        raise MissingError(
            f"{run.path} has its data, {dataset}, in itself: nothing says that they are what you take them for",
            f"if you know them: --dataset {dataset}",
        )


def require_memory(configuration: Configuration, classes: int, shape: tuple[int, int, int]) -> None:
    """Raises PactlError if a network's weights alone take more memory than there is."""
    if is_brought(configuration.model_name):
        return
    size = size_of(configuration, classes, shape)
    if weights_bytes(size) > available_memory():
        raise PactlError(
            f"{configuration.model_name} has {size.parameters:,} weights here, which take "
            f"{weights_bytes(size) >> 20:,} MB, and {available_memory() >> 20:,} MB are free",
            "choose a smaller --base-width, or another network",
        )


def size_of(configuration: Configuration, classes: int, shape: tuple[int, int, int]) -> Size:
    """The size of a network of the catalogue.

    Raises:
        PactlError: if it cannot take images of that shape.
    """
    return Size.of(sketch_of(configuration, classes, shape), shape)


def sketch_of(configuration: Configuration, classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """A network of the catalogue without numbers.

    Raises:
        PactlError: if it cannot take images of that shape.
    """
    width = configuration.base_width
    return sketch_network(configuration.model_name, classes=classes, shape=shape, width=width)


def weights_bytes(size: Size) -> int:
    """What a network's weights take, in all the copies that are made of them."""
    return 4 * _WEIGHTS_COPIES * size.parameters
