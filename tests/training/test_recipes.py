"""Every schedule against its definition, at every step of a short run."""

from __future__ import annotations

from math import cos, pi

import pytest
import torch

from pactl_cli import catalogue
from pactl_cli.training.recipes import RECIPES, Plan, build_optimizer, learning_rate

EPOCHS, STEPS = 8, 25
TOTAL = EPOCHS * STEPS


def half_cosine(share: float, final: float) -> float:
    return final + (1 - final) * (1 + cos(pi * share)) / 2


def warm_stable_cosine(share: float) -> float:
    if share < 0.01:
        return 0.01 + 0.99 * share / 0.01
    return 1.0 if share < 0.15 else half_cosine((share - 0.15) / 0.85, 0.1)


DEFINITIONS = {
    "adam_cos": lambda share: half_cosine(share, 0),
    "adam": lambda share: 1.0,
    "adamw": lambda share: half_cosine(share, 0.01),
    "awsc": warm_stable_cosine,
    "sgd": lambda share: half_cosine(share, 0.01),
    "sgd_cos": lambda share: half_cosine(share, 0.01),
    "sgd_cos10": lambda share: half_cosine(share, 0.1),
    "sgd_only": lambda share: 1.0,
    "ssc": lambda share: 1.0 if share < 0.2 else half_cosine((share - 0.2) / 0.8, 0.01),
    "wsc": warm_stable_cosine,
    "rmsprop": lambda share: half_cosine(share, 0),
}


@pytest.mark.parametrize("recipe", catalogue.RECIPES)
def test_learning_rates(recipe: str) -> None:
    plan = Plan(recipe, EPOCHS, 32, lr=0.3)
    for step in range(TOTAL):
        assert learning_rate(plan, step, STEPS) == pytest.approx(0.3 * DEFINITIONS[recipe](step / TOTAL), abs=1e-12)


@pytest.mark.parametrize("recipe", catalogue.RECIPES)
def test_warm_up_composes_with_every_recipe(recipe: str) -> None:
    plan = Plan(recipe, EPOCHS, 32, lr=0.3, warmup_epochs=2, warmup_lr=0.6)
    for step in range(TOTAL):
        if step < 2 * STEPS:
            expected = 0.6 * step / (2 * STEPS)
        else:
            expected = 0.3 * DEFINITIONS[recipe]((step - 2 * STEPS) / (TOTAL - 2 * STEPS))
        assert learning_rate(plan, step, STEPS) == pytest.approx(expected, abs=1e-12)


def test_every_recipe_of_the_catalogue_is_built() -> None:
    kinds = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "sgd": torch.optim.SGD,
        "rmsprop": torch.optim.RMSprop,
    }
    assert list(RECIPES) == list(catalogue.RECIPES)
    for recipe, (kind, _) in RECIPES.items():
        plan = Plan(recipe, 1, 32, lr=0.3, momentum=0.8, weight_decay=0.01)
        optimizer = build_optimizer(plan, [torch.nn.Parameter(torch.zeros(1))])
        assert type(optimizer) is kinds[kind]
        if kind == "sgd":
            assert optimizer.defaults["momentum"] == 0.8
        assert optimizer.defaults.get("weight_decay", 0) == (0.01 if kind in ("sgd", "adamw") else 0)
