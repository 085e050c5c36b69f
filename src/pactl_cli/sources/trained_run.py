"""A run directory as a source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pactl_cli.data.loading import load_dataset
from pactl_cli.errors import PactlError, printable
from pactl_cli.problem.consent import DataPlace, Named, place_of_data
from pactl_cli.problem.loading import seen_forms
from pactl_cli.problem.reloading import reload_subject, restore
from pactl_cli.problem.subject import Subject
from pactl_cli.runs.checkpoint import load_tensors
from pactl_cli.runs.directory import CHECKPOINT, RunDirectory
from pactl_cli.runs.start import Start
from pactl_cli.sources import SourceRequest


def load(request: SourceRequest) -> Start:
    """Return the network of a complete run, as it was trained, with its batch statistics.

    Raises:
        PactlError: if there is no such run, or it is not complete, or its data are not at hand.
    """
    settings = request.settings
    if settings.weights is not None:
        raise PactlError(
            f"--weights {settings.weights}: a run directory has weights of its own",
            "give --weights with torchvision:NAME",
        )
    run = RunDirectory.open(Path(request.name))
    run.require_complete(run.manifest.kind)
    named = Named(settings.data_dir, model_name=settings.model_name)
    subject = reload_subject(run, named, settings.device, request.display)
    if subject.settings.intrinsic_dim:
        module = subject.build_module()
        restore(module, run)
        network = subject.classifier(module, module.w.detach())
    else:
        network = subject.initial_network()
        if run.manifest.kind != "prior":
            network.load_state_dict(_full_weights(run, network.state_dict()))
        network = network.to(subject.sample.labels.device)
        subject.calibrate(network)
    return subject.start_from(
        network,
        seen=_seen(subject, place_of_data(run, subject.settings, named, only_read=False)),
        seen_is_complete=subject.start is None or subject.start.seen_is_complete,
        origin=printable(str(run.path.resolve())),
        lineage=subject.lineage(),
    )


def _full_weights(run: RunDirectory, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint of a run that trained all its weights."""
    tensors, _ = load_tensors(run.path / CHECKPOINT)
    if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in expected.items()}:
        raise PactlError(f"{run.path / CHECKPOINT} does not hold the weights of its network")
    return tensors


def _seen(subject: Subject, place: DataPlace) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Fingerprints of all images that a run's weights may depend on, those of its own start included."""
    parts = subject.partition
    used = np.concatenate([parts.prior, parts.calibration, parts.bound])
    raw = load_dataset(place.dataset, place.directory, may_write=place.may_write).train[torch.from_numpy(used)]
    own = seen_forms(raw, subject.dataset.train[torch.from_numpy(used).to(subject.sample.labels.device)]).ravel()
    return np.unique(np.concatenate([own, subject.start.seen if subject.start else own[:0]]))
