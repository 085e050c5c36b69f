"""torchvision's pretrained networks as sources."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import torchvision
from torch import Tensor

from pactl_cli import catalogue
from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.errors import MissingError, PactlError, printable
from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.layers import head_names
from pactl_cli.problem.display import Display
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Start, Training
from pactl_cli.sources.weights import read_weights

_IMAGENET = InputSpec.image(3, 224, 224)
_AUXILIARY_HEADS = ("AuxLogits.", "aux1.", "aux2.")
_TRAINED_AT_ONE_HALF = ("inception_v3", "googlenet")
"""Networks whose pretrained weights expect inputs in -1 .. 1."""
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)")
"""The names that published weights of densenets have: norm.1 for norm1."""


def load(name: str, settings: TrainSettings, display: Display) -> Start:
    """Return the weights that torchvision offers for one of its networks, or those of a file.

    Raises:
        PactlError: if there is no such network, or its weights cannot be had or are another's.
    """
    if settings.source_dataset is not None:
        raise PactlError(f"--source-dataset {settings.source_dataset}: {settings.source} is no run", "leave it out")
    name = _own_name(name)
    tensors = read_weights(settings.weights) if settings.weights else _download(name)
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(_AUXILIARY_HEADS)}
    tensors = {_OLD_DENSENET.sub(r"\1\2", key): tensor for key, tensor in tensors.items()}
    network = build_network(name, classes=2, inputs=_IMAGENET, width=None, seed=DEFAULT_SEED)
    head, expected = head_names(network), network.state_dict()
    # Counters of batches, which weights as old as torch 0.4 lack, and nothing depends on.
    tensors = {key: t for key, t in expected.items() if key.endswith("num_batches_tracked")} | tensors
    if misfit := next(_misfits(tensors, expected, head), "" if head else "it has no head"):
        raise PactlError(f"--weights {settings.weights} are not those of torchvision's {name}: {misfit}")
    return Start(
        tensors=tensors,
        seen=np.zeros(0, dtype=np.uint64),
        model_name=name,
        base_width=None,
        classes=len(tensors[head[0]]),
        head=head,
        spec=_IMAGENET,
        statistics=None if name in _TRAINED_AT_ONE_HALF else catalogue.IMAGENET_STATISTICS,
        seen_is_complete=False,
        origin=f"{settings.source} with weights of {printable(settings.weights.name)}"
        if settings.weights
        else settings.source or "",
        lineage=(Training("" if settings.weights else "imagenet", published=True),),
    )


def _misfits(tensors: dict[str, Tensor], expected: dict[str, Tensor], head: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with weights, each in words, whose head may have any number of classes."""
    for name, there in expected.items():
        if name not in tensors:
            yield f"{name} is missing"
        elif tensors[name].shape[name in head :] != there.shape[name in head :] or tensors[name].dtype != there.dtype:
            yield f"{name} is {_form(tensors[name])}, not {_form(there)}"
    yield from (f"it has no place for {reprlib.repr(name)}" for name in tensors.keys() - expected.keys())


def _form(tensor: Tensor) -> str:
    """The type and shape of a tensor."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _own_name(name: str) -> str:
    """The name of one of torchvision's networks, from that or a published one."""
    try:
        found = catalogue.model_name(name)
    except PactlError:
        found = ""
    if found not in torchvision.models.list_models(module=torchvision.models):
        raise PactlError(f"torchvision:{name}: torchvision has no such network", "pactl names networks lists them")
    return found


def _download(name: str) -> dict[str, Tensor]:
    """Return torchvision's best weights for a network, from its cache or fetched, checked by their hash."""
    try:
        with redirect_stdout(StringIO()):  # on which torch says what it fetches
            return dict(torchvision.models.get_model(name, weights="DEFAULT", progress=False).state_dict())
    except (OSError, RuntimeError) as error:
        raise MissingError(
            f"the weights of torchvision:{name} could not be downloaded: {getattr(error, 'reason', error)}",
            "give a file of them with --weights",
        ) from error
