"""What is learned from calibration examples about inputs: the categories of a table, mean and standard deviation."""

from __future__ import annotations

import torch
from torch import Tensor

from pactl_cli.catalogue import Statistics
from pactl_cli.certificate.configuration import Configuration
from pactl_cli.certificate.format import CALIBRATION
from pactl_cli.data.dataset import Dataset, Examples
from pactl_cli.data.splits import Indices
from pactl_cli.errors import PactlError
from pactl_cli.models.inputs import FEATURES, TOKENS
from pactl_cli.models.normalisation import statistics_of

_FEWEST = 2
"""The fewest examples that have a mean and a deviation."""


def encoded_by(dataset: Dataset, calibration: Indices) -> Dataset:
    """Return a data set with the rows of a table as features; calibration examples give categories not listed.

    Raises:
        PactlError: if there are no calibration examples.
    """
    if dataset.encoding is None or dataset.spec.kind == FEATURES:
        return dataset
    raw = dataset.train[torch.from_numpy(calibration)].resident()
    return dataset.encoded(dataset.encoding.calibrated(raw.inputs))


def calibrated_statistics(configuration: Configuration, calibration: Examples) -> Statistics | None:
    """Return mean and standard deviation of calibration examples, if these are to normalise inputs.

    Raises:
        PactlError: if there are too few, or they are no numbers with a mean.
    """
    if configuration.normalisation != CALIBRATION:
        return None
    if not isinstance(calibration.inputs, Tensor) or calibration.spec.kind == TOKENS:
        raise PactlError(
            f"--normalise calibration: {calibration.spec} have no mean and standard deviation", "use --normalise fixed"
        )
    if len(calibration) < _FEWEST:
        raise PactlError(
            f"--normalise calibration needs at least {_FEWEST} calibration examples, and there are {len(calibration)}",
            "bring more examples, of which at most a tenth is taken, or use --normalise fixed",
        )
    return statistics_of(calibration.inputs)
