"""The user's own network as a source, with weights from a file."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.errors import PactlError
from pactl_cli.models.brought import brought_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.problem.display import Display
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Start, Training
from pactl_cli.sources.matching import match
from pactl_cli.sources.package import origin_of
from pactl_cli.sources.weights import read_weights


def load(name: str, settings: TrainSettings, display: Display) -> Start:
    """Return the weights of a file for the network that the function `name` returns.

    The function is called with the numbers of classes and channels that fit the weights.

    Raises:
        PactlError: if there is no such function or file, or the weights do not fit the network.
    """
    if settings.weights is None:
        raise PactlError(
            f"{name} needs a file of weights: the weights that its function returns are drawn anew from the seed",
            f"--weights FILE, or pactl train --model-name {name}",
        )
    weights = read_weights(settings.weights)

    def sketch(classes: int, channels: int) -> nn.Module:
        return brought_network(name, classes=classes, channels=channels, seed=DEFAULT_SEED)

    found = match(weights, sketch, name, settings.head)
    for note in found.notes:
        display.warn(note)
    return Start(
        tensors=found.tensors,
        seen=np.zeros(0, dtype=np.uint64),
        model_name=name,
        base_width=None,
        classes=found.classes,
        head=found.head,
        spec=InputSpec.image(found.channels, 1, 1) if found.channels else InputSpec.of(torch.zeros(1, 1)),
        statistics=None,
        seen_is_complete=False,
        origin=origin_of(settings),
        lineage=(Training(""),),
        takes_any=True,
    )
