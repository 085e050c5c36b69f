"""The seeds of torch's own generators, for the randomness within a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(stream: int, device: torch.device) -> Iterator[None]:
    """Seed torch's own generators, of the CPU and of a device, and restore them when the context ends.

    Before CUDA is in use, `torch.manual_seed` records the stack of calls, which takes longer than a step of a small
    network; `torch.random.fork_rng` would visit every GPU.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    if device.type == "mps":  # whose generator has no public name
        torch.mps.manual_seed(stream % 2**63)
    before = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(stream % 2**63)
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)
