"""Pretrained networks of a package as sources, with the package's weights or those of a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from pactl_cli.catalogue import Statistics
from pactl_cli.errors import PactlError, printable
from pactl_cli.models import sketch_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.problem.display import Display
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Start, Training
from pactl_cli.sources.matching import Match, match
from pactl_cli.sources.weights import Weights


@dataclass(frozen=True)
class Package:
    """What a package says about one of its networks.

    Attributes:
        model_name: the network's name in the catalogue.
        words: the network's name in messages.
        sides: the sides of the images that its weights were trained on, the likeliest first.
        statistics: the normalisation of colour images in that training; None for .5 and .5.
    """

    model_name: str
    words: str
    sides: tuple[int, ...]
    statistics: Statistics | None


def start_of(package: Package, weights: Weights, settings: TrainSettings, display: Display) -> Start:
    """Return what a run starts from: a package's network with weights that fit it at one of its sizes.

    Raises:
        PactlError: if they fit at no size.
    """
    found, side = _matched(package, weights, settings)
    for note in found.notes:
        display.warn(note)
    channels = found.channels or 3
    statistics = package.statistics if package.statistics and len(package.statistics[0]) == channels else None
    return Start(
        tensors=found.tensors,
        seen=np.zeros(0, dtype=np.uint64),
        model_name=package.model_name,
        base_width=None,
        classes=found.classes,
        head=found.head,
        spec=InputSpec.image(channels, side, side),
        statistics=statistics,
        seen_is_complete=False,
        origin=origin_of(settings),
        lineage=(Training("" if settings.weights else "imagenet", published=True),),
    )


def origin_of(settings: TrainSettings) -> str:
    """Return where theta0 comes from, in words."""
    of_file = f" with weights of {printable(settings.weights.name)}" if settings.weights else ""
    return f"{settings.source}{of_file}"


def _matched(package: Package, weights: Weights, settings: TrainSettings) -> tuple[Match, int]:
    """Return weights with the network's names, and the side of the images that they are for.

    The sides that the package names are tried first, then the user's own: some weights fit one size only.
    """
    first: PactlError | None = None
    for side in (*package.sides, *((settings.image_size,) if settings.image_size else ())):

        def sketch(classes: int, channels: int, side: int = side) -> nn.Module:
            inputs = InputSpec.image(channels, side, side)
            return sketch_network(package.model_name, classes=classes, inputs=inputs, width=None)

        try:
            return match(weights, sketch, package.words, settings.head), side
        except PactlError as error:
            first = first or error
    assert first is not None
    raise first
