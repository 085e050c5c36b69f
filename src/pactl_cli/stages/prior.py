"""`pactl prior`: all weights trained on one part of the training set, then a subspace around them on the rest."""

from __future__ import annotations

from dataclasses import replace

import torch

from pactl_cli.problem.display import Display
from pactl_cli.problem.problem import Problem
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.directory import INIT, RunDirectory
from pactl_cli.runs.settings import PriorSettings
from pactl_cli.runs.start import Start
from pactl_cli.stages.train import Destination, fit, plan, train, train_coordinates, trainer_of
from pactl_cli.stages.training_inputs import find_inputs
from pactl_cli.training.objectives import NetworkObjective

STAGE = "prior"


def prior(settings: PriorSettings, destination: Destination, display: Display, world: World = ALONE) -> None:
    """Train all weights on the prior's examples, then d coordinates on the others, which are S.

    With d = 0, `bound` certifies the prior itself.

    Raises:
        PactlError: as `train` does.
    """
    train(settings, destination, display, world, work=_train_both)


def _train_both(run: RunDirectory, problem: Problem, display: Display) -> None:
    """Train the prior, unless the run has one, then the coordinates."""
    if INIT not in run.manifest.files:
        _train_prior(run, problem, display)
    start = problem.world.from_first(lambda: Start.load(run, problem.settings))
    train_coordinates(run, replace(problem, blueprint=replace(problem.blueprint, start=start)), display)


def _train_prior(run: RunDirectory, problem: Problem, display: Display) -> None:
    """Train all weights on the prior's examples, and write them as theta0."""
    network = problem.blueprint.network().to(problem.device)
    settings = problem.settings
    assert isinstance(settings, PriorSettings)
    if settings.prior_epochs:
        budget = replace(plan(settings), epochs=settings.prior_epochs, lr=settings.prior_lr or 1.0)
        own = problem.dataset.train[torch.from_numpy(problem.partition.prior).to(problem.device)]
        objective = NetworkObjective(problem.blueprint.prepared(network))
        with find_inputs(problem, objective.module, own, display).under(objective) as examples:
            fit(run, trainer_of(problem, objective, examples, budget, STAGE), "training the prior", display)
    theta0 = problem.blueprint.prior_from(network)
    run.manifest.parent = theta0.sha256()
    theta0.save(run)
    run.set_stage(STAGE, "running", (INIT,))
    run.remove_resume()
