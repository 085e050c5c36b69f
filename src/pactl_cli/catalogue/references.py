"""References with a colon: `scheme:name`, the user's own `module:function`, or a path."""

from __future__ import annotations

from typing import NamedTuple

CODE = "module:function"
"""The scheme of a reference to code."""


class Reference(NamedTuple):
    """A scheme and the name after it; "" and the text for a plain name or a path; `CODE` and the text for code."""

    scheme: str
    name: str


def parse_reference(text: str, schemes: frozenset[str]) -> Reference:
    """Return the reference in a text: `scheme:name` for one of the schemes, else code, else a plain name or a path.

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
