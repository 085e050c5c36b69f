"""A run directory as a source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pactl_cli.data.joining import rows_in_parts
from pactl_cli.data.loading import load_parts
from pactl_cli.data.recognition import image_fingerprints
from pactl_cli.errors import PactlError, printable
from pactl_cli.problem.configuring import reading_of
from pactl_cli.problem.consent import DataPlace, Named, place_of_data
from pactl_cli.problem.display import Display
from pactl_cli.problem.problem import Problem
from pactl_cli.problem.reloading import reload_problem, restore, trained_weights
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Start


def load(name: str, settings: TrainSettings, display: Display) -> Start:
    """Return the trained network of a complete run, with its batch statistics.

    Raises:
        PactlError: if there is no such run, or it is not complete, or its data are absent.
    """
    for option in ("weights", "head"):
        if (value := getattr(settings, option)) is not None:
            raise PactlError(
                f"--{option} {value}: a run directory has {'a head' if option == 'head' else option} of its own",
                f"leave it out, or give --{option} with torchvision:NAME, timm:NAME or MODULE:FUNCTION",
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
            network.load_state_dict(trained_weights(run, network.state_dict()))
        problem.calibrate(problem.blueprint.prepared(network).to(problem.device))
    return problem.blueprint.start_from(
        network,
        seen=_seen(problem, place_of_data(run, problem.settings, named, only_read=False)),
        seen_is_complete=problem.blueprint.start is None or problem.blueprint.start.seen_is_complete,
        origin=printable(run.path.resolve().name),
        lineage=problem.lineage(),
    )


def _seen(problem: Problem, place: DataPlace) -> NDArray[np.uint64]:
    """Return fingerprints of all images that a run's weights may depend on, those of its own start included.

    They do not depend on S if d = 0 and the run certifies theta0 as it is.
    """
    parts, reading, start = problem.partition, reading_of(problem.settings), problem.blueprint.start
    is_trained_on_sample = bool(problem.settings.intrinsic_dim) or not problem.kind.certifies_theta0
    used = np.concatenate([parts.prior, parts.calibration, parts.bound[: None if is_trained_on_sample else 0]])
    raw = load_parts(place.dataset, place.directory, reading, may_write=place.may_write)
    forms = [start.seen] if start else []
    for part, rows in zip(raw, rows_in_parts([len(part.train) for part in raw], used), strict=True):
        forms.append(image_fingerprints(part.train[torch.from_numpy(rows)]).ravel())
    if len(raw) > 1 or raw[0].spec != problem.dataset.spec:
        forms.append(image_fingerprints(problem.dataset.train[torch.from_numpy(used).to(problem.device)]).ravel())
    return np.unique(np.concatenate(forms))
