"""What is random within a step: torch's own generators, from a number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(stream: int, device: torch.device) -> Iterator[None]:
    """Let torch's own generators, the processor's and a device's, start from a number; after it, they are as before.

    `torch.manual_seed` would write down the whole stack of calls at every step where CUDA is not in use, which takes
    longer than a step of a small network, and `torch.random.fork_rng` would visit every GPU.
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
