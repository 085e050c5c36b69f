"""What a name with a colon stands for: `scheme:name`, the user's own `module:function`, or a path."""

from __future__ import annotations

from dataclasses import dataclass

from pactl_cli.errors import PactlError


@dataclass(frozen=True)
class Reference:
    """A name, and what kind of thing it names.

    Attributes:
        scheme: of the schemes that were asked for; "" for a plain name or a path; `CODE` for the user's own code.
        name: without the scheme; of code, all of it.
    """

    scheme: str
    name: str


CODE = "module:function"
"""The scheme of a reference to code."""


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
    return Reference(CODE if is_code(text) else "", text)


def is_code(text: str) -> bool:
    """Return whether a text is `module:function`: names with dots between them, one colon, one name."""
    module, colon, function = text.partition(":")
    return bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def require_code(option: str, text: str) -> str:
    """Return a text that is `module:function`.

    Raises:
        PactlError: if it is not.
    """
    if not is_code(text):
        raise PactlError(f"{option} {text!r} is not a module and a function", "write MODULE:FUNCTION")
    return text
