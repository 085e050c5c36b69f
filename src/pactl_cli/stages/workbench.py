"""One run whose message is looked for: what every step of that needs."""

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
from pactl_cli.stages.ground import find_ground
from pactl_cli.stages.guaranteeing import Counted, Inquiry
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.training.counting import Counts
from pactl_cli.training.features import Ground
from pactl_cli.training.recipes import Plan

STAGE = "bound"
SILENCE = "none"


@dataclass(frozen=True)
class Attempt:
    """One of the messages that are tried, in the words of its line of metrics.

    Attributes:
        codebook: by its name; `SILENCE` for the message without coordinates.
        levels: as many as were asked for; None where nobody can.
        price: of a bit, or "auto"; None where nothing is trained.
    """

    codebook: str
    levels: int | None = None
    price: float | str | None = None


@dataclass(frozen=True)
class Workbench:
    """A trained classifier, and what `bound` was told.

    Attributes:
        module: at the trained coordinates.
        inquiry: what is to be guaranteed.
        metrics: the lines of metrics of everything that is tried; they are written with the certificate.
    """

    problem: Problem
    module: SubspaceModule
    settings: BoundSettings
    inquiry: Inquiry
    display: Display
    metrics: list[dict[str, Any]] = field(default_factory=list)
    _counted: dict[bytes, Counted] = field(default_factory=dict)

    @cached_property
    def ground(self) -> Ground:
        """What fine-tuning is made on."""
        return find_ground(self.problem, self.module, self.problem.sample, self.display)

    @property
    def plan(self) -> Plan:
        """How fine-tuning goes: Adam, cosine to 0."""
        settings = self.settings
        batch_size = settings.batch_size or self.problem.settings.batch_size or 1
        return Plan("adam_cos", settings.quant_epochs, batch_size, settings.lr)

    def counts_at(self, coordinates: Tensor) -> Counts:
        """Return the counts of the classifier at some coordinates on S, as `counted_at` does."""
        return self.counted_at(coordinates).counts

    def counted_at(self, coordinates: Tensor) -> Counted:
        """Return what is counted of the classifier at some coordinates on S, once: from features, if there are any."""
        key = coordinates.cpu().numpy().tobytes()
        if key not in self._counted:
            classifier = self.problem.classifier(self.module, coordinates)
            with classifier.entered_at(self.ground.head), self.display.progress("counting errors") as advance:
                self._counted[key] = self.inquiry.counted(classifier, self.ground.examples, self.problem, advance)
        return self._counted[key]

    def bound_at(self, codebook: Codebook, symbols: Symbols) -> float:
        """Return about the bound that some symbols would be certified at, without the header."""
        counts = self.counts_at(torch.from_numpy(codebook.values()[symbols]))
        bits, delta = ideal_symbol_bits(symbols), self.settings.deltas[0]
        return binomial_bound(errors=counts.cautious, examples=counts.examples, bits=bits, delta=delta)

    def note_search(self, what: str, tried: Sequence[float], best: float) -> None:
        """Add a line of metrics if the best point of a grid lies at the grid's edge: beyond it may be a better one."""
        if len(tried) > 1 and best in (min(tried), max(tried)):
            line = {"stage": STAGE, "search": what, "tried": list(tried), "best": best, "at_edge": True}
            self.metrics.append(line)


def ideal_symbol_bits(symbols: Symbols) -> float:
    """Return the bits of a sequence of symbols under the better of its trees."""
    return min(ideal_bits(tree, symbols) for tree in symbol_trees(int(symbols.max()) + 1))
