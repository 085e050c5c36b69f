"""Objects that the user hands over from Python: in settings and files each is `python:NAME`, and never itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_SCHEME = "python:"
NETWORK = "the network"
"""The key of what stands for every network that a run knows by a name of Python: an object, or `module:function`."""

_HANDED: ContextVar[Mapping[str, Any]] = ContextVar("handed")


@contextmanager
def handing_over(objects: Mapping[str, Any]) -> Iterator[None]:
    """For the time of a piece of work, names stand for objects, in this thread alone; those of another no longer do."""
    token = _HANDED.set(objects)
    try:
        yield
    finally:
        _HANDED.reset(token)


def handed_over(*names: str) -> Any:
    """Return the object of the first of some names that stands for one; None if none does."""
    objects = _HANDED.get({})
    return next((objects[name] for name in names if objects.get(name) is not None), None)


def is_handed(name: str | None) -> bool:
    """Return whether a name is that of an object of Python."""
    return name is not None and name.startswith(_SCHEME)


def name_of(kind: str) -> str:
    """Return the name of an object that is called, or of a kind that is called, in some way.

    >>> print(name_of("TensorDataset"), name_of("<lambda>"))
    python:TensorDataset python:lambda
    """
    letters = "".join(letter if letter.isascii() and (letter.isalnum() or letter == "_") else " " for letter in kind)
    word = "_".join(letters.split())
    return f"{_SCHEME}{word if word.isidentifier() else 'object'}"
