"""Networks whose evaluation is random or depends on the batch are refused, and all others pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pactl_cli.certificate.format import NUMERICAL_MARGIN
from pactl_cli.errors import PactlError
from pactl_cli.models import build_network
from pactl_cli.models.independence import TOLERANCE, agree, require_function_of_one_example
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.normalisation import calibrate

INPUTS = torch.rand(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))


class Layer(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, maps: Tensor) -> Any:
        return self.function(maps)


class Counting(nn.Module):
    """A layer that scales by the number of calls."""

    calls = 0

    def forward(self, maps: Tensor) -> Tensor:
        self.calls += 1
        return maps * self.calls


def network(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    found = nn.Sequential(nn.Conv2d(2, 4, 3), *layers, nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    calibrate(found, INPUTS.flip(0))
    return found


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (Layer(lambda maps: nn.functional.dropout(maps, 0.1)), "every time"),
        (Layer(lambda maps: maps + 0.1 * torch.randn_like(maps)), "every time"),
        (Counting(), "every time"),
        (nn.BatchNorm2d(4, track_running_stats=False), "others in its batch"),
        (Layer(lambda maps: maps - 0.1 * maps.mean(0)), "others in its batch"),
        (Layer(lambda maps: maps / maps.abs().max()), "others in its batch"),
        (Layer(lambda maps: maps.sort(0).values), "others in its batch"),
        (Layer(lambda maps: maps / len(maps)), "others in its batch"),
    ],
)
def test_a_network_that_looks_at_the_batch_or_is_random_is_refused(layer: nn.Module, complaint: str) -> None:
    with pytest.raises(PactlError, match=f"--model-name mine is refused: .*{complaint}"):
        require_function_of_one_example(network(layer), INPUTS, 3, "mine", stable=False)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Identity(),
        nn.Dropout(0.5),
        nn.Dropout2d(0.5),
        nn.AlphaDropout(0.5),
        nn.RReLU(),
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.LayerNorm((4, 4)),
        nn.RMSNorm((4, 4)),
        nn.InstanceNorm2d(4, affine=True),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.LocalResponseNorm(2),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
        Layer(lambda maps: torch.fft.fft2(maps).abs()),
        Layer(lambda maps: 1e6 * maps),
        Layer(lambda maps: 1e-12 * maps),
        Layer(lambda maps: 0 * maps),
        Layer(lambda maps: maps * torch.inf),
    ],
)
def test_functions_of_one_example_pass(layer: nn.Module) -> None:
    require_function_of_one_example(network(layer), INPUTS, 3, "mine")
    require_function_of_one_example(network(layer), INPUTS[:1], 3, "mine")


def rough(maps: Tensor) -> Tensor:
    """Return maps with rounding errors that depend on the batch size, magnified."""
    return (1e5 * maps * (1 + 4 * len(maps) * torch.finfo(maps.dtype).eps)).sin()


def test_rounding_is_told_from_dependence() -> None:
    unstable = network(Layer(rough))
    before = {key: value.clone() for key, value in unstable.state_dict().items()}
    require_function_of_one_example(unstable, INPUTS, 3, "mine", stable=False)
    with pytest.raises(PactlError, match="--model-name mine is refused: rounding alone changes its logits"):
        require_function_of_one_example(unstable, INPUTS, 3, "mine")
    assert all(torch.equal(value, before[key]) for key, value in unstable.state_dict().items())
    only_single = network(Layer(lambda maps: rough(maps.float())))
    with pytest.raises(PactlError, match="others in its batch"):
        require_function_of_one_example(only_single, INPUTS, 3, "mine", stable=False)


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (
            nn.Linear(3, 4),
            "gives torch.float32 (4, 4) for 4 examples (it must give a tensor of logits of shape (4, 3)",
        ),
        (Layer(lambda logits: (logits, logits)), "gives tuple for 4 examples"),
        (Layer(lambda logits: logits.argmax(1)), "gives torch.int64 (4,)"),
        (Layer(lambda logits: logits.long()), "gives torch.int64"),
        (nn.Linear(7, 3), "fails on images of 2 x 6 x 6: RuntimeError: "),
    ],
)
def test_a_network_without_logits_is_refused(layer: nn.Module, complaint: str) -> None:
    with pytest.raises(PactlError) as refusal:
        require_function_of_one_example(nn.Sequential(network(), layer), INPUTS, 3, "mine")
    assert f"--model-name mine {complaint}" in refusal.value.one_line()


def test_a_network_that_wants_a_mapping_in_pieces_is_told() -> None:
    class Pieces(nn.Module):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return ids[:, :3] * mask[:, :3]

    tokens = {"ids": torch.ones(4, 6), "mask": torch.ones(4, 6)}
    with pytest.raises(PactlError, match=r"mapping of ids, mask: TypeError: .*mask") as refusal:
        require_function_of_one_example(Pieces(), tokens, 3, "mine")
    assert "its forward gets the mapping as one argument" in refusal.value.hint


def test_the_tolerance_is_half_of_the_margin_of_counting() -> None:
    assert NUMERICAL_MARGIN == 2 * TOLERANCE


@pytest.mark.parametrize(("part", "is_refused"), [(1.06e-4, True), (6e-5, True), (4e-5, False), (1e-6, False)])
@pytest.mark.parametrize("darkness", [1.0, 1e-3])
def test_dependence_on_the_batch_that_is_near_the_margin(part: float, darkness: float, is_refused: bool) -> None:
    """With little light, only the examples with small logits depend on the batch."""
    torch.manual_seed(0)
    images = INPUTS * torch.tensor([1, darkness, darkness, darkness]).view(4, 1, 1, 1)

    def slightly(logits: Tensor) -> Tensor:
        small = logits.abs().amax(1, keepdim=True) < (1 if darkness == 1 else 0.01)
        return logits * (1 + part * small * (len(logits) > 1))

    found = nn.Sequential(nn.Flatten(), nn.Linear(72, 3, bias=False), Layer(slightly))
    if is_refused:
        with pytest.raises(PactlError, match=r"mine is refused: .*others in its batch"):
            require_function_of_one_example(found, images, 3, "mine")
    else:
        require_function_of_one_example(found, images, 3, "mine")


OWN = {"fc": 200, "lenet": 6, "lenet5": 20, "layer13s": 8, "resnet20": 16, "resnet18k": 16}
THEIRS = ("resnet18", "squeezenet1_0", "efficientnet_b0")


@pytest.mark.parametrize("name", [*OWN, *(pytest.param(name, marks=pytest.mark.slow) for name in THEIRS)])
def test_the_rounding_of_honest_networks_passes(name: str) -> None:
    side = 16 if name in OWN else 32
    images = torch.rand(34, 3, side, side, generator=torch.Generator().manual_seed(1))
    found = build_network(name, classes=10, inputs=InputSpec.image(3, side, side), width=OWN.get(name), seed=1)
    calibrate(found, images[4:])
    require_function_of_one_example(found, images[:4], 10, name)


def test_agreement_is_relative_to_the_largest_logit_of_each_example() -> None:
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1.0]])
    assert agree(logits, logits + torch.tensor([[0.049], [0.000049]]))
    assert not agree(logits, logits + torch.tensor([[0.051], [0.0]]))
    assert not agree(logits, logits + torch.tensor([[0.0], [0.000051]]))
    assert not agree(logits, torch.tensor([[1000.0, 0.0], [0.0, torch.nan]]))
    assert agree(torch.full((2, 2), torch.nan), torch.full((2, 2), torch.inf))
    assert agree(torch.zeros(2, 2), torch.zeros(2, 2))


def test_an_example_that_overflows_says_nothing_about_the_others() -> None:
    one = torch.tensor([[1e31, 0.0], [2.0, 1.0]])
    assert agree(one, torch.tensor([[torch.inf, 5.0], [2.0, 1.00009]]))
    assert not agree(one, torch.tensor([[torch.inf, 5.0], [2.0, 1.001]]))
    assert not agree(one, torch.tensor([[1e29, 5.0], [2.0, 1.0]]))
