"""Inputs of a network, a tensor or a mapping of tensors, and the specification of one example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from textwrap import shorten
from typing import Any, Self

import torch
from torch import Tensor

from pactl_cli import randomness
from pactl_cli.certificate.format import DEFAULT_SEED

Inputs = Tensor | Mapping[str, Tensor]
"""m examples: one tensor, shape (m, ...), or several tensors by name."""

IMAGE, FEATURES, TOKENS, MAPPING = "image", "features", "tokens", "mapping"
ONLY = "inputs"
"""The name of the only tensor in a specification."""

_INTEGERS = (torch.int64, torch.int32, torch.bool)
_TYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.uint8, torch.float32, torch.float64, *_INTEGERS)}
_MOST_TENSORS, _LARGEST_RANK, _LONGEST_NAME = 32, 4, 200
_LARGEST_SIDE, _MOST_VALUES = 1 << 16, 1 << 28
MOST_TOKENS = 1 << 24
"""The size of the largest vocabulary."""


def change(inputs: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    """Return inputs with a function applied to every tensor."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    return {name: function(tensor) for name, tensor in inputs.items()}


def count_inputs(inputs: Inputs) -> int:
    """Return the number of examples."""
    return len(inputs if isinstance(inputs, Tensor) else next(iter(inputs.values())))


def select(inputs: Inputs, indices: Tensor | slice) -> Inputs:
    """Return some of the examples."""
    return change(inputs, lambda tensor: tensor[indices])


