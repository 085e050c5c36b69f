"""Training through the quantiser, which pays for the message's bits."""

from __future__ import annotations

from typing import Any

from pactl_cli.catalogue import NO_VIEW
from pactl_cli.problem.display import Bar
from pactl_cli.stages.workbench import STAGE, Workbench, ideal_symbol_bits
from pactl_cli.subspace.quantise import Quantiser
from pactl_cli.training.counting import Counts
from pactl_cli.training.loop import Moment, State, Trainer
from pactl_cli.training.objectives import RateObjective
from pactl_cli.training.price import Price


def fine_tune(bench: Workbench, quantiser: Quantiser, trained: Counts, levels: int | None) -> None:
    """Train w and the levels through the quantiser; in the same random views as training.

    Args:
        trained: counts before quantising, which say what a bit is worth where its price is automatic.
        levels: as many as were asked for, which tell this try from others in the metrics.
    """
    problem, module = bench.problem, bench.module
    price, rate_weight = _price(bench, quantiser, trained)
    objective = RateObjective(module, quantiser, rate_weight=rate_weight, examples=len(problem.sample))
    settings = bench.settings
    attempt = {"codebook": settings.effective_codebook, "levels": levels, "price": settings.rate_weight}
    with bench.ground.under(objective) as examples, bench.display.progress("fine-tuning") as advance:
        trainer = Trainer(
            objective,
            examples,
            bench.plan,
            seed=problem.settings.seed,
            stage=STAGE,
            augment=problem.settings.augment or NO_VIEW,
            lr_scales={"module.w": quantiser.gap()} | quantiser.lr_scales(),
            world=problem.world,
        )
        trainer.run(_Observer(bench.metrics, objective, price, advance, attempt))


def _price(bench: Workbench, quantiser: Quantiser, trained: Counts) -> tuple[Price | None, float]:
    """Return the price of a bit, None where the user has fixed rho, and rho at the start."""
    if bench.settings.rate_weight != "auto":
        return None, float(bench.settings.rate_weight)
    price = Price.of(trained, bench.problem.dataset.classes, bench.settings.deltas[0])
    bits = ideal_symbol_bits(quantiser.message_parts(bench.module.w)[1])
    return price, price.at(2 * trained.plain_error, bits / 2)


class _Observer:
    """Observes fine-tuning: metrics, progress, and, where it is automatic, the price of a bit after every epoch."""

    def __init__(
        self,
        metrics: list[dict[str, Any]],
        objective: RateObjective,
        price: Price | None,
        advance: Bar,
        attempt: dict[str, Any],
    ) -> None:
        self._metrics, self._objective, self._price, self._advance = metrics, objective, price, advance
        self._attempt = attempt

    def advance(self, now: Moment) -> None:
        """Move the bar."""
        self._advance(now.step, now.steps, str(now))

    def epoch(self, record: dict[str, Any]) -> None:
        """One line of metrics; then the price that the present errors and bits imply."""
        symbols = self._objective.quantiser.message_parts(self._objective.module.w)[1]
        bits = ideal_symbol_bits(symbols)
        found = {"symbols_bits": round(bits, 1), "rate_weight": self._objective.rate_weight}
        self._metrics.append(record | found | {"attempt": self._attempt})
        if self._price is not None:
            self._objective.rate_weight = self._price.at(record["error"], bits)

    def save(self, state: State) -> None:
        """Fine-tuning is short; it starts again."""
