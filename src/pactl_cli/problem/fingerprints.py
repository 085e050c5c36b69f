"""What identifies all the data that a certificate depends on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pactl_cli.data.dataset import Dataset, LabelledExamples
from pactl_cli.data.files.progress import Progress
from pactl_cli.data.splits import Partition


@dataclass(frozen=True)
class Fingerprints:
    """The sha256 of examples, images and labels, in order.

    Attributes:
        sample: S, as it is counted.
        train: all examples that are divided: S, calibration, prior, and what is left out; before label noise and before
            images are resized, in the training set's order.
        test: the test set, before both; None where there is none.
    """

    sample: str
    train: str
    test: str | None

    @classmethod
    def of(cls, sample: LabelledExamples, original: Dataset, parts: Partition, progress: Progress) -> Fingerprints:
        """Return those of S, as it is counted, and of a data set as its files have it, divided into `parts`."""
        whole = parts.whole()
        divided = original.train if len(whole) == len(original.train) else original.train[torch.from_numpy(whole)]
        test = None if original.test is None else original.test.sha256(progress)
        return cls(sample.sha256(progress), divided.sha256(progress), test)
