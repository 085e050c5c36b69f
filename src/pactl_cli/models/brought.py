"""The user's own network, `module:function`: a message names this code and does not contain it."""

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
"""Beginnings of the paths of files that are not the user's own code."""


class NetworkFailedError(PactlError):
    """An error that the user's network raised on some inputs after it had passed its trial on the first few."""

    def __init__(self, name: str, inputs: object, error: Exception) -> None:
        self.cause = error
        hint = "it must take every example of the data, the test set included"
        super().__init__(f"--model-name {name} fails on {inputs}: {described(error)}", hint, FAILED)


def brought_network(name: str, *, classes: int, channels: int, seed: int) -> nn.Module:
    """Return the network that the function `name` of classes and channels returns, its weights drawn from a seed.

    Raises:
        MissingError: if there is no such module or function.
        PactlError: if the function fails, or returns something that cannot be trained and certified.
    """
    with user_code():
        function = find_code("--model-name", name, catalogue.NETWORK)
        try:
            network = seeded(lambda: _require_network(function(classes, channels)), seed)
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
    """Return what the code of a message's header has to know of the user's own network.

    Raises:
        PactlError: if it cannot be built, or two calls do not build equal networks: a receiver could not build it.
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
    """Return a short description of an error in the user's code, with the line of that code that led to it."""
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
def user_code() -> Iterator[None]:
    """Within the context, import the user's modules from the working directory too, and send their prints to stderr."""
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
    """Return the user's function `module:function`; of an object handed over in Python, the object or its stand-in.

    Args:
        option: the option that names it, for messages.
        else_named: the key of the name that stands in for every object of Python.

    Raises:
        MissingError: if there is no such function.
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
            "run pactl in the module's directory, or install it",
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        place = getattr(module, "__file__", None) or module_name
        raise MissingError(f"{option} {name}: there is no function {function_name} in {place}")
    return function  # type: ignore[no-any-return]


def _require_network(network: object) -> nn.Module:
    """Return a network; raise PactlError unless its weights are floating-point numbers on the CPU, to be trained."""
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
    """Return whether two tensors are equal, bit for bit."""
    one, other = one.detach().contiguous(), other.detach().contiguous()
    return (
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))
    )
