"""The user's own network, `module:function`: code that is brought, never sent."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module, invalidate_caches
from pathlib import Path
from sysconfig import get_path
from textwrap import shorten
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pactl_cli import catalogue
from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.certificate.task import Brought
from pactl_cli.errors import FAILED, MissingError, PactlError
from pactl_cli.models.initialisation import seeded
from pactl_cli.models.normalisation import batch_norms

_COLOURS = re.compile("\x1b\\[[0-9;]*m")
_INSTALLED = ("<", str(Path(__file__).parents[1]), *(get_path(name) for name in ("stdlib", "purelib", "platlib")))
"""How the names of files begin that are not of the user's own code."""


class NetworkFailedError(PactlError):
    """What the user's network raised while it worked: an input that it cannot take need not be among the first."""

    def __init__(self, name: str, inputs: object, error: Exception) -> None:
        self.cause = error
        hint = "it must take every example of the data, the test set included"
        super().__init__(f"--model-name {name} fails on {inputs}: {described(error)}", hint, FAILED)


def brought_network(name: str, *, classes: int, channels: int, seed: int) -> nn.Module:
    """What the function `name`, called with the numbers of classes and channels, returns, drawn from `seed`.

    Raises:
        MissingError: if there is no such module or function.
        PactlError: if it fails, or returns something that cannot be trained and sent.
    """
    with at_home():
        function = find_code("--model-name", name, catalogue.NETWORK)
        try:
            network = seeded(lambda: _require_network(name, function(classes, channels)), seed)
        except PactlError as error:
            raise PactlError(f"--model-name {name}: {error.message}", error.hint) from error
        except (Exception, SystemExit) as error:
            raise PactlError(
                f"--model-name {name} fails when it is called with {classes} classes and {channels} channels: "
                f"{described(error)}",
                "write it as function(classes, channels)",
            ) from error
    return network


def describe(name: str, *, classes: int, channels: int) -> Brought:
    """What a header's code has to know of it.

    Raises:
        PactlError: if it cannot be built, or not twice alike: a receiver could not build it either.
    """
    networks = [brought_network(name, classes=classes, channels=channels, seed=DEFAULT_SEED) for _ in range(2)]
    first, second = (dict([*network.named_parameters(), *network.named_buffers()]) for network in networks)
    if networks[0] is networks[1] or {id(tensor) for tensor in first.values()} & set(map(id, second.values())):
        raise PactlError(
            f"--model-name {name} returns the same network, or the same weights, at every call",
            "construct the network inside the function",
        )
    if first.keys() != second.keys() or not all(_is_same(first[key], second[key]) for key in first):
        raise PactlError(
            f"--model-name {name} constructs another network at every call",
            "draw its weights with torch.nn.init, and keep no state outside of it",
        )
    return Brought(name, batch_statistics=bool(batch_norms(networks[0])))


def described(error: BaseException) -> str:
    """An error of code that is not ours, in a few words, and the line of the user's own code that led to it."""
    if isinstance(error, NetworkFailedError):
        error = error.cause
    words = shorten(_COLOURS.sub("", f"{type(error).__name__}: {error}"), 240, placeholder=" ...")
    own = [
        f" ({os.path.relpath(name) if name.startswith(os.getcwd() + os.sep) else name}, line {line})"
        for name, line in ((frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__))
        if not name.startswith(_INSTALLED)
    ]
    return f"{words}{own[-1] if own else ''}"


@contextmanager
def at_home() -> Iterator[None]:
    """The user's modules are found as `python` would find them, and what they print is no data."""
    place = os.getcwd()
    sys.path.insert(0, place)
    invalidate_caches()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if place in sys.path:
            sys.path.remove(place)


def find_code(option: str, name: str, else_named: str = "") -> Callable[..., Any]:
    """The user's function itself; or, of a name of Python, what was handed over, or is named in its place.

    Args:
        option: with which it is named, for messages.
        else_named: the key of what stands for every name of Python.

    Raises:
        MissingError: if there is none.
    """
    if catalogue.is_handed(name):
        handed = catalogue.handed_over(name, else_named)
        if callable(handed):
            return handed  # type: ignore[no-any-return]
        if handed is None or catalogue.is_handed(handed):
            raise MissingError(f"{option} {name} stands for an object of Python", f"name it: {option} MODULE:FUNCTION")
        name = handed
    module_name, _, function_name = name.partition(":")
    try:
        module = import_module(module_name)
    except (Exception, SystemExit) as error:
        raise MissingError(
            f"{option} {name} cannot be imported: {described(error)}",
            "run pactl where the module lies, or install it",
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        place = getattr(module, "__file__", None) or module_name
        raise MissingError(f"{option} {name}: there is no function {function_name} in {place}")
    return function  # type: ignore[no-any-return]


def _require_network(name: str, network: object) -> nn.Module:
    """The network, if it is one whose every weight is a number of single precision on the CPU, or can be."""
    if not isinstance(network, nn.Module):
        raise PactlError(f"it returns {type(network).__name__}, not a torch.nn.Module")
    for kind, tensors in (("parameter", network.named_parameters()), ("buffer", network.named_buffers())):
        for key, tensor in tensors:
            if is_lazy(tensor):
                raise PactlError(f"its {kind} {key} has no size yet", "use layers that are not lazy")
            if tensor.device.type != "cpu":
                raise PactlError(
                    f"its {kind} {key} is on {tensor.device}", "construct it on the CPU: --device moves it"
                )
            if kind == "parameter" and not tensor.is_floating_point():
                raise PactlError(f"its parameter {key} is of {tensor.dtype}", "use floating-point parameters")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise PactlError("it has no parameters to train")
    if any(isinstance(layer, nn.SyncBatchNorm) for layer in network.modules()):
        raise PactlError("it has SyncBatchNorm, whose statistics depend on how many processes there are")
    return network


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Equal, bit for bit."""
    one, other = one.detach().contiguous(), other.detach().contiguous()
    return (
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))
    )
