"""Initial weights of a network from a seed, the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pactl_cli import randomness
from pactl_cli.errors import PactlError

_DRAWS = (torch.ops.aten.uniform_.default, torch.ops.aten.normal_.default)
"""The operations through which the initialisers of `torch.nn.init` draw."""


class UncompiledMode(TorchDispatchMode):
    """A dispatch mode for networks that are not compiled; torch then does not import its compiler for two seconds."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class _PortableDraws(UncompiledMode):
    """A dispatch mode in which torch's in-place `normal_` and `uniform_` draw from our own streams.

    The initialisers of `torch.nn.init` draw through these two operations. Any other random operation would differ
    between releases and devices, and is refused. `trunc_normal_` is replaced as a whole: how it draws depends on
    torch's release.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._draws = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        if func not in _DRAWS:
            raise PactlError(
                f"the network's initialisation draws through {func}, which is not the same on every machine",
                "use torch.nn.init's normal and uniform initialisers",
            )
        target: Tensor = args[0]
        first, second = list[float]([*args[1:], *(0.0, 1.0)[len(args) - 1 :]])  # torch leaves out trailing defaults
        if func is torch.ops.aten.uniform_.default:
            values = first + (second - first) * randomness.uniforms(self._seed, self._next_stream(), target.numel())
        else:
            values = first + second * randomness.gaussians(self._seed, self._next_stream(), target.numel())
        return target.copy_(torch.from_numpy(values).view(target.shape))

    def _next_stream(self) -> str:
        self._draws += 1
        return f"initialisation/{self._draws - 1}"

    @torch.no_grad()
    def truncated(
        self, tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, **_: Any
    ) -> Tensor:
        """Draw as `torch.nn.init.trunc_normal_` does."""
        bounds = (a - mean) / std, (b - mean) / std
        values = mean + std * randomness.truncated_gaussians(self._seed, self._next_stream(), tensor.numel(), *bounds)
        return tensor.copy_(torch.from_numpy(values).view(tensor.shape))


@contextmanager
def _answering(draws: _PortableDraws) -> Iterator[None]:
    """Within the context, let all of torch's initialisers draw from `draws`."""
    names = ("trunc_normal_", "_no_grad_trunc_normal_")  # a `trunc_normal_` that was imported by name calls the second
    before = {name: getattr(nn.init, name) for name in names if hasattr(nn.init, name)}
    try:
        for name in before:
            setattr(nn.init, name, draws.truncated)
        with draws:
            yield
    finally:
        for name, function in before.items():
            setattr(nn.init, name, function)


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return the network that `build` constructs, its weights drawn from `seed`, on the CPU in float32.

    Raises:
        PactlError: if construction draws random numbers other than by `normal_` or `uniform_`.
    """
    with torch.device("cpu"), _answering(_PortableDraws(seed)):
        return build().float()


class _NoStorage(TorchFunctionMode):
    """A mode in which `torch.empty`, from which layers make their weights, is on the meta device."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*args, **(kwargs or {}) | ({"device": "meta"} if func is torch.empty else {}))


class _NoDraws(UncompiledMode):
    """A mode that draws nothing for a tensor without storage; torch would import its compiler to do nothing."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if func in _DRAWS and args[0].is_meta else func(*args, **(kwargs or {}))


def sketched(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the network that `build` constructs, on the meta device: shapes without numbers, quickly."""
    with _NoDraws(), _NoStorage():
        return build().to("meta")
