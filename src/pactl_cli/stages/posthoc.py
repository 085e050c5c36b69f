"""The published path on trained coordinates: k-means, no fine-tuning, the published accounting."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pactl_cli.certificate.certificate import Posthoc, published
from pactl_cli.problem.display import Display
from pactl_cli.problem.problem import Problem
from pactl_cli.stages.evidence import count_on_sample
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.subspace.quantise import kmeans

LEVELS = (5, 7, 10, 20, 50)


@dataclass(frozen=True)
class Comparison:
    """The published path on one run's trained coordinates."""

    problem: Problem
    module: SubspaceModule
    display: Display
    delta: float
    extra_bits: float

    def best(self) -> Posthoc:
        """Return the result with the best number of levels, as the published program would choose it."""
        return min((self.at(size) for size in LEVELS), key=lambda entry: entry.bound)

    def at(self, size: int) -> Posthoc:
        """Return the result with some number of levels."""
        quantiser = kmeans(size).to(self.module.w.device)
        quantiser.fit(self.module.w.detach())
        codebook, symbols = quantiser.message_parts(self.module.w)
        coordinates = torch.from_numpy(codebook.values()[symbols])
        classifier = self.problem.classifier(self.module, coordinates)
        errors = count_on_sample(self.problem, classifier, self.display).cautious
        entry = published(
            symbols=symbols,
            errors=errors,
            examples=len(self.problem.sample),
            delta=self.delta,
            fine_tuned=False,
            extra_bits=self.extra_bits,
        )
        return Posthoc(levels=size, errors=errors, bits=entry.bits, bound=entry.bound)
