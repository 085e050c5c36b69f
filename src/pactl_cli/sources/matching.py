"""The matching of a file's weights with a network: their names, their types, and their head."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from pactl_cli.errors import PactlError, on_one_line, quoted
from pactl_cli.models.layers import find_head, head_names
from pactl_cli.sources.weights import Weights

_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
"""Prefixes that wrappers of a network put before every name."""
_NO_WEIGHTS = re.compile(
    r"(^|\.)(AuxLogits|aux\w*)\.|(^|\.)(num_batches_tracked|relative_position_index|attn_mask|position_ids)$"
)
"""Auxiliary heads, counters and constants: they are left out if the network has no place for them."""
_COUNTER, _STATISTICS = "num_batches_tracked", ("running_mean", "running_var")
_MOST = 100_000
"""The largest number of classes or channels."""

Sketch = Callable[[int, int], nn.Module]
"""A function of the numbers of classes and channels that returns a network, perhaps on the meta device."""
Shapes = dict[str, torch.Size]


@dataclass(frozen=True)
class Match:
    """Weights with the names and types of a network.

    Attributes:
        tensors: all parameters and buffers, except those of a head that has to be drawn anew.
        classes: the number of classes of the head.
        channels: the number of channels of the images; None if it is not known.
        head: the names of the head's parameters.
        notes: what was done, one line each.
    """

    tensors: dict[str, Tensor]
    classes: int
    channels: int | None
    head: tuple[str, ...]
    notes: tuple[str, ...]


def match(weights: Weights, sketch: Sketch, whose: str, head: str | None) -> Match:
    """Return weights that fit a network, which is built for the classes and channels that the weights are for.

    Args:
        weights: the weights, as a file has them.
        sketch: the function that builds the network.
        whose: the network, in words.
        head: the layer that gives the logits. None finds the layers that depend on the number of classes, or the last.

    Raises:
        PactlError: if the weights do not fit the network, or there is no such head.
    """
    few, more = sketch(2, 3), _shapes(sketch(3, 3))
    tensors, notes = _unwrapped(weights, few.state_dict().keys())
    names = _head(few, more, head, whose)
    classes = _scaled(tensors, names, 2, _shapes(few), more)
    if classes is None and (own := tensors.get(names[0])) is not None and own.ndim and _shapes(few) == more:
        classes = len(own)
    channels = _channels(tensors, sketch, few)
    network = sketch(classes or 2, channels or 3)
    if classes is None:
        inside = {name.rpartition(".")[0] for name in names}
        tensors = {name: t for name, t in tensors.items() if not inside & {name, *_places(name)}}
        notes.append(f"{weights.origin} have no head that fits {', '.join(sorted(inside))}: it is drawn from the seed")
    tensors = _loaded(network, tensors, weights, whose, names)
    return Match(tensors, classes or 2, channels, names, tuple(notes))


def _shapes(network: nn.Module) -> Shapes:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def _places(name: str) -> Iterator[str]:
    """Yield the names of the layers that contain a parameter, the innermost first."""
    while name := name.rpartition(".")[0]:
        yield name


def _unwrapped(weights: Weights, expected: Iterable[str]) -> tuple[dict[str, Tensor], list[str]]:
    """Return tensors with the prefix of their names removed or added that fits the network best, and notes."""
    expected = set(expected)
    additions = sorted({name.partition(".")[0] + "." for name in expected if "." in name})
    candidates = list(_without_prefixes(weights.tensors, 3))
    candidates += [{prefix + name: t for name, t in some.items()} for some in candidates for prefix in additions]
    best = max(candidates, key=lambda some: len(some.keys() & expected))
    notes = [weights.note] if weights.note else []
    if left := len(weights.tensors) - len(best):
        notes.append(f"{weights.origin}: {left:,} of {len(weights.tensors):,} tensors are outside of the network")
    return best, notes


def _without_prefixes(tensors: dict[str, Tensor], most: int) -> Iterator[dict[str, Tensor]]:
    """Yield tensors as they are, then those with a prefix, without it; at most `most` prefixes are removed."""
    yield tensors
    for prefix in _PREFIXES if most else ():
        if inner := {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}:
            yield from _without_prefixes(inner, most - 1)


def _head(network: nn.Module, more: Shapes, named: str | None, whose: str) -> tuple[str, ...]:
    """Return the names of the head's parameters.

    Args:
        more: the shapes of the same network for another number of classes.
        named: the layer that the user names; None if there is none.

    Raises:
        PactlError: if there is no head, or none of this name.
    """
    shapes, parameters = _shapes(network), dict(network.named_parameters())
    grown = tuple(name for name in parameters if shapes[name] != more.get(name))
    layers = {place for name in grown for place in _places(name)}
    if named is None:
        if not (grown or head_names(network)):
            raise PactlError(f"{whose} has no head: no layer of it gives logits", "name it with --head LAYER")
        return grown or head_names(network)
    inside = [name for name in parameters if named in _places(name)]
    if inside and (not grown or named in layers):
        last = [f"{named}.{name}".rstrip(".") for name, _ in find_head(network.get_submodule(named))]
        return tuple(
            sorted(inside, key=lambda name: (name.rpartition(".")[0] not in last, not name.endswith("weight")))
        )
    known = sorted(layers or {place for name in parameters for place in _places(name)})
    near = get_close_matches(named, known, 3)
    why = "its size does not follow the number of classes" if inside else f"{whose} has no such layer"
    raise PactlError(f"--head {named}: {why}", f"choose from {', '.join(near or known[:3])}, or leave it out")


def _scaled(tensors: dict[str, Tensor], names: Iterable[str], few: int, small: Shapes, large: Shapes) -> int | None:
    """Return the number of classes, or of channels, that tensors are for; None if their sizes do not tell.

    Args:
        names: the tensors to look at.
        few: the number that the shapes `small` are for.
        large: shapes for a larger number: the sizes that differ are proportional to the number.
    """
    for name in names:
        own = tensors[name].shape if name in tensors else ()
        if len(own) == len(small[name]) == len(large.get(name, ())):
            for size, less, more in zip(own, small[name], large[name], strict=True):
                if less != more and 0 < size * few // less <= _MOST and size * few % less == 0:
                    return size * few // less
    return None


def _channels(tensors: dict[str, Tensor], sketch: Sketch, coloured: nn.Module) -> int | None:
    """Return the number of channels of the images that weights are for; None if nothing tells."""
    try:
        grey = _shapes(sketch(2, 1))
    except PactlError:  # the network may take colour images only
        grey = {}
    colour = _shapes(coloured)
    names = [name for name, shape in grey.items() if shape != colour.get(name)]
    if found := _scaled(tensors, names, 1, grey, colour):
        return found
    layers = [layer for layer in coloured.modules() if isinstance(layer, nn.Conv2d)]
    return layers[0].in_channels if layers else None


def _loaded(
    network: nn.Module, tensors: dict[str, Tensor], weights: Weights, whose: str, head: tuple[str, ...]
) -> dict[str, Tensor]:
    """Return weights with the names and types of a network; its own loading translates older names.

    Raises:
        PactlError: if they do not fit it.
    """
    expected = dict(network.state_dict())
    same: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):  # a file may have one of two tied weights
        other = same.setdefault(id(parameter), name)
        for one, twin in ((name, other), (other, name)):
            if one in tensors and twin not in tensors:
                tensors = tensors | {twin: tensors[one]}
    tensors = tensors | dict(_in_types(tensors, expected))
    misfits = [
        f"{name} is {_form(tensor)}, not {_form(expected[name])}"
        for name, tensor in tensors.items()
        if name in expected and _form(tensor) != _form(expected[name])
    ]
    state = OrderedDict(tensors)
    forms = {"": {"version": getattr(network, "_version", 1)}} | weights.forms
    state._metadata = forms  # type: ignore[attr-defined]
    if not misfits:
        try:
            found = network.load_state_dict(state, strict=False, assign=True)
        except Exception as error:  # the user's own code may raise anything
            misfits = [on_one_line(str(error))[:200]]
        else:
            misfits = _unmatched(network, tensors, found.missing_keys, found.unexpected_keys, head)
    if misfits:
        said = "; ".join(misfits[:2])
        taken = weights.note and "; " + weights.note.removeprefix(f"{weights.origin}: ")
        hint = "give the weights of this network" + taken
        raise PactlError(f"{weights.origin} are not those of {whose}: {said}", hint)
    _require_finite(network, tensors.keys(), weights)
    kept = {name: tensor for name, tensor in network.state_dict().items() if name in tensors or name not in head}
    zero = torch.tensor(0)
    return {name: (zero if name.endswith(_COUNTER) and t.is_meta else t).detach() for name, t in kept.items()}


def _in_types(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield floating-point weights in a network's types, if their shape is right: a few bytes can claim any shape."""
    for name, tensor in tensors.items():
        there = expected.get(name)
        fits = there is not None and there.shape == tensor.shape and tensor.is_floating_point()
        if there is not None and fits and (there.is_floating_point() or name.endswith(_COUNTER)):
            yield name, tensor.to(there.dtype)


