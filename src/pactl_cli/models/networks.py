"""Our own networks of the catalogue, each a function of classes, inputs and width."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from pactl_cli.errors import PactlError
from pactl_cli.models.inputs import TOKENS, InputSpec


def _shape_from(name: str, inputs: InputSpec, smallest: int) -> tuple[int, int, int]:
    """Return channels, height and width of images; raise PactlError if they are too small."""
    _, height, width = shape = inputs.image_shape
    if min(height, width) < smallest:
        raise PactlError(
            f"--model-name {name} needs images of at least {smallest} x {smallest} pixels, got {height} x {width}",
            "choose another network, such as fc",
        )
    return shape


def lenet5(classes: int, inputs: InputSpec, width: int) -> nn.Module:
    """Return LeNet5 as in Caffe, `width` and 2.5 `width` filters of 5 x 5; 431,080 parameters on MNIST at width 20."""
    channels, height, breadth = _shape_from("lenet5", inputs, 16)
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


def lenet(classes: int, inputs: InputSpec, width: int) -> nn.Module:
    """Return LeNet-5 with ReLU and max pooling, `width` and 8/3 `width` 5 x 5 filters; 44,426 parameters on MNIST."""
    channels, height, breadth = _shape_from("lenet", inputs, 16)
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
    """The mean over height and width, from shape (m, C, H, W) to (m, C)."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((-2, -1))


def layer13s(classes: int, inputs: InputSpec, width: int) -> nn.Module:
    """Return nine 3 x 3 convolutions with BatchNorm; 63,738 parameters for ten classes in colour at width 8."""
    k = 2 * width
    widths = [_shape_from("layer13s", inputs, 4)[0], k, k] + [2 * k] * 7
    layers: list[nn.Module] = []
    for index, (before, outputs) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(before, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        if index in (2, 5):
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, Mean(), nn.Linear(2 * k, classes))


def convnet(classes: int, inputs: InputSpec, width: int) -> nn.Module:
    """Return three 3 x 3 convolutions with BatchNorm, each pooled; 29,178 parameters on MNIST at width 16."""
    channels, height, breadth = _shape_from("convnet", inputs, 8)
    layers: list[nn.Module] = []
    for before, outputs in pairwise((channels, width, 2 * width, 4 * width)):
        # ReLU after max pooling is the same function as before it, at a quarter of the work.
        layers += [nn.Conv2d(before, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
        layers += [nn.MaxPool2d(2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * (height // 8) * (breadth // 8), classes))


class Concatenation(nn.Module):
    """The inputs and the outputs of some layers, concatenated: from shape (m, F) to (m, F + G)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([inputs, self.layers(inputs)], dim=1)


def mlp(classes: int, inputs: InputSpec, width: int) -> nn.Module:
    """Return one hidden layer of `width`; the last layer takes its outputs and the inputs."""
    features = inputs.values
    hidden = Concatenation(nn.Linear(features, width), nn.ReLU())
    return nn.Sequential(nn.Flatten(), hidden, nn.Linear(features + width, classes))


def fc(classes: int, inputs: InputSpec, width: int) -> nn.Module:
    """Return two hidden layers of `width`; 199,210 parameters on MNIST at width 200."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs.values, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )


class Bag(nn.Module):
    """A dense layer on the mean of the vectors of a text's tokens, from shape (m, L), in any type, to (m, classes).

    Token 0 is padding and is left out. Without any token the mean is 0.

    Args:
        vocabulary: the number of different tokens.
        width: the length of a vector.
        classes: the number of logits.
    """

    def __init__(self, vocabulary: int, width: int, classes: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(vocabulary, width)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens.long()  # exact: `Prepared` gives them in single precision, which has all up to 2^24
        vectors = self.vectors.weight
        is_token = (tokens > 0).to(vectors.dtype)
        total = embedding_bag(tokens, vectors, per_sample_weights=is_token, mode="sum")
        logits: Tensor = self.head(total / is_token.sum(1, keepdim=True).clamp(min=1))
        return logits


def bag(classes: int, inputs: InputSpec, width: int) -> nn.Module:
    """Return a bag of tokens; 16,708 parameters for bytes and four classes at width 64."""
    if inputs.kind != TOKENS or inputs.vocabulary is None:
        raise ValueError("it takes tokens, numbers from 0 of a known vocabulary; save features as float32")
    return Bag(inputs.vocabulary, width, classes)
