"""Certify your own network on your own Dataset from Python, and verify the certificate from a shell.

Run `python examples/certify_your_network.py`. It makes a directory `runs` and prints the command that verifies the
certificate in a shell, with the functions of this file.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import pactl_cli as pactl


class Net(nn.Module):
    """A network of two layers. pactl constructs it anew, from the seed of the run, wherever it needs it."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, 32), nn.ReLU(), nn.Linear(32, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images, shape (m, C, 8, 8)."""
        logits: Tensor = self.layers(images)
        return logits


class Stripes(Dataset[tuple[Tensor, int]]):
    """Noisy images of vertical or horizontal stripes."""

    def __init__(self, examples: int, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(2, (examples,), generator=draw)
        upright = (torch.arange(8) % 2 * 120).expand(1, 8, 8)
        stripes = torch.where(self.labels.bool()[:, None, None, None], upright, upright.transpose(1, 2))
        self.images = (stripes + torch.randint(136, (examples, 1, 8, 8), generator=draw)).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.images[place], int(self.labels[place])


def data() -> dict[str, Stripes]:
    """Return a training set and a test set, for `--dataset certify_your_network:data`."""
    return {"train": Stripes(1000, seed=0), "test": Stripes(500, seed=1)}


def main() -> None:
    """Train the network, certify it, and print the command that verifies it."""
    run = pactl.train(dataset=data(), model_name=Net, intrinsic_dim=20, epochs=5, lr=0.1)
    certificate = pactl.bound(run, dataset=data(), model_name=Net, quant_epochs=5)
    print(certificate.statement)
    print("In a shell, in the directory of this file:\n")
    print(f"pactl verify {run.path} --dataset certify_your_network:data --model-name certify_your_network:Net")


if __name__ == "__main__":
    main()
