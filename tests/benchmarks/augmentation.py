"""Augmenting on the device against torchvision's transforms image by image, and against a training step of Layer13s.

python tests/benchmarks/augmentation.py [cpu|cuda]
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from pairs import seconds, table
from steps import BATCH, STEPS, stepper
from torch import nn
from torchvision.transforms import v2

from pactl_cli import catalogue
from pactl_cli.certificate.format import FIXED_STATISTICS
from pactl_cli.data.dataset import Examples
from pactl_cli.data.views import Augmentation
from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.preparation import Prepared

REPEATS, EXAMPLES, FEW = 7, 50_000, 10


def main(device: str = "cpu") -> None:
    images = torch.randint(256, (EXAMPLES, 3, 32, 32)).to(torch.uint8)
    examples = Examples(images, torch.randint(10, (EXAMPLES,))).to(torch.device(device))
    parts = torch.randperm(EXAMPLES).to(device).split(BATCH)
    per_image = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])

    def epoch(view: str, batches: int = len(parts)) -> None:
        for _ in examples.batches(parts[:batches], Augmentation(view, 137, "train/augment/0")):
            pass
        if device == "cuda":
            torch.cuda.synchronize()

    def one_by_one() -> None:
        for part in parts[:FEW]:
            torch.stack([per_image(images[index]) for index in part.cpu()])

    width = catalogue.MODELS["layer13s"].width
    network = build_network("layer13s", classes=10, inputs=InputSpec.image(3, 32, 32), width=width, seed=1)
    inputs = Prepared(nn.Identity(), FIXED_STATISTICS, code="")(examples.images[:BATCH])
    work: dict[str, tuple[Callable[[], None], int]] = {
        "as they are": (lambda: epoch("none"), len(parts)),
        "crop-mirror": (lambda: epoch("crop-mirror"), len(parts)),
        "the same by torchvision": (one_by_one, FEW),
        "resized-crop": (lambda: epoch("resized-crop", FEW), FEW),
        "a training step": (stepper(network.to(device), inputs, examples.labels[:BATCH]), STEPS),
    }
    times = {name: [seconds(call) / count for _ in range(REPEATS)] for name, (call, count) in work.items()}
    row = tuple(f"{1e3 * sorted(column)[REPEATS // 2]:.2f}" for column in times.values())
    table(f"ms for a batch of {BATCH} colour images of 32 x 32, {device}", tuple(times), [row])


if __name__ == "__main__":
    main(*sys.argv[1:])
