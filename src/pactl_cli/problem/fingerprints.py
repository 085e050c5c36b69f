"""Fingerprints of all the data that a certificate depends on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pactl_cli.data.dataset import Dataset, LabelledExamples
from pactl_cli.data.files.progress import Progress
from pactl_cli.data.splits import Partition


@dataclass(frozen=True)
class Fingerprints:
    """The sha256 of examples, inputs and labels, in order.

    Attributes:
        sample: that of S, as it is counted.
        train: that of all examples that are divided (S, calibration, prior, and what is left out), before label noise
            and before images are resized, in the training set's order.
        test: that of the test set, before both; None if there is none.
    """

    sample: str
    train: str
    test: str | None

    @classmethod
    def of(cls, sample: LabelledExamples, original: Dataset, parts: Partition, progress: Progress) -> Fingerprints:
        """Return the fingerprints of S, as it is counted, and of a data set as its files have it."""
        whole = parts.whole()
        divided = original.train if len(whole) == len(original.train) else original.train[torch.from_numpy(whole)]
        test = None if original.test is None else original.test.sha256(progress)
        return cls(sample.sha256(progress), divided.sha256(progress), test)
