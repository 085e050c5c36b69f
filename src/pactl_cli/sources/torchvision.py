"""torchvision's pretrained networks as sources."""

from __future__ import annotations

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
from pactl_cli.runs.settings import TransferSettings
from pactl_cli.runs.start import Start, Training
from pactl_cli.sources.weights import read_weights

_IMAGENET = InputSpec.image(3, 224, 224)
_AUXILIARY_HEADS = ("AuxLogits.", "aux1.", "aux2.")
_TRAINED_AT_ONE_HALF = ("inception_v3", "googlenet")
"""Networks whose pretrained weights expect inputs in -1 .. 1."""


def load(name: str, settings: TransferSettings, display: Display) -> Start:
    """Return the weights that torchvision offers for one of its networks, or those of a file.

    Raises:
        PactlError: if there is no such network, or its weights cannot be had or are another's.
    """
    name = _own_name(name)
    tensors = read_weights(settings.weights) if settings.weights else _download(name)
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(_AUXILIARY_HEADS)}
    network = build_network(name, classes=2, inputs=_IMAGENET, width=None, seed=DEFAULT_SEED)
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
        spec=_IMAGENET,
        statistics=None if name in _TRAINED_AT_ONE_HALF else catalogue.IMAGENET_STATISTICS,
        seen_is_complete=False,
        origin=f"{settings.source} with weights of {printable(str(settings.weights))}"
        if settings.weights
        else settings.source,
        lineage=(Training("" if settings.weights else "imagenet", published=True),),
    )


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
            f"the weights of torchvision:{name} could not be downloaded: {error}", "give a file of them with --weights"
        ) from error
