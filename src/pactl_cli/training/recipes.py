"""Optimisers and schedules by name: learning rate = lr x factor(step / steps)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from typing import Any

import torch

from pactl_cli import catalogue

Factor = Callable[[float], float]
"""The learning rate at a share of the run in [0, 1), relative to the highest."""


@dataclass(frozen=True)
class Plan:
    """A recipe with its numbers.

    Attributes:
        warmup_epochs: linear from 0 to `warmup_lr` before the recipe's schedule begins.
        smoothing: of labels: so much of each is spread evenly over all classes.
        ema: decay of the average of weights that is the result; 0 for the last weights.
    """

    recipe: str
    epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup_epochs: float = 0.0
    warmup_lr: float | None = None
    smoothing: float = 0.0
    ema: float = 0.0


def cosine(share: float, *, final: float) -> float:
    """From 1 to `final` along half a cosine."""
    return final + (1 - final) * (1 + cos(pi * share)) / 2


def stable_cosine(share: float, *, warm: float, stable: float, start: float, final: float) -> float:
    """Linear from `start` to 1 over the first `warm`, constant until `stable`, then a cosine to `final`."""
    if share < warm:
        return start + (1 - start) * share / warm
    return 1.0 if share < stable else cosine((share - stable) / (1 - stable), final=final)


def one_cycle(share: float, *, rise: float, start: float, final: float) -> float:
    """From `start` to 1 along half a cosine until `rise`, then along another to `final`: OneCycleLR's shape."""
    if share < rise:
        return cosine(1 - share / rise, final=start)
    return cosine((share - rise) / (1 - rise), final=final)


_WARM_STABLE_COSINE = partial(stable_cosine, warm=0.01, stable=0.15, start=0.01, final=0.1)


@dataclass(frozen=True)
class Recipe:
    """An optimiser, and the schedule of its learning rate."""

    optimizer: type[torch.optim.Optimizer]
    factor: Factor


ADAM_COS = Recipe(torch.optim.Adam, partial(cosine, final=0.0))
ADAM = Recipe(torch.optim.Adam, lambda share: 1.0)
ADAMW = Recipe(torch.optim.AdamW, partial(cosine, final=0.01))
AWSC = Recipe(torch.optim.Adam, _WARM_STABLE_COSINE)
SGD_COS = Recipe(torch.optim.SGD, partial(cosine, final=0.01))
SGD_COS10 = Recipe(torch.optim.SGD, partial(cosine, final=0.1))
SGD_ONLY = Recipe(torch.optim.SGD, lambda share: 1.0)
SSC = Recipe(torch.optim.SGD, partial(stable_cosine, warm=0.0, stable=0.2, start=1.0, final=0.01))
WSC = Recipe(torch.optim.SGD, _WARM_STABLE_COSINE)
RMSPROP = Recipe(torch.optim.RMSprop, partial(cosine, final=0.0))
ADAMW_CYCLE = Recipe(torch.optim.AdamW, partial(one_cycle, rise=0.1, start=1 / 25, final=1 / 250_000))


def _recipe(plan: Plan) -> Recipe:
    recipe: Recipe = catalogue.RECIPES[plan.recipe].maker()
    return recipe


def build_optimizer(plan: Plan, parameters: Iterable[Any]) -> torch.optim.Optimizer:
    """The recipe's optimiser over parameters or parameter groups; the loop sets its learning rate at every step."""
    kind = _recipe(plan).optimizer
    options: dict[str, Any] = {}
    if kind in (torch.optim.SGD, torch.optim.AdamW):
        options["weight_decay"] = plan.weight_decay
    if kind is torch.optim.SGD:
        options["momentum"] = plan.momentum
    return kind(parameters, lr=plan.lr, **options)  # type: ignore[call-arg]


def learning_rate(plan: Plan, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0."""
    warmup = round(plan.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (plan.warmup_lr or plan.lr) * step / warmup
    share = (step - warmup) / max(1, plan.epochs * steps_per_epoch - warmup)
    return plan.lr * _recipe(plan).factor(share)
