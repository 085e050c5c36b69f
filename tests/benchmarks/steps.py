"""A training step in the subspace over the plain training step, for every projector.

python tests/benchmarks/steps.py [cpu|cuda]
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from pairs import compare, table
from torch import nn

from pactl_cli import catalogue
from pactl_cli.models import build_network
from pactl_cli.models.layers import parameter_layout
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.module import SubspaceModule

CASES = {"lenet5": (1, 28, 28), "layer13s": (3, 32, 32)}
DIM, BATCH, PAIRS, STEPS = 1000, 128, 15, 3


def stepper(module: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """A few steps of Adam on the trainable parameters of a module, on one batch."""
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 1e-4)

    def steps() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(module(images), labels).backward()
            optimizer.step()
        if images.is_cuda:
            torch.cuda.synchronize()

    return steps


def main(device: str = "cpu") -> None:
    for name, shape in CASES.items():
        images = torch.randn(BATCH, *shape, device=device)
        labels = torch.randint(10, (BATCH,), device=device)

        def network(name: str = name, shape: tuple[int, int, int] = shape) -> nn.Module:
            return build_network(name, classes=10, shape=shape, width=catalogue.MODELS[name].width, seed=137)

        plain = stepper(network().to(device), images, labels)
        rows = []
        for mode in catalogue.MODES:
            inner = network()
            projector = build_projector(mode, parameter_layout(inner), DIM, 137)
            step = stepper(SubspaceModule(inner, projector).to(device), images, labels)
            rows.append((mode, *compare(step, plain, pairs=PAIRS, warm_up=3).cells()))
        title = f"{name}, d = {DIM}, batch {BATCH}, {device}, {torch.get_num_threads()} threads: {STEPS} steps"
        table(title, ("mode", "subspace ms", "plain ms", "ratio", "quartiles"), rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
