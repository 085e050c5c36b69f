"""Networks by name, their weights drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from textwrap import shorten

from torch import nn

from pactl_cli import catalogue
from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.errors import PactlError
from pactl_cli.models.brought import brought_network
from pactl_cli.models.initialisation import seeded, sketched
from pactl_cli.models.inputs import IMAGE, MAPPING, InputSpec
from pactl_cli.models.size import outcome


def build_network(name: str, *, classes: int, inputs: InputSpec, width: int | None, seed: int) -> nn.Module:
    """Return a network on the CPU, its weights drawn from a seed.

    Args:
        name: a name of the catalogue, or the user's own `module:function`.
        classes: the number of classes of the data.
        inputs: the specification of an example.
        width: the base width; None for a network that has none.
        seed: the seed of the weights.

    Raises:
        PactlError: if the network cannot take such inputs, or the user's function cannot be used.
    """
    if catalogue.is_brought(name):
        return brought_network(name, classes=classes, channels=inputs.channels, seed=seed)
    return seeded(_builder(name, classes, inputs, width), seed)


def sketch_network(name: str, *, classes: int, inputs: InputSpec, width: int | None) -> nn.Module:
    """Return a network without numbers, on the meta device: this is quick whatever its size.

    Only the user's own network is built with numbers.

    Raises:
        PactlError: as `build_network` does.
    """
    if catalogue.is_brought(name):
        return build_network(name, classes=classes, inputs=inputs, width=width, seed=DEFAULT_SEED)
    return sketched(_builder(name, classes, inputs, width))


def _builder(name: str, classes: int, inputs: InputSpec, width: int | None) -> Callable[[], nn.Module]:
    """Return a function that constructs a network of the catalogue; raise PactlError if it cannot take the inputs."""
    if inputs.kind == MAPPING:
        raise PactlError(
            f"--model-name {name} takes one tensor, the data are {inputs}",
            "bring a network of your own: MODULE:FUNCTION",
        )
    row = catalogue.model_entry(name)
    build = partial(row.maker(), *row.arguments, classes, inputs, width)
    _require_fit(name, build, classes, inputs)
    return build


def _require_fit(name: str, build: Callable[[], nn.Module], classes: int, inputs: InputSpec) -> None:
    """Raise PactlError unless the network, without its weights, turns an example into logits."""
    try:
        logits = outcome(sketched(build).eval(), inputs)
        reason = "" if logits.shape == (1, classes) else f"it gives {tuple(logits.shape)}"
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error)
    if reason:
        raise PactlError(
            f"--model-name {name} cannot take {inputs}: {shorten(reason, 160)}",
            f"choose another network, such as {'resnet20 or ' if inputs.kind == IMAGE else ''}fc",
        )
