"""BatchNorm as a function of one example: running statistics from calibration examples."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pactl_cli.certificate.format import CALIBRATION_BATCH
from pactl_cli.models.inputs import Inputs, count_inputs, select


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """The layers of a network that use batch statistics in training, in order."""
    return [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]


@torch.no_grad()
def calibrate(network: nn.Module, inputs: Inputs) -> None:
    """Recompute running statistics at the present weights, and leave the network in evaluation mode.

    The statistics are the average over equal consecutive batches of at most
    `CALIBRATION_BATCH` calibration examples, in their order. Everything but BatchNorm, such
    as dropout, stays in evaluation mode. Without BatchNorm or examples nothing is recomputed.
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
    count = count_inputs(inputs)
    for batch in torch.arange(count).tensor_split(-(-count // CALIBRATION_BATCH)):
        network(select(inputs, batch))  # a copy: a network of the user's may change what it is given
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()


def freeze_statistics(network: nn.Module) -> None:
    """From now on BatchNorm uses the running statistics that it has, and keeps them, in training too."""

    def into_evaluation(*_: object) -> None:
        for layer in batch_norms(network):
            layer.eval()

    network.register_forward_pre_hook(into_evaluation)
