"""Objects that the user hands over from Python; settings and files refer to each as `python:NAME`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_SCHEME = "python:"
NETWORK = "the network"
"""The key of the network that the user hands over, or of its `module:function`, whatever name a run has recorded."""

_HANDED: ContextVar[Mapping[str, Any]] = ContextVar("handed")


@contextmanager
def handing_over(objects: Mapping[str, Any]) -> Iterator[None]:
    """Let names stand for objects, instead of any earlier ones, in this thread until the context ends."""
    token = _HANDED.set(objects)
    try:
        yield
    finally:
        _HANDED.reset(token)


def handed_over(*names: str) -> Any:
    """Return the object of the first name that stands for one; None if none does."""
    objects = _HANDED.get({})
    return next((objects[name] for name in names if objects.get(name) is not None), None)


def is_handed(name: str | None) -> bool:
    """Return True if a name stands for an object that was handed over from Python."""
    return name is not None and name.startswith(_SCHEME)


def name_of(kind: str) -> str:
    """Return the name that settings use for an object, from the name of the object or of its class.

    >>> print(name_of("TensorDataset"), name_of("<lambda>"))
    python:TensorDataset python:lambda
    """
    letters = "".join(letter if letter.isascii() and (letter.isalnum() or letter == "_") else " " for letter in kind)
    word = "_".join(letters.split())
    return f"{_SCHEME}{word if word.isidentifier() else 'object'}"
