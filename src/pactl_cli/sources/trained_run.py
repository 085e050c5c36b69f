"""A run directory as a source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pactl_cli.data.loading import load_dataset
from pactl_cli.errors import PactlError, printable
from pactl_cli.problem.configuring import reading_of
from pactl_cli.problem.consent import DataPlace, Named, place_of_data
from pactl_cli.problem.display import Display
from pactl_cli.problem.fitting import seen_forms
from pactl_cli.problem.problem import Problem
from pactl_cli.problem.reloading import reload_problem, restore
from pactl_cli.runs.checkpoint import load_tensors
from pactl_cli.runs.directory import CHECKPOINT, RunDirectory
from pactl_cli.runs.settings import TransferSettings
from pactl_cli.runs.start import Start


def load(name: str, settings: TransferSettings, display: Display) -> Start:
    """Return the network of a complete run, as it was trained, with its batch statistics.

    Raises:
        PactlError: if there is no such run, or it is not complete, or its data are not at hand.
    """
    if settings.weights is not None:
        raise PactlError(
            f"--weights {settings.weights}: a run directory has weights of its own",
            "give --weights with torchvision:NAME",
        )
    run = RunDirectory.open(Path(name))
    run.require_complete(run.manifest.kind)
    named = Named(settings.data_dir, settings.source_dataset, settings.model_name, option="--source-dataset")
    problem = reload_problem(run, named, settings.device, display)
    if problem.settings.intrinsic_dim:
        module = problem.build_module()
        restore(module, run)
        network = problem.classifier(module, module.w.detach()).network
    else:
        network = problem.blueprint.network()
        if not problem.kind.certifies_theta0:
            network.load_state_dict(_full_weights(run, network.state_dict()))
        problem.calibrate(problem.blueprint.prepared(network).to(problem.device))
    return problem.blueprint.start_from(
        network,
        seen=_seen(problem, place_of_data(run, problem.settings, named, only_read=False)),
        seen_is_complete=problem.blueprint.start is None or problem.blueprint.start.seen_is_complete,
        origin=printable(run.path.resolve().name),
        lineage=problem.lineage(),
    )


def _full_weights(run: RunDirectory, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the checkpoint of a run that trained all its weights."""
    tensors, _ = load_tensors(run.path / CHECKPOINT)
    if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in expected.items()}:
        raise PactlError(f"{run.path / CHECKPOINT} does not hold the weights of its network")
    return tensors


def _seen(problem: Problem, place: DataPlace) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Return fingerprints of all images that a run's weights may depend on, those of its own start included."""
    parts = problem.partition
    used = np.concatenate([parts.prior, parts.calibration, parts.bound])
    reading = reading_of(problem.settings)
    raw = load_dataset(place.dataset, place.directory, may_write=place.may_write, reading=reading, original=True)
    own = seen_forms(
        raw.train[torch.from_numpy(used)], problem.dataset.train[torch.from_numpy(used).to(problem.device)]
    ).ravel()
    return np.unique(np.concatenate([own, problem.blueprint.start.seen if problem.blueprint.start else own[:0]]))
