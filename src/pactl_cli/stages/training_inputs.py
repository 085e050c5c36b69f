"""The inputs of training: examples, or features that are computed once if the head alone is trained."""

from __future__ import annotations

import torch
from torch import nn

from pactl_cli.catalogue import NO_VIEW
from pactl_cli.data.dataset import LabelledExamples
from pactl_cli.data.files.capacity import available_memory
from pactl_cli.problem.display import Display
from pactl_cli.problem.problem import Problem
from pactl_cli.training.features import TrainingInputs, features_of, head_alone, prepared_of


def find_inputs(problem: Problem, module: nn.Module, examples: LabelledExamples, display: Display) -> TrainingInputs:
    """Return the examples or features to train a network on.

    If the head alone is trained, the rest of the network is calibrated here, as it will be for counting. Features are
    computed then, unless a random view changes the examples, or they take more than half of the free memory.

    Args:
        module: a prepared network, or one with weights theta0 + P w.
    """
    head, network = head_alone(module), prepared_of(module)
    if head is None:
        return TrainingInputs(examples, network)
    problem.calibrate(network)
    has_view = (problem.settings.augment or NO_VIEW) != NO_VIEW
    most_bytes = 0 if has_view else _free_bytes(problem.device) // (2 * problem.world.local_size)
    with display.progress("computing features") as advance:
        return features_of(network, head, examples, advance, most_bytes)


def _free_bytes(device: torch.device) -> int:
    """Return the free memory of a device, in bytes."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
