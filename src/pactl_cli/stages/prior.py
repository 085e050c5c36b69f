"""`pactl prior`: weights trained on one part of the training set, then a subspace around them on the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from pactl_cli.problem.display import Display
from pactl_cli.problem.subject import Subject
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
    subject = load_for(destination, settings, display, world)
    require_trainable(subject, subject.build_module(), subject.settings.batch_size or 1)
    with open_run("prior", destination, subject) as run:
        if run.is_complete():
            return
        mention_copies(subject, display)
        if INIT not in run.manifest.files:
            _train_prior(run, subject, display)
        subject = replace(subject, start=world.from_first(lambda: Start.load(run, subject.settings)))
        if subject.settings.intrinsic_dim:
            train_coordinates(run, subject, display)
        else:
            finish(run, {"w": torch.zeros(0)})


def _train_prior(run: RunDirectory, subject: Subject, display: Display) -> None:
    """Trains all weights on the prior's examples, and writes them: theta0."""
    network = subject.initial_network().to(subject.sample.labels.device)
    settings = subject.settings
    assert isinstance(settings, PriorSettings)
    budget = replace(plan(settings), epochs=settings.prior_epochs or 1, lr=settings.prior_lr or 1.0)
    examples = subject.dataset.train[torch.from_numpy(subject.partition.prior).to(subject.sample.labels.device)]
    fit(run, NetworkObjective(network), subject, examples, budget, STAGE, display)
    nothing = np.zeros(0, dtype=np.uint64)  # its examples are known by their indices
    theta0 = subject.start_from(network, seen=nothing, seen_is_complete=True, origin="")
    run.manifest.parent = theta0.sha256()
    theta0.save(run)
    run.set_stage(STAGE, "running", (INIT,))
    run.remove_resume()
