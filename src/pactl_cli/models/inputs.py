"""What a network takes: a tensor or a mapping of tensors, and the specification of one example of them."""

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
"""m examples: one tensor, shape (m, ...), or several by name."""

IMAGE, FEATURES, TOKENS, MAPPING = "image", "features", "tokens", "mapping"
ONLY = "inputs"
"""What the only tensor is called in a specification."""

_INTEGERS = (torch.int64, torch.int32, torch.bool)
_TYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.uint8, torch.float32, torch.float64, *_INTEGERS)}
_MOST_TENSORS, _LARGEST_RANK, _LONGEST_NAME = 32, 4, 200
_LARGEST_SIDE, _MOST_VALUES = 1 << 16, 1 << 28
MOST_TOKENS = 1 << 24
"""A vocabulary of so many tokens is larger than any."""


def change(inputs: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    """Return inputs with a function applied to every tensor."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    return {name: function(tensor) for name, tensor in inputs.items()}


def count_inputs(inputs: Inputs) -> int:
    """Return how many examples there are."""
    return len(inputs if isinstance(inputs, Tensor) else next(iter(inputs.values())))


def select(inputs: Inputs, indices: Tensor | slice) -> Inputs:
    """Return some of the examples."""
    return change(inputs, lambda tensor: tensor[indices])


@dataclass(frozen=True)
class TensorSpec:
    """The shape of one example's tensor, and the type of its numbers."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class InputSpec:
    """What one example is.

    Attributes:
        kind: `image`, of shape (C, H, W); `features`, of shape (F,), bytes or floating-point numbers; `tokens`,
            integers of shape (L,); or `mapping`.
        tensors: the tensors of a mapping by name, in the order of their names, or the only one.
        vocabulary: how many tokens there are, which are numbered from 0; None where that is not known.

    Raises:
        ValueError: if the tensors are not of the kind, or anything else has a vocabulary.
    """

    kind: str
    tensors: tuple[tuple[str, TensorSpec], ...]
    vocabulary: int | None = None

    def __post_init__(self) -> None:
        if any(tensor.dtype not in _TYPES.values() or min(tensor.shape, default=1) < 1 for _, tensor in self.tensors):
            raise ValueError("inputs are of no type or size that is known")
        names = [name for name, _ in self.tensors]
        if self.kind == MAPPING:
            if not names or names != sorted(set(names)):
                raise ValueError("a mapping needs tensors, by names in order")
        elif names != [ONLY] or self.kind != _kind(self.tensors[0][1]):
            raise ValueError(f"such inputs are no {self.kind}")
        if self.vocabulary is not None and (self.kind != TOKENS or not 0 < self.vocabulary <= MOST_TOKENS):
            raise ValueError("inputs have a vocabulary that cannot be theirs")

    @classmethod
    def of(cls, inputs: Inputs, vocabulary: int | None = None) -> Self:
        """Return the specification of examples that are at hand, and, if they are tokens, of so many.

        Raises:
            ValueError: if there is none for them.
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
        """Return the specification that `as_dict` wrote, perhaps a stranger's.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: if it is none, or larger than any.
        """
        tensors = []
        for name, tensor in values["tensors"].items():
            shape = tuple(tensor["shape"])
            if len(shape) > _LARGEST_RANK or any(type(size) is not int or size < 1 for size in shape):
                raise ValueError("its inputs have no size")
            if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
                raise ValueError("its inputs have no name")
            tensors.append((name, TensorSpec(shape, _TYPES[tensor["dtype"]])))
        vocabulary = values.get("vocabulary")
        if vocabulary is not None and type(vocabulary) is not int:
            raise ValueError("its vocabulary has no size")
        spec = cls(str(values["kind"]), tuple(sorted(tensors, key=lambda row: row[0])), vocabulary)
        is_large = max(spec.image_shape) > _LARGEST_SIDE if spec.kind == IMAGE else spec.values > _MOST_VALUES
        if is_large or len(tensors) > _MOST_TENSORS:
            raise ValueError("its inputs are larger than any")
        return spec

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        types = {dtype: name for name, dtype in _TYPES.items()}
        rows = {name: {"shape": list(spec.shape), "dtype": types[spec.dtype]} for name, spec in self.tensors}
        known = {} if self.vocabulary is None else {"vocabulary": self.vocabulary}
        return {"kind": self.kind, "tensors": rows, **known}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image.

        Raises:
            ValueError: if it is none.
        """
        if self.kind != IMAGE:
            raise ValueError("it takes images")
        channels, height, width = self.tensors[0][1].shape
        return channels, height, width

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width of an image; nothing of anything else."""
        return self.image_shape[1:] if self.kind == IMAGE else ()

    @property
    def channels(self) -> int:
        """Those of an image; 1 of anything else."""
        return self.image_shape[0] if self.kind == IMAGE else 1

    @property
    def is_image_of_bytes(self) -> bool:
        """Whether it is an image whose pixels are bytes."""
        return self.kind == IMAGE and self.tensors[0][1].dtype == torch.uint8

    @property
    def values(self) -> int:
        """How many numbers one example has."""
        return sum(prod(tensor.shape) for _, tensor in self.tensors)

    @property
    def size_bytes(self) -> int:
        """What one example takes."""
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
        """Return examples that are the same everywhere, whatever they mean.

        Floating-point numbers lie in -1 .. 1, bytes are any, and integers are 0 or 1, which every vocabulary has.

        Args:
            stream: the name of the random numbers.
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
        """Return inputs with these names, each tensor made from its specification."""
        made = {name: make(name, spec) for name, spec in self.tensors}
        return made if self.kind == MAPPING else made[ONLY]


def _kind(tensor: TensorSpec) -> str:
    """Return what examples of one tensor are.

    Raises:
        ValueError: if they are nothing that is known.
    """
    if len(tensor.shape) == 3:
        return IMAGE
    if len(tensor.shape) != 1:
        raise ValueError(f"one tensor of shape (n, {', '.join(map(str, tensor.shape))}) is no kind of inputs")
    return TOKENS if tensor.dtype in _INTEGERS else FEATURES
