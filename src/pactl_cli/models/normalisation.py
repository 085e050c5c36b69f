"""Statistics of calibration examples: mean and deviation of inputs, and BatchNorm's running statistics."""

from __future__ import annotations

from math import fsum, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pactl_cli.catalogue import Statistics
from pactl_cli.certificate.format import CALIBRATION_BATCH
from pactl_cli.models.inputs import Inputs, count_inputs, select


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Return the layers of a network that use batch statistics in training, in order."""
    return [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]


def running_statistics(network: nn.Module) -> dict[str, Tensor]:
    """Return the running means and variances of a network by name, not copied."""
    layers = ((name, layer) for name, layer in network.named_modules() if isinstance(layer, _BatchNorm))
    kept = ((f"{name}.{key}", buffer) for name, layer in layers for key, buffer in layer.named_buffers())
    return {name: buffer for name, buffer in kept if buffer.is_floating_point()}


@torch.no_grad()
def calibrate(network: nn.Module, inputs: Inputs) -> None:
    """Recompute running statistics at the present weights, and leave the network in evaluation mode.

    The statistics are the average over equal consecutive batches of at most `CALIBRATION_BATCH` calibration examples,
    in their order. All other layers, such as dropout, stay in evaluation mode. Without BatchNorm or examples nothing is
    recomputed.
    """
    network.eval()
    layers = batch_norms(network)
    if not layers or not count_inputs(inputs):
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    hooks = [layer.register_forward_pre_hook(_channels_first) for layer in layers]
    count = count_inputs(inputs)
    for batch in torch.arange(count).tensor_split(-(-count // CALIBRATION_BATCH)):
        network(select(inputs, batch))  # a copy: the user's own network may change its inputs in place
    for layer, momentum, hook in zip(layers, momenta, hooks, strict=True):
        layer.momentum = momentum
        hook.remove()
    network.eval()


def _channels_first(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return a layer's inputs with channels first, so that a CPU's sums over many pixels are as exact as a GPU's.

    With channels last, torch adds up a million numbers one after the other, in single precision.
    """
    return tuple(tensor.contiguous() for tensor in inputs)


def statistics_of(inputs: Tensor) -> Statistics:
    """Return mean and standard deviation of each channel of images, or of each feature: the same on every machine.

    Bytes are divided by 255. A deviation of 0 is replaced by 1.
    """
    values = inputs.cpu().numpy()
    rows = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
    of_row = _of_bytes if inputs.dtype == torch.uint8 else _of_numbers
    mean, std = zip(*(of_row(row) for row in rows), strict=True)
    return mean, std


def _of_bytes(row: NDArray[np.uint8]) -> tuple[float, float]:
    """Return mean and deviation, computed from exact integers: rounded once, and the root once more."""
    counts, size = np.bincount(row, minlength=256).tolist(), len(row)
    total = sum(value * count for value, count in enumerate(counts))
    squares = sum(value * value * count for value, count in enumerate(counts))
    return total / (255 * size), sqrt((size * squares - total * total) / (255 * size) ** 2) or 1.0


def _of_numbers(row: NDArray[np.number]) -> tuple[float, float]:
    """Return mean and deviation in double precision, from sums that are rounded only once."""
    numbers = row.astype(np.float64)
    if numbers.min() == numbers.max():
        return float(numbers[0]), 1.0
    mean = fsum(numbers) / len(numbers)
    return mean, sqrt(fsum((numbers - mean) ** 2) / len(numbers)) or 1.0


def freeze_statistics(network: nn.Module) -> None:
    """Make BatchNorm use its present running statistics from now on, and keep them, in training too."""

    def into_evaluation(*_: object) -> None:
        for layer in batch_norms(network):
            layer.eval()

    network.register_forward_pre_hook(into_evaluation)
