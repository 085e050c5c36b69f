"""The networks of the catalogue that are our own: classes, channels, height, width -> logits."""

from __future__ import annotations

from itertools import pairwise
from math import prod, sqrt

from torch import Tensor, nn

from pactl_cli.errors import PactlError

Shape = tuple[int, int, int]
"""Channels, height and width of one image."""


def _require_side(name: str, shape: Shape, smallest: int) -> None:
    if min(shape[1:]) < smallest:
        raise PactlError(
            f"--model-name {name} needs images of at least {smallest} x {smallest} pixels, got {shape[1]} x {shape[2]}",
            "choose another network, such as fc",
        )


def lenet5(classes: int, shape: Shape, width: int) -> nn.Module:
    """LeNet5 (Caffe's form): `width` and 2.5 `width` filters of 5 x 5; 431,080 parameters on MNIST at width 20."""
    _require_side("lenet5", shape, 16)
    channels, height, breadth = shape
    first, second = width, 5 * width // 2
    height, breadth = ((((side - 4) // 2) - 4) // 2 for side in (height, breadth))
    network = nn.Sequential(
        nn.Conv2d(channels, first, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(first, second, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * height * breadth, 25 * width),
        nn.ReLU(),
        nn.Linear(25 * width, classes),
    )
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(
                layer.weight, 0.0, sqrt(2 / (layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels))
            )
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return network


def lenet(classes: int, shape: Shape, width: int) -> nn.Module:
    """LeNet-5 with rectifiers and maxima: `width` and 8/3 `width` filters of 5 x 5; 44,426 parameters on MNIST."""
    _require_side("lenet", shape, 16)
    channels, height, breadth = shape
    second = 8 * width // 3
    height, breadth = ((((side - 4) // 2) - 4) // 2 for side in (height, breadth))
    return nn.Sequential(
        nn.Conv2d(channels, width, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, second, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * height * breadth, 20 * width),
        nn.ReLU(),
        nn.Linear(20 * width, 14 * width),
        nn.ReLU(),
        nn.Linear(14 * width, classes),
    )


class Mean(nn.Module):
    """The mean over height and width."""

    def forward(self, maps: Tensor) -> Tensor:
        """Shape (m, C, H, W) to shape (m, C)."""
        return maps.mean((-2, -1))


def layer13s(classes: int, shape: Shape, width: int) -> nn.Module:
    """Nine 3 x 3 convolutions with BatchNorm; 63,738 parameters for ten classes in colour at width 8."""
    _require_side("layer13s", shape, 4)
    k = 2 * width
    widths = [shape[0], k, k] + [2 * k] * 7
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        if index in (2, 5):
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, Mean(), nn.Linear(2 * k, classes))


def fc(classes: int, shape: Shape, width: int) -> nn.Module:
    """Two hidden layers of `width`; 199,210 parameters on MNIST at width 200."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(shape), width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )
