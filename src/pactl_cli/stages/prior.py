"""`pactl prior`: weights trained on one part of the training set, then a subspace around them on the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from pactl_cli.problem.display import Display
from pactl_cli.problem.problem import Problem
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.directory import INIT, RunDirectory
from pactl_cli.runs.settings import PriorSettings
from pactl_cli.runs.start import Start
from pactl_cli.stages.acceptance import require_trainable
from pactl_cli.stages.training_run import (
    Destination,
    finish,
    fit,
    load_for,
    mention_copies,
    open_run,
    plan,
    train_coordinates,
    trainer_of,
)
from pactl_cli.training.objectives import NetworkObjective

STAGE = "prior"


def prior(settings: PriorSettings, destination: Destination, display: Display, world: World = ALONE) -> None:
    """Trains into a run directory: all weights on the prior's examples, then d coordinates on the others, which are S.

    With d = 0 the prior itself is what `bound` certifies.

    Raises:
        PactlError: exit code 2 for anything wrong that can be found before work starts
            (then nothing is written), 1 for a loss that is not finite, 130 if interrupted.
    """
    problem = load_for(destination, settings, display, world)
    require_trainable(problem, problem.build_module(), problem.settings.batch_size or 1)
    with open_run("prior", destination, problem) as run:
        if run.is_complete():
            return
        mention_copies(problem, display)
        if INIT not in run.manifest.files:
            _train_prior(run, problem, display)
        start = world.from_first(lambda: Start.load(run, problem.settings))
        problem = replace(problem, blueprint=replace(problem.blueprint, start=start))
        if problem.settings.intrinsic_dim:
            train_coordinates(run, problem, display)
        else:
            finish(run, {"w": torch.zeros(0)})


def _train_prior(run: RunDirectory, problem: Problem, display: Display) -> None:
    """Trains all weights on the prior's examples, and writes them: theta0."""
    network = problem.blueprint.network().to(problem.device)
    settings = problem.settings
    assert isinstance(settings, PriorSettings)
    budget = replace(plan(settings), epochs=settings.prior_epochs or 1, lr=settings.prior_lr or 1.0)
    examples = problem.dataset.train[torch.from_numpy(problem.partition.prior).to(problem.device)]
    objective = NetworkObjective(problem.blueprint.prepared(network))
    fit(run, trainer_of(problem, objective, examples, budget, STAGE), f"{settings.model_name} {STAGE}", display)
    nothing = np.zeros(0, dtype=np.uint64)  # its examples are known by their indices
    theta0 = problem.blueprint.start_from(network, seen=nothing, seen_is_complete=True, origin="")
    run.manifest.parent = theta0.sha256()
    theta0.save(run)
    run.set_stage(STAGE, "running", (INIT,))
    run.remove_resume()