def _unmatched(
    network: nn.Module, tensors: dict[str, Tensor], missing: list[str], unexpected: list[str], head: tuple[str, ...]
) -> list[str]:
    """Return in words which weights are missing or have no place in the network, with the nearest name."""
    made = {name for name, buffer in network.named_buffers() if not buffer.is_meta and not name.endswith(_STATISTICS)}
    missing = [name for name in missing if name not in made | set(head) and not name.endswith(_COUNTER)]
    unexpected = [name for name in unexpected if not _NO_WEIGHTS.search(name)]
    return [
        *(f"it has no place for {quoted(name)}{_nearest(name, missing)}" for name in unexpected[:1]),
        *(f"{name} is missing{_nearest(name, unexpected or tensors)}" for name in missing[:1]),
    ]


def _require_finite(network: nn.Module, names: Container[str], weights: Weights) -> None:
    """Raise PactlError if a network has taken a number from weights that is not finite."""
    for name, tensor in network.state_dict().items():
        if name in names and tensor.is_floating_point() and not tensor.is_meta and not tensor.isfinite().all():
            raise PactlError(f"{weights.origin}: {name} has numbers that are not finite", "give other weights")


def _nearest(name: str, others: Iterable[str]) -> str:
    """Return the most similar name, in brackets; "" if there is none."""
    near = get_close_matches(name, others, 1, 0.4)
    return f" (nearest: {quoted(near[0])})" if near else ""


def _form(tensor: Tensor) -> str:
    """Return the type and shape of a tensor in words."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
