"""A classifier is a function of one example: no certificate is about anything else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pactl_cli.errors import PactlError
from pactl_cli.models.brought import described

EXAMPLES = 4
"""How many examples a network is tried on."""

TOLERANCE = 1e-3
"""Of logits, relative to the largest: far above rounding, and far below what dropout or batch statistics do."""


def require_function_of_one_example(network: nn.Module, inputs: Tensor, classes: int, name: str) -> None:
    """Evaluates a few examples together, again, and one by one.

    Args:
        network: in evaluation mode.
        inputs: normalised examples, shape (m, C, H, W).
        classes: how many logits an example must get.
        name: of the network, for the message.

    Raises:
        PactlError: unless each example has the same logits every time, up to `TOLERANCE`.
    """
    together = evaluated(network, inputs, classes, name)
    if not agree(together, evaluated(network, inputs, classes, name)):
        raise PactlError(
            f"--model-name {name} is refused: in evaluation mode the same examples get other logits every time",
            "leave nothing random, such as dropout, and nothing that counts calls",
        )
    alone = [evaluated(network, image, classes, name) for image in inputs.split(1)]
    if not agree(together, torch.cat(alone)):
        raise PactlError(
            f"--model-name {name} is refused: in evaluation mode an example's logits depend on the others in its batch",
            "a certificate is about a function of one example: use no batch statistics but BatchNorm's running ones",
        )


@torch.no_grad()
def evaluated(network: Callable[[Tensor], object], inputs: Tensor, classes: int, name: str) -> Tensor:
    """The logits, shape (m, classes).

    Raises:
        PactlError: if the network fails, or gives something else.
    """
    try:
        logits = network(inputs)
    except Exception as error:
        shape = " x ".join(map(str, inputs.shape[1:]))
        raise PactlError(f"--model-name {name} fails on images of {shape}: {described(error)}") from error
    return require_logits(logits, len(inputs), classes, name)


def require_logits(logits: object, examples: int, classes: int, name: str) -> Tensor:
    """A network's output, if it is one number for each class of each example.

    Raises:
        PactlError: if it is something else.
    """
    if not isinstance(logits, Tensor) or logits.shape != (examples, classes) or not logits.is_floating_point():
        found = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise PactlError(
            f"--model-name {name} gives {found} for {examples} images",
            f"it must give a tensor of logits of shape ({examples}, {classes})",
        )
    return logits


def agree(one: Tensor, other: Tensor) -> bool:
    """Whether logits are the same up to `TOLERANCE`; a number that is not finite agrees with any such."""
    finite = one.isfinite() & other.isfinite()
    if not torch.equal(one.isfinite(), other.isfinite()):
        return False
    one, other = one[finite], other[finite]
    return bool(((one - other).abs() <= TOLERANCE * one.abs().max()).all()) if len(one) else True
