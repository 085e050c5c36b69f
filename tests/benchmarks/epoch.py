"""An MNIST epoch, training and then exact counts of both sets, against the naive recipe written out below.

python tests/benchmarks/epoch.py DATA_DIR DEVICE naive|ours # the seconds of one, as JSON

The table is one of those of `python tests/benchmarks`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

import torch
from pairs import Terms, in_a_process, seconds, table
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST, FakeData

from pactl_cli.certificate.format import FIXED_STATISTICS
from pactl_cli.data.dataset import Examples
from pactl_cli.data.loading import load_dataset
from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.layers import parameter_layout
from pactl_cli.models.preparation import Prepared
from pactl_cli.processes.heap import keep_freed_memory
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.module import SubspaceModule, set_weights
from pactl_cli.training.counting import count
from pactl_cli.training.loop import Moment, State, Trainer
from pactl_cli.training.objectives import NetworkObjective
from pactl_cli.training.recipes import Plan

DIM, BATCH, PAIRS = 1000, 256, 3
DRAWN, FEW = "drawn", 300
"""In the place of a directory: a few random images, and no files."""


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


def naive_epoch(data_dir: str, device: str) -> None:
    """Per-image transforms in a DataLoader, a scatter for the permutation, projection in every batch of the counts."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    workers, parts = (
        2,
        [MNIST(data_dir, train=part, transform=transform) for part in (True, False) if data_dir != DRAWN],
    )
    if data_dir == DRAWN:
        workers, parts = 0, [FakeData(FEW, (1, 28, 28), 10, transform)] * 2
    module = NaiveSubspace().to(device)
    optimizer = torch.optim.Adam([module.w], 1e-2)
    for images, labels in DataLoader(parts[0], BATCH, shuffle=True, num_workers=workers):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(images.to(device)), labels.to(device)).backward()
        optimizer.step()
    with torch.no_grad():
        for part in parts:
            loader = DataLoader(part, BATCH, num_workers=workers)
            sum(int((module(images.to(device)).argmax(1) != labels.to(device)).sum()) for images, labels in loader)


class Quiet:
    """An observer that keeps nothing."""

    def advance(self, now: Moment) -> None: ...

    def epoch(self, record: dict[str, object]) -> None: ...

    def save(self, state: State) -> None: ...


def our_parts(data_dir: str) -> list[Examples]:
    """The training set and the test set."""
    if data_dir == DRAWN:
        return [Examples(torch.randint(256, (FEW, 1, 28, 28)).to(torch.uint8), torch.randint(10, (FEW,)))] * 2
    data = load_dataset("mnist", Path(data_dir))
    parts = [data.train, data.test]
    return [part for part in parts if isinstance(part, Examples)]


def our_epoch(data_dir: str, device: str) -> None:
    """The program's own parts, from files to counts."""
    keep_freed_memory()
    parts = [part.to(torch.device(device)) for part in our_parts(data_dir)]
    inner = Prepared(network(), FIXED_STATISTICS, code="").to(device)
    module = SubspaceModule(inner, build_projector("rdkronqr", parameter_layout(inner), DIM, 137)).to(device)
    plan = Plan("adam_cos", 1, BATCH, 1e-2)
    Trainer(NetworkObjective(module), parts[0], plan, seed=137, stage="train").run(Quiet())
    set_weights(inner, module.weights(module.w.detach()))
    for part in parts:
        count(inner, part)


EPOCHS = {"naive": naive_epoch, "ours": our_epoch}


def once(data_dir: str, device: str, name: str) -> float:
    """Seconds of one epoch, in a process of its own: that ours has the C library keep memory must not help the other.

    Of drawn images it runs in this process, to see that it works.
    """
    if data_dir == DRAWN:
        return seconds(lambda: EPOCHS[name](data_dir, device))
    return in_a_process(__file__, data_dir, device, name)["seconds"]


def main(data_dir: str, terms: Terms) -> None:
    """Prints one row a pair, and the medians. Its clock is that on the wall: the naive recipe has workers."""
    pairs = 1 if terms.quick else PAIRS
    found = [[once(data_dir, terms.device, name) for name in EPOCHS] for _ in range(pairs)]
    found.append([median(times) for times in zip(*found, strict=True)])
    rows = [(f"{naive:.1f}", f"{ours:.1f}", f"{naive / ours:.2f}") for naive, ours in found]
    title = f"MNIST epoch and counts, LeNet5, d = {DIM}, batch {BATCH}, {terms.device}"
    table(title, ("naive s", "ours s", "ratio"), rows)


if __name__ == "__main__":
    data_dir, device, name = sys.argv[1:]
    print(json.dumps({"seconds": seconds(lambda: EPOCHS[name](data_dir, device))}))
