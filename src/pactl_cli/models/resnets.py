"""Residual networks for small images, with a 3 x 3 stem and no pooling before the last mean."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.networks import Mean


class _Stride(nn.Module):
    """Every `step`-th row and column."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def forward(self, maps: Tensor) -> Tensor:
        return maps[..., :: self._step, :: self._step]


class _ZeroChannels(nn.Module):
    """The inputs and `count` more channels of zeros."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def forward(self, maps: Tensor) -> Tensor:
        return nn.functional.pad(maps, (0, 0, 0, 0, 0, self._count))


class _Block(nn.Module):
    """relu(shortcut(x) + BatchNorm(conv(relu(BatchNorm(conv(x)))))), the first convolution with the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = shortcut

    def forward(self, maps: Tensor) -> Tensor:
        return nn.functional.relu(self.shortcut(maps) + self.residual(maps))


def _network(classes: int, channels: int, widths: list[int], depth: int, *, weightless: bool) -> nn.Module:
    """Return a stem, `depth` blocks of each width, each at half the size of the last, a mean and a dense layer."""
    blocks: list[nn.Module] = []
    for inputs, outputs in pairwise([widths[0], *widths]):
        stride = 1 if not blocks else 2
        shortcut: nn.Module = nn.Identity()
        if stride == 2 and weightless:
            shortcut = nn.Sequential(_Stride(stride), nn.BatchNorm2d(inputs), _ZeroChannels(outputs - inputs))
        elif stride == 2:
            shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        blocks.append(_Block(inputs, outputs, stride, shortcut))
        blocks += [_Block(outputs, outputs, 1, nn.Identity()) for _ in range(depth - 1)]
    stem = (nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
    network = nn.Sequential(*stem, *blocks, Mean(), nn.Linear(widths[-1], classes))
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return network


def resnet20(classes: int, inputs: InputSpec, width: int) -> nn.Module:
    """Return nine blocks of `width` to 4 `width` (He et al. 2016, section 4.2); 269,818 parameters in colour at 16.

    A shortcut to more channels takes every second pixel, applies BatchNorm and adds channels of zeros. Initially every
    block equals its shortcut: its last BatchNorm scales by 0.
    """
    network = _network(classes, inputs.image_shape[0], [width, 2 * width, 4 * width], 3, weightless=True)
    for block in network.modules():
        if isinstance(block, _Block):
            nn.init.zeros_(block.residual[-1].weight)  # type: ignore[arg-type]
    return network


def resnet18k(classes: int, inputs: InputSpec, width: int) -> nn.Module:
    """Return eight blocks of `width` to 8 `width`, as ResNet-18 (He et al. 2016); 11,173,962 parameters at 64."""
    return _network(classes, inputs.image_shape[0], [width, 2 * width, 4 * width, 8 * width], 2, weightless=False)
