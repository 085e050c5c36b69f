"""Where a transfer starts: the final weights of a run, or a network that torchvision has pretrained."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor

from pactl_cli import catalogue
from pactl_cli.data.loading import load_dataset
from pactl_cli.errors import MissingError, PactlError, printable
from pactl_cli.models import build_network
from pactl_cli.models.layers import head_names
from pactl_cli.problem.consent import DataPlace, Named, place_of_data
from pactl_cli.problem.display import Display
from pactl_cli.problem.loading import seen_forms
from pactl_cli.problem.reloading import reload_subject, restore
from pactl_cli.problem.subject import Subject
from pactl_cli.runs.checkpoint import load_tensors
from pactl_cli.runs.directory import CHECKPOINT, RunDirectory
from pactl_cli.runs.settings import TransferSettings
from pactl_cli.runs.start import Start, Training

_TORCHVISION = "torchvision:"
_IMAGENET_SHAPE = (3, 224, 224)
_AUXILIARY_HEADS = ("AuxLogits.", "aux1.", "aux2.")
_TRAINED_AT_ONE_HALF = ("inception_v3", "googlenet")
"""Networks whose pretrained weights expect inputs in -1 .. 1."""


def is_published(settings: TransferSettings) -> bool:
    """Whether the weights are torchvision's own, not a run's."""
    return settings.source.startswith(_TORCHVISION)


def find_source(settings: TransferSettings, display: Display) -> Start:
    """The weights that `settings.source` names.

    Raises:
        PactlError: if there are none, or they cannot be read.
    """
    if is_published(settings):
        return _pretrained(settings)
    if settings.weights is not None:
        raise PactlError(
            f"--weights {settings.weights}: a run directory has weights of its own",
            "give --weights with torchvision:NAME",
        )
    return _trained(RunDirectory.open(Path(settings.source)), settings, display)


def _trained(run: RunDirectory, settings: TransferSettings, display: Display) -> Start:
    """The network of a complete run, as it was trained, with its batch statistics."""
    run.require_complete(run.manifest.kind)
    named = Named(settings.data_dir, model_name=settings.model_name)
    subject = reload_subject(run, named, settings.device, display)
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


def _pretrained(settings: TransferSettings) -> Start:
    """The weights that torchvision offers for one of its networks, or those of a file."""
    name = catalogue.model_name(settings.source.removeprefix(_TORCHVISION))
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise PactlError(f"torchvision:{name}: torchvision has no such network", "transfer from a run directory of it")
    tensors = _read_weights(settings.weights) if settings.weights else _download(name)
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(_AUXILIARY_HEADS)}
    network = build_network(name, classes=2, shape=_IMAGENET_SHAPE, width=None, seed=catalogue.DEFAULT_SEED)
    head = head_names(network)
    if not head or head[0] not in tensors:
        raise PactlError(f"--weights {settings.weights} are not those of torchvision's {name}: {head[:1]} is missing")
    return Start(
        tensors=tensors,
        seen=np.zeros(0, dtype=np.uint64),
        model_name=name,
        base_width=None,
        classes=len(tensors[head[0]]),
        head=head,
        shape=_IMAGENET_SHAPE,
        statistics=None if name in _TRAINED_AT_ONE_HALF else catalogue.IMAGENET_STATISTICS,
        seen_is_complete=False,
        origin=f"{settings.source} with weights of {printable(str(settings.weights))}"
        if settings.weights
        else settings.source,
        lineage=(Training("" if settings.weights else "imagenet", published=True),),
    )


def _download(name: str) -> dict[str, Tensor]:
    """torchvision's best weights for a network, from its cache or fetched, checked by their hash."""
    try:
        with redirect_stdout(StringIO()):  # on which torch says what it fetches
            return dict(torchvision.models.get_model(name, weights="DEFAULT", progress=False).state_dict())
    except (OSError, RuntimeError) as error:
        raise MissingError(
            f"the weights of torchvision:{name} could not be downloaded: {error}", "give a file of them with --weights"
        ) from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Named tensors from a file that is only ever read as data."""
    try:
        if path.suffix == ".safetensors":
            return load_tensors(path)[0]
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise MissingError(f"--weights {path} cannot be read: there is no such file") from error
    except PactlError as error:
        raise PactlError(f"--weights {error.message}", error.hint) from error
    except Exception as error:  # a hostile file makes torch raise almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PactlError(f"--weights {path} cannot be read: {reason[:200]}", "save a state_dict") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise PactlError(f"--weights {path} holds no weights by name", "save a state_dict")
    return dict(tensors)
