"""Fine-tuning through the quantiser, with a price for the bits of the message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from pactl_cli.catalogue import NO_VIEW
from pactl_cli.problem.display import Bar
from pactl_cli.stages.workbench import STAGE, Attempt, Workbench, ideal_symbol_bits
from pactl_cli.subspace.quantise import Quantiser
from pactl_cli.training.counting import Counts
from pactl_cli.training.loop import Moment, State, Trainer
from pactl_cli.training.objectives import RateObjective
from pactl_cli.training.price import Price, next_price

_LEAST, _MOST = 2.0, 16.0
"""Limits of the first automatic price, from which a search starts: with many errors it says little."""
_RUNAWAY, _FAR = 2.0, 8.0
"""The automatic price is at most `_RUNAWAY` times the first one, or `_FAR` if that is larger."""


@dataclass(frozen=True)
class Tariff:
    """The price of a bit at the start, and how it changes; None if it is constant."""

    first: float
    price: Price | None = None

    @property
    def name(self) -> float | str:
        """The name of the tariff in the metrics."""
        return self.first if self.price is None else "auto"


def tariffs(bench: Workbench, quantiser: Quantiser, trained: Counts, found: dict[float, float]) -> Iterator[Tariff]:
    """Yield the prices of a bit to try, each with a fine-tuning of its own.

    Args:
        trained: counts before quantising, from which an automatic price follows.
        found: the loss at each constant price that was tried; the caller adds each result.
    """
    settings = bench.settings
    automatic = [price for price in settings.fixed_prices if price is None]
    if automatic:
        price = Price.of(trained, bench.problem.dataset.classes, settings.deltas[0])
        bits = ideal_symbol_bits(quantiser.message_parts(bench.module.w)[1])
        first = price.at(2 * trained.plain_error, bits / 2)
        price = replace(price, most=max(first * _RUNAWAY, _FAR))
    for constant in settings.fixed_prices:
        yield Tariff(first, price) if constant is None else Tariff(constant)
    for _ in range(settings.automatic_prices - 1):
        yield Tariff(float(f"{next_price(min(max(first, _LEAST), _MOST), found):.3g}"))


def fine_tune(bench: Workbench, quantiser: Quantiser, tariff: Tariff, attempt: Attempt) -> None:
    """Train w and the levels through the quantiser, with the random views of training.

    Args:
        attempt: names this try in the metrics.
    """
    problem, module = bench.problem, bench.module
    objective = RateObjective(module, quantiser, rate_weight=tariff.first, examples=len(problem.sample))
    with bench.inputs.under(objective) as examples, bench.display.progress("fine-tuning") as advance:
        trainer = Trainer(
            objective,
            examples,
            bench.plan,
            seed=problem.settings.seed,
            stage=STAGE,
            augment=problem.settings.augment or NO_VIEW,
            lr_scales={"module.w": quantiser.gap()} | quantiser.lr_scales(),
            compile=problem.settings.compile,
            world=problem.world,
        )
        trainer.run(_Observer(bench.metrics, objective, tariff.price, advance, attempt))


class _Observer:
    """An observer of fine-tuning, which keeps metrics, moves the bar, and adapts an automatic price every epoch."""

    def __init__(
        self,
        metrics: list[dict[str, Any]],
        objective: RateObjective,
        price: Price | None,
        advance: Bar,
        attempt: Attempt,
    ) -> None:
        self._metrics, self._objective, self._price, self._advance = metrics, objective, price, advance
        self._attempt = attempt

    def advance(self, now: Moment) -> None:
        """Move the bar."""
        self._advance(now.step, now.steps, str(now))

    def epoch(self, record: dict[str, Any]) -> None:
        """Add one line of metrics, and set the price that the present errors and bits imply."""
        symbols = self._objective.quantiser.message_parts(self._objective.module.w)[1]
        bits = ideal_symbol_bits(symbols)
        found = {"symbols_bits": round(bits, 1), "rate_weight": self._objective.rate_weight}
        self._metrics.append(record | found | {"attempt": asdict(self._attempt)})
        if self._price is not None:
            self._objective.rate_weight = self._price.at(record["error"], bits)

    def save(self, state: State) -> None:
        """Save nothing: fine-tuning is short, and starts again after an interruption."""
