"""Checks of the memory that a network takes, made before it is built."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from pactl_cli.catalogue import is_brought, model_entry
from pactl_cli.certificate.configuration import Configuration
from pactl_cli.certificate.format import ROUND_DIMS
from pactl_cli.data.files.capacity import available_memory
from pactl_cli.errors import MissingError
from pactl_cli.models import sketch_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.size import Size
from pactl_cli.problem.blueprint import Blueprint, trained_layout
from pactl_cli.problem.problem import Problem
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.subspace import projector_bytes
from pactl_cli.training.counting import batch_size as counted_at_once

_WEIGHTS_COPIES = 6
"""Copies of the weights, of four bytes each: the network, theta0, a permutation and its inverse, and drawing them."""
_COUNTED_COPIES, _TRAINED_COPIES = 3, 2
"""Copies of the largest result while counting, and of each result in a training step."""
_MODEST_BYTES, _BYTES_FOR_EACH_BYTE = 3 << 28, 64
"""The memory that the network of a run may take unasked: so much, and more if the run directory itself is large."""
_ORDINARY_PARAMETERS, _ORDINARY_BATCH, _ORDINARY_SIDE = 1 << 25, 1024, 512
"""A network up to these sizes, and not wider than the catalogue's, may take more."""
_SMALL_SIDE, _LARGE_RUN = 64, 1 << 20
"""A run with a source that takes less than this on the disk may scale images only up to this side unasked."""


def within_memory(configuration: Configuration, classes: int, inputs: InputSpec, *, given_dim: bool) -> Configuration:
    """Return a configuration whose network fits into memory, with no more dimensions than it has weights.

    Args:
        given_dim: whether the user has given the number of dimensions, which is then kept.

    Raises:
        MissingError: if the weights alone take more memory than there is.
    """
    if is_brought(configuration.model_name):
        return configuration
    sketch = sketch_network(configuration.model_name, classes=classes, inputs=inputs, width=configuration.base_width)
    size = Size.of(sketch, inputs)
    if _weights_bytes(size) > available_memory():
        raise MissingError(
            f"{configuration.model_name} has {size.parameters:,} weights here, which take "
            f"{_weights_bytes(size) >> 20:,} MB, and {available_memory() >> 20:,} MB are free",
            "choose a smaller --base-width, or another network",
        )
    most = trained_layout(sketch, configuration).size
    if given_dim or configuration.intrinsic_dim <= most:
        return configuration
    return replace(configuration, intrinsic_dim=max(dim for dim in ROUND_DIMS if dim <= most))


@dataclass(frozen=True)
class Work:
    """The work that a run's network is built for.

    Attributes:
        batch_size, counted: the number of examples in a training batch, and of those counted at a time.
        chosen_side: the side to which the run scales images; 0 if it leaves them as they are.
        has_source: whether the run has the weights of a source.
    """

    batch_size: int
    counted: int
    chosen_side: float
    has_source: bool

    @classmethod
    def of(cls, problem: Problem) -> Work:
        """Return the work of certifying or verifying a problem's run."""
        settings = problem.settings
        side = inf if problem.is_sized_by_source else settings.image_size or 0
        trained = min(settings.batch_size or 1, len(problem.sample))
        return cls(trained, counted_at_once(problem.dataset.spec, problem.device), side, settings.has_source)


def require_modest(run: RunDirectory, blueprint: Blueprint, work: Work, named: str | None) -> None:
    """Raise MissingError if the network of a run, which may be a stranger's, takes much memory.

    Args:
        named: the network that the user has named, which may take any amount.
    """
    configuration, batch_size = blueprint.configuration, work.batch_size
    if configuration.model_name == named or is_brought(configuration.model_name):
        return
    inputs, width = blueprint.spec, configuration.base_width
    sketch = sketch_network(configuration.model_name, classes=blueprint.classes, inputs=inputs, width=width)
    size = Size.of(sketch, inputs)
    counting = _COUNTED_COPIES * work.counted * size.largest_bytes
    training = _TRAINED_COPIES * batch_size * size.activations_bytes
    layout = trained_layout(sketch, configuration)
    need = projector_bytes(configuration.intrinsic_mode, layout, configuration.intrinsic_dim)
    is_small_source = work.has_source and run.size_bytes() < _LARGE_RUN
    is_ordinary = (
        (width or 0) <= (model_entry(configuration.model_name).width or 0)
        and size.parameters <= _ORDINARY_PARAMETERS
        and batch_size <= _ORDINARY_BATCH
        and work.chosen_side <= (_SMALL_SIDE if is_small_source else _ORDINARY_SIDE)
    )
    if not is_ordinary:
        need += _weights_bytes(size) + max(counting, training)
    if need > _MODEST_BYTES + _BYTES_FOR_EACH_BYTE * run.size_bytes():
        raise MissingError(
            f"{run.path} is about a network of {size.parameters:,} weights, which takes {need >> 20:,} MB with "
            f"batches of {batch_size:,} and the projector {configuration.intrinsic_mode}: it is not built unasked",
            f"to build it: --model-name {configuration.model_name}",
        )


def _weights_bytes(size: Size) -> int:
    """Return the memory of a network's weights and of all copies of them."""
    return 4 * _WEIGHTS_COPIES * size.parameters
