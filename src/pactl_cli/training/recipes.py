"""Optimisers and learning rate schedules by name: the learning rate is lr x factor(step / steps)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from typing import Any

import torch

from pactl_cli import catalogue
from pactl_cli.training.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop

Factor = Callable[[float], float]
"""A function from the share of the run that is done, in [0, 1), to the learning rate relative to the highest."""


@dataclass(frozen=True)
class Plan:
    """A recipe with its numbers.

    Attributes:
        warmup_epochs: the epochs of a linear rise from 0 to `warmup_lr` before the recipe's schedule.
        smoothing: label smoothing: the share of each label that is spread evenly over all classes.
        ema: the decay of the average of weights that is the result; 0 for the last weights.
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
    """Return the factor of half a cosine from 1 to `final`."""
    return final + (1 - final) * (1 + cos(pi * share)) / 2


def stable_cosine(share: float, *, warm: float, stable: float, start: float, final: float) -> float:
    """Return the factor that rises linearly from `start` to 1 until `warm`, stays until `stable`, then is a cosine."""
    if share < warm:
        return start + (1 - start) * share / warm
    return 1.0 if share < stable else cosine((share - stable) / (1 - stable), final=final)


def one_cycle(share: float, *, rise: float, start: float, final: float) -> float:
    """Return the factor of OneCycleLR: half a cosine from `start` to 1 until `rise`, then another to `final`."""
    if share < rise:
        return cosine(1 - share / rise, final=start)
    return cosine((share - rise) / (1 - rise), final=final)


_WARM_STABLE_COSINE = partial(stable_cosine, warm=0.01, stable=0.15, start=0.01, final=0.1)


@dataclass(frozen=True)
class Recipe:
    """An optimiser, and the schedule of its learning rate."""

    optimizer: type[Optimizer]
    factor: Factor


ADAM_COS = Recipe(Adam, partial(cosine, final=0.0))
ADAM = Recipe(Adam, lambda share: 1.0)
ADAMW = Recipe(AdamW, partial(cosine, final=0.01))
AWSC = Recipe(Adam, _WARM_STABLE_COSINE)
SGD_COS = Recipe(SGD, partial(cosine, final=0.01))
SGD_COS10 = Recipe(SGD, partial(cosine, final=0.1))
SGD_ONLY = Recipe(SGD, lambda share: 1.0)
SSC = Recipe(SGD, partial(stable_cosine, warm=0.0, stable=0.2, start=1.0, final=0.01))
WSC = Recipe(SGD, _WARM_STABLE_COSINE)
RMSPROP = Recipe(RMSprop, partial(cosine, final=0.0))
ADAMW_CYCLE = Recipe(AdamW, partial(one_cycle, rise=0.1, start=1 / 25, final=1 / 250_000))


def _recipe(plan: Plan) -> Recipe:
    recipe: Recipe = catalogue.RECIPES[plan.recipe].maker()
    return recipe


AnyOptimizer = Optimizer | torch.optim.Optimizer


def build_optimizer(plan: Plan, parameters: Iterable[Any], *, on_gpu: bool = False) -> AnyOptimizer:
    """Return the recipe's optimiser over parameters or parameter groups; the loop sets its learning rate at every step.

    Args:
        on_gpu: whether to use torch's own optimiser, which on a GPU moves many parameters at once.
    """
    ours = _recipe(plan).optimizer
    numbers = {"lr": plan.lr}
    if ours in (SGD, AdamW):
        numbers["weight_decay"] = plan.weight_decay
    if ours is SGD:
        numbers["momentum"] = plan.momentum
    kind = getattr(torch.optim, ours.__name__) if on_gpu else ours
    made: AnyOptimizer = kind(parameters, **numbers)
    return made


def learning_rate(plan: Plan, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    warmup = round(plan.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (plan.warmup_lr or plan.lr) * step / warmup
    share = (step - warmup) / max(1, plan.epochs * steps_per_epoch - warmup)
    return plan.lr * _recipe(plan).factor(share)
