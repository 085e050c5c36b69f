"""Optimisers and schedules by name: learning rate = lr x factor(step / steps)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from typing import Any

import torch

Factor = Callable[[float], float]
"""The learning rate at a share of the run in [0, 1), relative to the highest."""


@dataclass(frozen=True)
class Plan:
    """A recipe with its numbers.

    Attributes:
        warmup_epochs: linear from 0 to `warmup_lr` before the recipe's schedule begins.
    """

    recipe: str
    epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup_epochs: float = 0.0
    warmup_lr: float | None = None


def cosine(share: float, *, final: float) -> float:
    """From 1 to `final` along half a cosine."""
    return final + (1 - final) * (1 + cos(pi * share)) / 2


def stable_cosine(share: float, *, warm: float, stable: float, start: float, final: float) -> float:
    """Linear from `start` to 1 over the first `warm`, constant until `stable`, then a cosine to `final`."""
    if share < warm:
        return start + (1 - start) * share / warm
    return 1.0 if share < stable else cosine((share - stable) / (1 - stable), final=final)


_WARM_STABLE_COSINE = partial(stable_cosine, warm=0.01, stable=0.15, start=0.01, final=0.1)

RECIPES: dict[str, tuple[str, Factor]] = {
    "adam_cos": ("adam", partial(cosine, final=0.0)),
    "adam": ("adam", lambda share: 1.0),
    "adamw": ("adamw", partial(cosine, final=0.01)),
    "awsc": ("adam", _WARM_STABLE_COSINE),
    "sgd": ("sgd", partial(cosine, final=0.01)),
    "sgd_cos": ("sgd", partial(cosine, final=0.01)),
    "sgd_cos10": ("sgd", partial(cosine, final=0.1)),
    "sgd_only": ("sgd", lambda share: 1.0),
    "ssc": ("sgd", partial(stable_cosine, warm=0.0, stable=0.2, start=1.0, final=0.01)),
    "wsc": ("sgd", _WARM_STABLE_COSINE),
    "rmsprop": ("rmsprop", partial(cosine, final=0.0)),
}
"""The optimiser and the schedule of every recipe of the catalogue."""


def build_optimizer(plan: Plan, parameters: Iterable[Any]) -> torch.optim.Optimizer:
    """The recipe's optimiser over parameters or parameter groups; the loop sets its learning rate at every step."""
    kind = RECIPES[plan.recipe][0]
    if kind == "sgd":
        return torch.optim.SGD(parameters, plan.lr, momentum=plan.momentum, weight_decay=plan.weight_decay)
    if kind == "adamw":
        return torch.optim.AdamW(parameters, plan.lr, weight_decay=plan.weight_decay)
    return torch.optim.Adam(parameters, plan.lr) if kind == "adam" else torch.optim.RMSprop(parameters, plan.lr)


def learning_rate(plan: Plan, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0."""
    warmup = round(plan.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (plan.warmup_lr or plan.lr) * step / warmup
    share = (step - warmup) / max(1, plan.epochs * steps_per_epoch - warmup)
    return plan.lr * RECIPES[plan.recipe][1](share)
