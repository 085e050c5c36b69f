"""The state that every step of the search for one run's message shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pactl_cli.certificate.codebook import Codebook
from pactl_cli.certificate.risk_bounds import binomial_bound
from pactl_cli.certificate.symbols import Symbols, ideal_bits, symbol_trees
from pactl_cli.problem.display import Display
from pactl_cli.problem.problem import Problem
from pactl_cli.runs.settings import BoundSettings
from pactl_cli.stages.guaranteeing import Counted, Inquiry
from pactl_cli.stages.training_inputs import find_inputs
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.training.features import TrainingInputs
from pactl_cli.training.recipes import Plan

STAGE = "bound"
SILENCE = "none"


@dataclass(frozen=True)
class Attempt:
    """A message to try, as its line of metrics describes it.

    Attributes:
        codebook: its name; `SILENCE` for the message without coordinates.
        levels: the number of levels that the user asked for; None where the codebook takes none.
        price: the price of a bit, or "auto"; None without fine-tuning.
    """

    codebook: str
    levels: int | None = None
    price: float | str | None = None


@dataclass(frozen=True)
class Workbench:
    """A trained classifier, and the settings of `bound`.

    Attributes:
        module: theta0 + P w at the trained coordinates.
        inquiry: the guarantees to make.
        metrics: lines of metrics of all tries, to be written with the certificate.
    """

    problem: Problem
    module: SubspaceModule
    settings: BoundSettings
    inquiry: Inquiry
    display: Display
    metrics: list[dict[str, Any]] = field(default_factory=list)
    _counted: dict[bytes, Counted] = field(default_factory=dict)

    @cached_property
    def inputs(self) -> TrainingInputs:
        """The examples or features on which fine-tuning works."""
        return find_inputs(self.problem, self.module, self.problem.sample, self.display)

    @property
    def plan(self) -> Plan:
        """The plan of fine-tuning: Adam with a cosine schedule to 0."""
        settings = self.settings
        batch_size = settings.batch_size or self.problem.settings.batch_size or 1
        return Plan("adam_cos", settings.quant_epochs, batch_size, settings.lr)

    def counted_at(self, coordinates: Tensor) -> Counted:
        """Return the counts on S of the classifier at some coordinates, from features if there are any; count once."""
        key = coordinates.cpu().numpy().tobytes()
        if key not in self._counted:
            classifier = self.problem.classifier(self.module, coordinates)
            with classifier.entered_at(self.inputs.head):
                self._counted[key] = self.inquiry.count(classifier, self.inputs.examples, self.problem, self.display)
        return self._counted[key]

    def bound_at(self, codebook: Codebook, symbols: Symbols) -> float:
        """Return roughly the bound that some symbols would get: ideal bits, without the header."""
        counts = self.counted_at(torch.from_numpy(codebook.values()[symbols])).counts
        bits, delta = ideal_symbol_bits(symbols), self.settings.deltas[0]
        return binomial_bound(errors=counts.cautious, examples=counts.examples, bits=bits, delta=delta)

    def note_search(self, what: str, tried: Sequence[float], best: float) -> None:
        """Add a line of metrics if the best point of a grid lies at its edge: a better point may lie beyond."""
        if len(tried) > 1 and best in (min(tried), max(tried)):
            line = {"stage": STAGE, "search": what, "tried": list(tried), "best": best, "at_edge": True}
            self.metrics.append(line)


def ideal_symbol_bits(symbols: Symbols) -> float:
    """Return the ideal bits of a sequence of symbols under the better of its trees."""
    return min(ideal_bits(tree, symbols) for tree in symbol_trees(int(symbols.max()) + 1))
