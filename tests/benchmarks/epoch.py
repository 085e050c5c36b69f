"""An MNIST epoch, training and then exact counts of both sets, against the naive recipe written out below.

python tests/benchmarks/epoch.py DATA_DIR
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from pairs import in_a_process, seconds, table
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from pactl_cli.data.loading import load_dataset
from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.layers import parameter_layout
from pactl_cli.processes.heap import keep_freed_memory
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.module import SubspaceModule, set_weights
from pactl_cli.training.counting import count
from pactl_cli.training.loop import Moment, State, Trainer
from pactl_cli.training.objectives import NetworkObjective
from pactl_cli.training.recipes import Plan

DIM, BATCH, PAIRS = 1000, 256, 3


def network() -> nn.Module:
    return build_network("lenet5", classes=10, inputs=InputSpec.image(1, 28, 28), width=20, seed=137)


class NaiveSubspace(nn.Module):
    """theta0 + P w with autograd's own gradient of the permutation, and P w formed anew for every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()
        self.layout = parameter_layout(self.network)
        self.network.requires_grad_(False)
        a, b = 657, 32
        self.left, self.right = (torch.linalg.qr(torch.randn(a, b))[0] for _ in range(2))
        self.order = torch.randperm(a * a)
        self.theta0 = nn.utils.parameters_to_vector(self.network.parameters()).detach()
        self.w = nn.Parameter(torch.zeros(DIM))

    def forward(self, images: Tensor) -> Tensor:
        square = nn.functional.pad(self.w, (0, 24)).view(32, 32)
        theta = self.theta0 + (self.left @ square @ self.right.T).flatten()[self.order][: self.layout.size]
        named, start = {}, 0
        for name, parameter in self.network.named_parameters():
            named[name] = theta[start : start + parameter.numel()].view(parameter.shape)
            start += parameter.numel()
        logits: Tensor = functional_call(self.network, named, (images,))
        return logits


def naive_epoch(data_dir: str) -> None:
    """Per-image transforms in a DataLoader, a scatter for the permutation, projection in every batch of the counts."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    train, test = (MNIST(data_dir, train=part, transform=transform) for part in (True, False))
    module = NaiveSubspace()
    optimizer = torch.optim.Adam([module.w], 1e-2)
    for images, labels in DataLoader(train, BATCH, shuffle=True, num_workers=2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(images), labels).backward()
        optimizer.step()
    with torch.no_grad():
        for part in (train, test):
            loader = DataLoader(part, BATCH, num_workers=2)
            sum(int((module(images).argmax(1) != labels).sum()) for images, labels in loader)


class Quiet:
    """An observer that keeps nothing."""

    def advance(self, now: Moment) -> None: ...

    def epoch(self, record: dict[str, object]) -> None: ...

    def save(self, state: State) -> None: ...


def our_epoch(data_dir: str) -> None:
    """The program's own parts, from files to counts."""
    keep_freed_memory()
    data = load_dataset("mnist", Path(data_dir))
    inner = network()
    module = SubspaceModule(inner, build_projector("rdkronqr", parameter_layout(inner), DIM, 137))
    plan = Plan("adam_cos", 1, BATCH, 1e-2)
    Trainer(NetworkObjective(module), data.train, plan, seed=137, stage="train").run(Quiet())
    set_weights(inner, module.weights(module.w.detach()))
    for part in (data.train, data.test):
        assert part is not None
        count(inner, part)


EPOCHS = {"naive": naive_epoch, "ours": our_epoch}


def main(data_dir: str) -> None:
    """Each epoch in a process of its own: that ours has the C library keep memory must not help the other."""
    pairs = [[in_a_process(__file__, data_dir, name)["seconds"] for name in EPOCHS] for _ in range(PAIRS)]
    rows = [(f"{naive:.1f}", f"{ours:.1f}", f"{naive / ours:.2f}") for naive, ours in pairs]
    table(f"MNIST epoch and counts, LeNet5, d = {DIM}, batch {BATCH}", ("naive s", "ours s", "ratio"), rows)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps({"seconds": seconds(lambda: EPOCHS[sys.argv[2]](sys.argv[1]))}))
    else:
        main(sys.argv[1])
