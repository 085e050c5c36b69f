"""A network's initial weights, from a seed, the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pactl_cli.certificate import streams
from pactl_cli.errors import PactlError


class _PortableDraws(TorchDispatchMode):
    """Answers torch's in-place `normal_` and `uniform_` from our own streams.

    Every initialiser of `torch.nn.init`, and so every network written with it, draws
    through these two operations. Any other random operation would differ between
    releases and devices, and is refused.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seed = seed
        self._draws = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spares the two seconds that torch takes to import its compiler, of which nothing here is used."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        target: Tensor = args[0]
        stream = f"initialisation/{self._draws}"
        self._draws += 1
        if func is torch.ops.aten.uniform_.default:
            low, high = (*args[1:3], 0.0, 1.0)[:2] if len(args) == 3 else (0.0, 1.0)
            values = low + (high - low) * streams.uniforms(self._seed, stream, target.numel())
        elif func is torch.ops.aten.normal_.default:
            mean, std = args[1:3] if len(args) == 3 else (0.0, 1.0)
            values = mean + std * streams.gaussians(self._seed, stream, target.numel())
        else:
            raise PactlError(
                f"the network's initialisation draws through {func}, which is not the same on every machine",
                "use torch.nn.init's normal and uniform initialisers",
            )
        return target.copy_(torch.from_numpy(values).view(target.shape))


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The network that `build` constructs, its weights drawn from `seed`, on the CPU in float32.

    Raises:
        PactlError: if construction draws random numbers otherwise than by `normal_` or `uniform_`.
    """
    with torch.device("cpu"), _PortableDraws(seed):
        return build().float()