@dataclass(frozen=True)
class TensorSpec:
    """The shape of one example's tensor, and the type of its numbers."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.shape))} numbers of type {str(self.dtype).removeprefix('torch.')}"


@dataclass(frozen=True)
class InputSpec:
    """The specification of one example.

    Attributes:
        kind: `image`, of shape (C, H, W); `features`, of shape (F,), bytes or floating-point numbers; `tokens`,
            integers of shape (L,); or `mapping`.
        tensors: the tensors of a mapping, sorted by name, or the only one.
        vocabulary: the number of different tokens, which are numbered from 0; None if it is not known.

    Raises:
        ValueError: if the tensors are not of the kind, or inputs other than tokens have a vocabulary.
    """

    kind: str
    tensors: tuple[tuple[str, TensorSpec], ...]
    vocabulary: int | None = None

    def __post_init__(self) -> None:
        if any(tensor.dtype not in _TYPES.values() or min(tensor.shape, default=1) < 1 for _, tensor in self.tensors):
            raise ValueError("inputs have an unknown type or size")
        names = [name for name, _ in self.tensors]
        if self.kind == MAPPING:
            if not names or names != sorted(set(names)):
                raise ValueError("a mapping needs tensors, with names in order")
        elif names != [ONLY] or self.kind != _kind(self.tensors[0][1]):
            raise ValueError(f"these inputs are not of kind {self.kind}")
        if self.vocabulary is not None and (self.kind != TOKENS or not 0 < self.vocabulary <= MOST_TOKENS):
            raise ValueError("inputs have an impossible vocabulary")

    @classmethod
    def of(cls, inputs: Inputs, vocabulary: int | None = None) -> Self:
        """Return the specification of examples; `vocabulary` is the number of different tokens, if that is known.

        Raises:
            ValueError: if they are of no known kind.
        """
        if isinstance(inputs, Tensor):
            tensor = TensorSpec(tuple(inputs.shape[1:]), inputs.dtype)
            return cls(_kind(tensor), ((ONLY, tensor),), vocabulary)
        tensors = {name: TensorSpec(tuple(tensor.shape[1:]), tensor.dtype) for name, tensor in inputs.items()}
        return cls(MAPPING, tuple(sorted(tensors.items())))

    @classmethod
    def image(cls, channels: int, height: int, width: int, dtype: torch.dtype = torch.uint8) -> Self:
        """Return the specification of images."""
        return cls(IMAGE, ((ONLY, TensorSpec((channels, height, width), dtype)),))

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Return the specification that `as_dict` wrote; the values may be a stranger's.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: if they are no specification, or one that is too large.
        """
        tensors = []
        for name, tensor in values["tensors"].items():
            shape = tuple(tensor["shape"])
            if len(shape) > _LARGEST_RANK or any(type(size) is not int or size < 1 for size in shape):
                raise ValueError("its inputs have no valid size")
            if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
                raise ValueError("its inputs have no valid name")
            tensors.append((name, TensorSpec(shape, _TYPES[tensor["dtype"]])))
        vocabulary = values.get("vocabulary")
        if vocabulary is not None and type(vocabulary) is not int:
            raise ValueError("its vocabulary has no valid size")
        spec = cls(str(values["kind"]), tuple(sorted(tensors, key=lambda row: row[0])), vocabulary)
        is_large = max(spec.image_shape) > _LARGEST_SIDE if spec.kind == IMAGE else spec.values > _MOST_VALUES
        if is_large or len(tensors) > _MOST_TENSORS:
            raise ValueError("its inputs are too large")
        return spec

    def as_dict(self) -> dict[str, Any]:
        """Return the specification as values for JSON."""
        types = {dtype: name for name, dtype in _TYPES.items()}
        rows = {name: {"shape": list(spec.shape), "dtype": types[spec.dtype]} for name, spec in self.tensors}
        known = {} if self.vocabulary is None else {"vocabulary": self.vocabulary}
        return {"kind": self.kind, "tensors": rows, **known}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image; ValueError for anything else."""
        if self.kind != IMAGE:
            raise ValueError("it takes images")
        channels, height, width = self.tensors[0][1].shape
        return channels, height, width

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width of an image; () for anything else."""
        return self.image_shape[1:] if self.kind == IMAGE else ()

    @property
    def channels(self) -> int:
        """The number of channels of an image; 1 for anything else."""
        return self.image_shape[0] if self.kind == IMAGE else 1

    @property
    def is_image_of_bytes(self) -> bool:
        """Whether it is an image whose pixels are bytes."""
        return self.kind == IMAGE and self.tensors[0][1].dtype == torch.uint8

    @property
    def values(self) -> int:
        """The number of values in one example."""
        return sum(prod(tensor.shape) for _, tensor in self.tensors)

    @property
    def size_bytes(self) -> int:
        """The size of one example."""
        return sum(prod(tensor.shape) * tensor.dtype.itemsize for _, tensor in self.tensors)

    def __str__(self) -> str:
        if self.kind == MAPPING:
            return shorten(f"a mapping of {', '.join(name for name, _ in self.tensors)}", 160)
        sizes = " x ".join(map(str, self.tensors[0][1].shape))
        return {
            IMAGE: f"images of {sizes}",
            FEATURES: f"{sizes} features",
            TOKENS: f"sequences of {sizes} integers",
        }[self.kind]

    def sketch(self) -> Inputs:
        """Return one example without numbers, in single precision, on the meta device."""
        return self._made(lambda name, spec: torch.empty(1, *spec.shape, device="meta"))

    def zeros(self) -> Inputs:
        """Return one example of zeros, in single precision."""
        return self._made(lambda name, spec: torch.zeros(1, *spec.shape))

    def fixed_inputs(self, count: int, stream: str) -> Inputs:
        """Return random examples that are the same on every machine.

        Floating-point numbers lie in -1 .. 1, bytes in 0 .. 255, and integers are 0 or 1, which every vocabulary has.

        Args:
            count: the number of examples.
            stream: the name of the stream of random numbers.
        """

        def draw(name: str, spec: TensorSpec) -> Tensor:
            shape = (count, *spec.shape)
            own = stream if self.kind != MAPPING else f"{stream}/{name}"
            if spec.dtype.is_floating_point:
                values = 2 * randomness.uniforms(DEFAULT_SEED, own, prod(shape)) - 1
                return torch.from_numpy(values).to(spec.dtype).view(shape)
            below = 256 if spec.dtype == torch.uint8 else 2
            integers = randomness.integers(DEFAULT_SEED, own, prod(shape), below)
            return torch.from_numpy(integers).to(spec.dtype).view(shape)

        return self._made(draw)

    def _made(self, make: Callable[[str, TensorSpec], Tensor]) -> Inputs:
        """Return inputs, each tensor made from its name and specification."""
        made = {name: make(name, spec) for name, spec in self.tensors}
        return made if self.kind == MAPPING else made[ONLY]


def _kind(tensor: TensorSpec) -> str:
    """Return the kind of examples of one tensor; raise ValueError if there is none."""
    if len(tensor.shape) == 3:
        return IMAGE
    if len(tensor.shape) != 1:
        raise ValueError(f"one tensor of shape (n, {', '.join(map(str, tensor.shape))}) is no kind of inputs")
    return TOKENS if tensor.dtype in _INTEGERS else FEATURES
