"""Every schedule follows its definition at every step, and every optimiser that of torch."""

from __future__ import annotations

from math import cos, pi

import pytest
import torch
from torch import Tensor, nn

from pactl_cli import catalogue
from pactl_cli.data.dataset import Examples
from pactl_cli.training.loop import Moment, Objective, State, Trainer
from pactl_cli.training.recipes import Plan, build_optimizer, learning_rate

EPOCHS, STEPS = 8, 25
TOTAL = EPOCHS * STEPS


def half_cosine(share: float, final: float) -> float:
    return final + (1 - final) * (1 + cos(pi * share)) / 2


def warm_stable_cosine(share: float) -> float:
    if share < 0.01:
        return 0.01 + 0.99 * share / 0.01
    return 1.0 if share < 0.15 else half_cosine((share - 0.15) / 0.85, 0.1)


def one_cycle(share: float) -> float:
    if share < 0.1:
        return 1 / 25 + (1 - 1 / 25) * (1 - cos(pi * share / 0.1)) / 2
    return half_cosine((share - 0.1) / 0.9, 1 / 250_000)


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
    "adamw_cycle": one_cycle,
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
    for recipe, row in catalogue.RECIPES.items():
        plan = Plan(recipe, 1, 32, lr=0.3, momentum=0.8, weight_decay=0.01)
        optimizer = build_optimizer(plan, [torch.nn.Parameter(torch.zeros(1))])
        named = "SGD" if recipe == "sgd_cos" else row.summary.split()[0].strip(",")
        assert type(optimizer).__name__ == named
        if named == "SGD":
            assert optimizer.param_groups[0]["momentum"] == 0.8
        assert optimizer.param_groups[0].get("weight_decay", 0) == (0.01 if named in ("SGD", "AdamW") else 0)


@pytest.mark.parametrize("recipe", catalogue.RECIPES)
def test_every_optimizer_moves_as_that_of_torch_to_the_last_bit(recipe: str) -> None:
    """Sizes are odd, to reach the ends of vector instructions; one parameter has no gradient at some steps."""
    plan = Plan(recipe, 1, 32, lr=0.03, momentum=0.8, weight_decay=0.01)
    generator = torch.Generator().manual_seed(0)
    shapes = [(1003,), (7, 5), ()]
    starts = [torch.randn(shape, generator=generator) for shape in shapes]
    made = []
    for on_gpu in (False, True):
        parameters = [torch.nn.Parameter(start.clone()) for start in starts]
        groups = [{"params": [parameter], "name": str(place)} for place, parameter in enumerate(parameters)]
        made.append((parameters, build_optimizer(plan, groups, on_gpu=on_gpu)))
    for step in range(300):
        grads = [torch.randn(shape, generator=generator) * 10.0 ** (step % 7 - 5) for shape in shapes]
        for parameters, optimizer in made:
            optimizer.zero_grad(set_to_none=True)
            for place, (group, parameter) in enumerate(zip(optimizer.param_groups, parameters, strict=True)):
                group["lr"] = 0.03 * (1 + place) / (1 + step)
                if place or step % 3:
                    parameter.grad = grads[place].clone()
            optimizer.step()
    for ours, theirs in zip(made[0][0], made[1][0], strict=True):
        assert torch.equal(ours, theirs)
        kept = [{k: torch.as_tensor(v) for k, v in made[i][1].state[p].items()} for i, p in enumerate((ours, theirs))]
        kept = [{key: value for key, value in each.items() if value is not None} for each in kept]
        assert kept[0].keys() == kept[1].keys()
        assert all(torch.equal(value, kept[1][key]) for key, value in kept[0].items())
    assert not torch.equal(made[0][0][1], starts[1])


def test_one_cycle_is_that_of_torch() -> None:
    """The phases of torch end on the last step, ours after it; in a long run the difference is below the tolerance."""
    steps = 20_000
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=steps, pct_start=0.1)
    plan = Plan("adamw_cycle", 1, 32, lr=0.3)
    for step in range(steps):
        assert learning_rate(plan, step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], abs=3e-4)
        optimizer.step()
        theirs.step()


# --- As the optimiser has it ------------------------------------------------------------------------------------------

EXAMPLES, BATCH = 17, 4
RUN = 4 * EPOCHS
"""The steps of a run: four in each epoch, because a single left-over example joins the batch before."""


class Two(Objective):
    """An objective with two parameters, one of which learns at another rate."""

    def __init__(self) -> None:
        super().__init__()
        self.fast, self.slow = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) * 1e-3 * (self.fast + self.slow)


class Rates:
    """An observer that records the learning rates of every step."""

    def __init__(self) -> None:
        self.trainer: Trainer
        self.rates: list[tuple[float, ...]] = []

    def advance(self, now: Moment) -> None:
        groups = self.trainer._optimizer.param_groups
        assert [group["name"] for group in groups] == ["fast", "slow"]
        self.rates.append(tuple(group["lr"] for group in groups))

    def epoch(self, record: dict[str, object]) -> None:
        assert record["lr"] == self.rates[-1][0]

    def save(self, state: State) -> None: ...


@pytest.mark.parametrize("warmup_epochs", [0, 0.5, 2])
@pytest.mark.parametrize("recipe", catalogue.RECIPES)
def test_every_step_of_a_run_is_made_at_the_defined_rate(recipe: str, warmup_epochs: float) -> None:
    images = torch.ones(EXAMPLES, 3, 1, 1)
    plan = Plan(recipe, EPOCHS, BATCH, lr=0.3, warmup_epochs=warmup_epochs, warmup_lr=0.6 if warmup_epochs else None)
    rates = Rates()
    rates.trainer = Trainer(
        Two(),
        Examples(images, torch.arange(EXAMPLES) % 3),
        plan,
        seed=1,
        stage="train",
        lr_scales={"slow": 0.25},
    )
    rates.trainer.run(rates)
    warm = round(4 * warmup_epochs)
    expected = [0.6 * step / warm for step in range(warm)]
    expected += [0.3 * DEFINITIONS[recipe]((step - warm) / (RUN - warm)) for step in range(warm, RUN)]
    assert [fast for fast, _ in rates.rates] == pytest.approx(expected, abs=1e-12)
    assert [slow for _, slow in rates.rates] == pytest.approx([0.25 * rate for rate in expected], abs=1e-12)
