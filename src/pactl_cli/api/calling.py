"""Calls of stages from Python: give names to objects, translate errors, and leave no global state changed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import Any

import torch

from pactl_cli import catalogue
from pactl_cli.api.keywords import in_words_of_python
from pactl_cli.errors import INTERRUPTED, PactlError, StoppedError

_ONE_AT_A_TIME = RLock()
"""A call changes the precision, the initialisers of `torch.nn` and stdout for the whole process until it returns."""
_KINDS = {"tuple": "arrays", "dict": "arrays", "list": "examples"}
_LISTS = ("levels", "delta", "rate_weight")
"""Settings that are a list in Python and comma-separated text on the command line."""


@contextmanager
def calling() -> Iterator[dict[str, Any]]:
    """Run a stage for a Python caller; yield a dictionary in which to put objects under the names that stand for them.

    Calls from several threads wait for one another.

    Raises:
        PactlError: with keywords in place of options.
        KeyboardInterrupt: if the stage was interrupted; what `resume=True` needs is saved.
    """
    objects: dict[str, Any] = {}
    with _ONE_AT_A_TIME, catalogue.handing_over(objects), _as_in_a_program():
        try:
            yield objects
        except PactlError as error:
            if isinstance(error, StoppedError) and error.exit_code == INTERRUPTED:
                raise KeyboardInterrupt(error.message) from error
            raise in_words_of_python(error) from error.__cause__


@contextmanager
def _as_in_a_program() -> Iterator[None]:
    """Set the caller's autocast, inference mode, default device and default type aside for the time of the context."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with ExitStack() as aside:
            for each in (torch.inference_mode(False), torch.enable_grad()):
                aside.enter_context(each)
            for device in ("cpu", "cuda"):
                aside.enter_context(torch.autocast(device, enabled=False))
            if torch.get_default_device().type != "cpu":
                aside.enter_context(torch.device("cpu"))
            yield
    finally:
        torch.set_default_dtype(usual)


def with_names(given: Mapping[str, Any], objects: dict[str, Any]) -> dict[str, Any]:
    """Return settings with names in place of objects, and put the objects under these names into `objects`.

    Args:
        given: keyword arguments; None counts as not given. `test` is the test set of `dataset`.

    Raises:
        PactlError: if `test` comes without a dataset that is an object, or a network cannot be used.
    """
    plain = {name: _plain(name, value) for name, value in given.items() if value is not None}
    test = plain.pop("test", None)
    for name, suffix in (("dataset", ""), ("source_dataset", "_of_source")):
        data = plain.get(name)
        if data is None or isinstance(data, str):
            continue
        kind = type(data).__name__
        plain[name] = catalogue.name_of(_KINDS.get(kind, kind) + suffix)
        objects[plain[name]] = data
    if test is not None:
        if plain.get("dataset") not in objects:
            raise PactlError("test needs a dataset that is an object too", "leave it out")
        objects[plain["dataset"]] = {"train": objects[plain["dataset"]], "test": test}
    for name in ("groups", "cost"):
        if not isinstance(values := plain.get(name, ""), str):
            plain[name] = catalogue.name_of(name)
            objects[plain[name]] = values
    for name in ("source", "model_name"):
        if not isinstance(network := plain.get(name, ""), str):
            plain[name] = _name_of_network(name, network)
            if objects.setdefault(catalogue.NETWORK, network) is not network:
                raise PactlError("source and model_name are two different networks", "leave model_name out")
            objects[plain[name]] = network
        elif name == "model_name" and network:
            objects.setdefault(catalogue.NETWORK, network)
    return plain


def _name_of_network(option: str, network: Any) -> str:
    """Return the name that stands for a network that is a function or a class."""
    if hasattr(network, "state_dict") and not isinstance(network, type):
        hint = "pass its class, or a function that makes it from the numbers of classes and channels"
        raise PactlError(f"{option} is a network with weights, which no receiver of the message has", hint)
    if not callable(network):
        raise PactlError(f"{option} is a {type(network).__name__}", "give a name, or a function that returns a network")
    return catalogue.name_of(getattr(network, "__name__", type(network).__name__))


def _plain(name: str, value: Any) -> Any:
    """Return a setting as the command line has it: a path as text, a list of numbers as comma-separated text."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return ",".join(map(str, value)) if name in _LISTS and isinstance(value, list | tuple) else value
