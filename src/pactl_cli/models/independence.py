"""A check that a classifier is a function of one example, as every certificate assumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pactl_cli.certificate.format import NUMERICAL_MARGIN
from pactl_cli.errors import PactlError
from pactl_cli.models.brought import described
from pactl_cli.models.inputs import Inputs, InputSpec, change, count_inputs, select

EXAMPLES = 4
"""The number of examples on which a network is tried."""

TOLERANCE = NUMERICAL_MARGIN / 2
"""How far a logit may move, relative to the example's largest; a lead then moves by at most the margin."""

_HUGE = 1e30
"""A logit of this size or more counts as an overflow."""
_RANDOM = (
    "in evaluation mode the same examples get other logits every time",
    "remove what is random, such as dropout, and what counts calls",
)
_DEPENDENT = (
    "in evaluation mode an example's logits depend on the others in its batch",
    "a certificate is about a function of one example: use no batch statistics but BatchNorm's running ones",
)
_UNSTABLE = (
    f"rounding alone changes its logits by more than {TOLERANCE:g} of an example's largest",
    "try more --calibration-examples, larger images or another network",
)


def require_function_of_one_example(
    network: nn.Module, inputs: Inputs, classes: int, name: str, *, stable: bool = True
) -> None:
    """Evaluate a few examples together, again, and one by one; raise PactlError unless their logits stay the same.

    If they differ in single precision, double precision decides whether that is only rounding.

    Args:
        network: a network in evaluation mode, in single precision.
        inputs: examples, as the network takes them.
        classes: how many logits an example must get.
        name: the network's name, for the message.
        stable: whether to refuse a network whose logits change by more than `TOLERANCE` by rounding alone.
    """
    doubt = _dependence(network, inputs, classes, name)
    if doubt and _is_rounding(network, inputs, classes, name):
        doubt = _UNSTABLE if stable else None
    if doubt:
        raise PactlError(f"--model-name {name} is refused: {doubt[0]}", doubt[1])


def _dependence(network: nn.Module, inputs: Inputs, classes: int, name: str) -> tuple[str, str] | None:
    """Return what an example's logits wrongly depend on, and a hint; None if on nothing."""
    together = evaluated(network, inputs, classes, name)
    if not agree(together, evaluated(network, inputs, classes, name)):
        return _RANDOM
    each = (select(inputs, slice(place, place + 1)) for place in range(len(together)))
    alone = torch.cat([evaluated(network, one, classes, name) for one in each])
    return None if agree(together, alone) else _DEPENDENT


def _is_rounding(network: nn.Module, inputs: Inputs, classes: int, name: str) -> bool:
    """Return whether a dependence is gone in double precision; False if the network cannot be evaluated in it."""

    def widened(values: Tensor) -> Tensor:
        return values.double() if values.is_floating_point() else values

    if any(weight.device.type == "mps" for weight in network.parameters()):  # it has no double precision
        return False
    try:
        return _dependence(network.double(), change(inputs, widened), classes, name) is None
    except PactlError:
        return False
    finally:
        network.float()


@torch.no_grad()
def evaluated(network: Callable[[Inputs], object], inputs: Inputs, classes: int, name: str) -> Tensor:
    """Return a network's logits, shape (m, classes).

    Raises:
        PactlError: if the network fails, or returns something else.
    """
    try:
        logits = network(inputs)
    except Exception as error:
        hint = 'its forward gets the mapping as one argument: inputs["KEY"]' if isinstance(inputs, Mapping) else ""
        raise PactlError(f"--model-name {name} fails on {InputSpec.of(inputs)}: {described(error)}", hint) from error
    return require_logits(logits, count_inputs(inputs), classes, name)


def require_logits(logits: object, examples: int, classes: int, name: str) -> Tensor:
    """Return a network's output; raise PactlError unless it is one number for each class of each example."""
    if not isinstance(logits, Tensor) or logits.shape != (examples, classes) or not logits.is_floating_point():
        found = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise PactlError(
            f"--model-name {name} gives {found} for {examples} examples",
            f"it must give a tensor of logits of shape ({examples}, {classes})",
        )
    return logits


def agree(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors of logits, shape (m, classes), are equal up to `TOLERANCE`.

    The tolerance is relative to each example's largest logit. An example whose logits overflow in both counts as equal,
    as rounding decides what overflows.
    """
    usual = [(logits.abs() < _HUGE).all(1) for logits in (one, other)]
    if not torch.equal(*usual):
        return False
    one, other = one[usual[0]], other[usual[0]]
    return bool(((one - other).abs() <= TOLERANCE * one.abs().amax(1, keepdim=True)).all())
