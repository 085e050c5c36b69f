"""What a name with a colon stands for: `scheme:name`, the user's own `module:function`, or a path."""

from __future__ import annotations

from typing import NamedTuple

CODE = "module:function"
"""The scheme of a reference to code."""


class Reference(NamedTuple):
    """The scheme, "" for a plain name or a path, and the name without it; of code, all of it."""

    scheme: str
    name: str


def parse_reference(text: str, schemes: frozenset[str]) -> Reference:
    """Return what a text refers to: `scheme:name` for one of the schemes, else code, else a plain name or a path.

    >>> parse_reference("torchvision:resnet18", frozenset({"torchvision"}))
    Reference(scheme='torchvision', name='resnet18')
    >>> parse_reference("nets.small:make", frozenset()).scheme
    'module:function'
    >>> parse_reference("runs/a:b", frozenset()).scheme
    ''
    """
    scheme, colon, name = text.partition(":")
    if colon and scheme in schemes:
        return Reference(scheme, name)
    is_code = name.isidentifier() and all(part.isidentifier() for part in scheme.split("."))
    return Reference(CODE if is_code else "", text)
