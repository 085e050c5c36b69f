"""A training step in the subspace over the plain training step, for every projector: time and peak memory.

python tests/benchmarks/steps.py DEVICE NET MODE # the peak memory of one, as JSON

The table is one of those of `python tests/benchmarks`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import torch
from pairs import Terms, in_a_process, peak_gib, table
from torch import nn

from pactl_cli import catalogue
from pactl_cli.certificate.format import FIXED_STATISTICS
from pactl_cli.errors import PactlError
from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.layers import parameter_layout
from pactl_cli.models.preparation import Prepared
from pactl_cli.processes.heap import keep_freed_memory
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.module import SubspaceModule

CASES = {"lenet5": (1, 28, 28), "convnet": (1, 28, 28), "resnet20": (3, 32, 32), "layer13s": (3, 32, 32)}
PAIRS = {"lenet5": 25, "convnet": 25, "resnet20": 9, "layer13s": 9}
QUICK = "convnet"
DIM, BATCH, STEPS = 1000, 128, 3
PLAIN, MODES = "plain", [mode for mode in catalogue.PROJECTORS if mode != catalogue.HEAD_ALONE]


def stepper(module: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """A few steps of Adam on the trainable parameters of a module, on one batch."""
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 1e-4)

    def steps() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(module(images), labels).backward()
            optimizer.step()

    return steps


def batch(shape: tuple[int, int, int], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images as a network gets them, and labels."""
    images = torch.randint(256, (BATCH, *shape), dtype=torch.uint8, device=device)
    prepare = Prepared(nn.Identity(), FIXED_STATISTICS, code="").to(device)
    return prepare(images), torch.randint(10, (BATCH,), device=device)


def module(name: str, mode: str, device: str) -> nn.Module:
    """A network in a subspace, or, without a mode, the network itself."""
    network = build_network(
        name, classes=10, inputs=InputSpec.image(*CASES[name]), width=catalogue.MODELS[name].width, seed=137
    )
    if mode == PLAIN:
        return network.to(device)
    return SubspaceModule(network, build_projector(mode, parameter_layout(network), DIM, 137)).to(device)


def peak(device: str, name: str, mode: str) -> dict[str, float]:
    """Peak memory of a few steps: of the process, or on the accelerator."""
    keep_freed_memory()
    stepper(module(name, mode, device), *batch(CASES[name], device))()
    return {"gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else peak_gib()}


def main(terms: Terms) -> None:
    """Prints one table a network; the peak of memory is that of a process of its own, and not measured if quick."""
    keep_freed_memory()
    for name, shape in {QUICK: CASES[QUICK]}.items() if terms.quick else CASES.items():
        inputs = [part[:8] if terms.quick else part for part in batch(shape, terms.device)]
        plain = stepper(module(name, PLAIN, terms.device), *inputs)
        rows = []
        for mode in (PLAIN, *MODES):
            try:
                step = stepper(module(name, mode, terms.device), *inputs)
            except PactlError:  # stfilmkronqr has a coordinate for each normalisation parameter
                rows.append((mode, "d is too small", *"----"))
                continue
            gib = 0.0 if terms.quick else in_a_process(__file__, terms.device, name, mode)["gib"]
            rows.append((mode, *terms.compare(step, plain, PAIRS[name]).cells(), f"{gib:.2f}"))
        title = f"{STEPS} training steps: {name}, d = {DIM}, batch {len(inputs[1])}; {terms}"
        table(title, ("mode", "subspace ms", "plain ms", "ratio", "quartiles", "peak GiB"), rows)


if __name__ == "__main__":
    print(json.dumps(peak(*sys.argv[1:])))
