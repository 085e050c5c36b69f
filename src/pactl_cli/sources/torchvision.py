"""torchvision's pretrained networks as sources."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO

import torchvision

from pactl_cli import catalogue
from pactl_cli.errors import MissingError, PactlError
from pactl_cli.problem.display import Display
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Start
from pactl_cli.sources.package import Package, start_of
from pactl_cli.sources.weights import Weights, read_weights

_TRAINED_AT_ONE_HALF = ("inception_v3", "googlenet")
"""The networks whose pretrained weights expect inputs in -1 .. 1."""
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)")
"""Names in the published weights of densenets: norm.1 for norm1."""


def load(name: str, settings: TrainSettings, display: Display) -> Start:
    """Return the weights that torchvision offers for one of its networks, or those of a file.

    Raises:
        PactlError: if there is no such network, or its weights cannot be downloaded or do not fit.
    """
    name = _own_name(name)
    offered = torchvision.models.get_model_weights(name)
    best_first = [weights.transforms.keywords["crop_size"] for weights in (offered.DEFAULT, *offered)]
    package = Package(name, f"torchvision's {name}", tuple(dict.fromkeys(best_first)), _statistics(name))
    weights = read_weights(settings.weights) if settings.weights else _download(name)
    tensors = {_OLD_DENSENET.sub(r"\1\2", key): tensor for key, tensor in weights.tensors.items()}
    return start_of(package, replace(weights, tensors=tensors), settings, display)


def _statistics(name: str) -> catalogue.Statistics | None:
    """Return the normalisation of the images that a network's weights were trained on; None for .5 and .5."""
    said = torchvision.models.get_model_weights(name).DEFAULT.transforms.keywords
    mean, std = (said.get(what, own) for what, own in zip(("mean", "std"), catalogue.IMAGENET_STATISTICS, strict=True))
    is_one_half = name in _TRAINED_AT_ONE_HALF or {*mean, *std} == {0.5}
    return None if is_one_half else (tuple(mean), tuple(std))


def _own_name(name: str) -> str:
    """Return torchvision's name of a network, from that name or an alias."""
    try:
        found = catalogue.model_name(name)
    except PactlError:
        found = ""
    if found not in torchvision.models.list_models(module=torchvision.models):
        raise PactlError(f"torchvision:{name}: torchvision has no such network", "pactl names networks lists them")
    return found


def _download(name: str) -> Weights:
    """Return torchvision's best weights for a network, from its cache or downloaded, checked by their hash."""
    try:
        with redirect_stdout(StringIO()):  # torch prints what it downloads
            network = torchvision.models.get_model(name, weights="DEFAULT", progress=False)
    except (OSError, RuntimeError) as error:
        raise MissingError(
            f"the weights of torchvision:{name} could not be downloaded: {getattr(error, 'reason', error)}",
            "give a file of them with --weights",
        ) from error
    return Weights(f"torchvision's weights of {name}", dict(network.state_dict()))
