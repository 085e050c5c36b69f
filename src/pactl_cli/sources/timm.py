"""timm's pretrained networks as sources."""

from __future__ import annotations

import logging
from typing import Any

from pactl_cli import catalogue
from pactl_cli.certificate.format import FIXED_STATISTICS
from pactl_cli.errors import MissingError
from pactl_cli.models.timm_models import timm_entry
from pactl_cli.problem.display import Display
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Start
from pactl_cli.sources.package import Package, start_of
from pactl_cli.sources.weights import Weights, read_weights


def load(name: str, settings: TrainSettings, display: Display) -> Start:
    """Return the weights that timm offers for one of its networks, or those of a file, with timm's preparation.

    Raises:
        PactlError: if there is no such network, or its weights cannot be downloaded or do not fit.
    """
    entry = timm_entry(name)
    sides = tuple(dict.fromkeys(max(size[1:]) for size in (entry.input_size, entry.test_input_size) if size))
    statistics = tuple(map(float, entry.mean)), tuple(map(float, entry.std))
    own = None if statistics == tuple((row * 3)[:3] for row in FIXED_STATISTICS) else statistics
    weights = read_weights(settings.weights) if settings.weights else _download(name)
    package = Package(catalogue.model_name(f"{catalogue.TIMM}:{name}"), f"timm's {name}", sides, own)
    return start_of(package, weights, settings, display)


def _download(name: str) -> Weights:
    """Return timm's weights for a network, from its cache or downloaded."""
    from timm import create_model

    before = logging.root.manager.disable
    logging.disable()  # timm logs every attempt
    try:
        network: Any = create_model(name, pretrained=True)
    except Exception as error:  # each library that downloads has errors of its own
        raise MissingError(
            f"the weights of timm:{name} could not be downloaded: {type(error).__name__}",
            "give a file of them with --weights",
        ) from error
    finally:
        logging.disable(before)
    return Weights(f"timm's weights of {name}", dict(network.state_dict()))
