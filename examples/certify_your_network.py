"""A network and a Dataset of one's own, certified from Python and checked from a shell.

Run it where it may make a directory `runs`: `python examples/certify_your_network.py`. It prints the command that
checks the certificate in a shell, with the functions of this file.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import pactl_cli as pactl


class Net(nn.Module):
    """Two layers. It is constructed anew, from the seed of the run, wherever it is needed."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, 32), nn.ReLU(), nn.Linear(32, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images, shape (m, C, 8, 8)."""
        logits: Tensor = self.layers(images)
        return logits


class Stripes(Dataset[tuple[Tensor, int]]):
    """Noisy images of stripes that are upright, or lie."""

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
    """Return what is trained on, and a test set: for `--dataset certify_your_network:data`."""
    return {"train": Stripes(1000, seed=0), "test": Stripes(500, seed=1)}


def main() -> None:
    """Train and certify."""
    run = pactl.train(dataset=data(), model_name=Net, intrinsic_dim=20, epochs=5, lr=0.1)
    certificate = pactl.bound(run, dataset=data(), model_name=Net, quant_epochs=5)
    print(certificate.statement)
    print("In a shell, where this file lies:\n")
    print(f"pactl verify {run.path} --dataset certify_your_network:data --model-name certify_your_network:Net")


if __name__ == "__main__":
    main()
