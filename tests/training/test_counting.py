"""Every example is counted once, and doubtful ones as errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pactl_cli.certificate.format import NUMERICAL_MARGIN
from pactl_cli.data.dataset import Examples
from pactl_cli.training.counting import BATCH, Counts, count


class Echo(nn.Module):
    """A network whose logits are its inputs."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def counts(logits: Tensor, labels: list[int]) -> Counts:
    images = logits.view(len(labels), -1, 1, 1)
    return count(Echo(), Examples(images, torch.tensor(labels)))


@pytest.mark.parametrize("examples", [1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 7])
def test_every_example_is_counted_once(examples: int) -> None:
    generator = torch.Generator().manual_seed(examples)
    logits = torch.randn(examples, 3, generator=generator)
    labels = torch.randint(3, (examples,), generator=generator)
    found = counts(logits, labels.tolist())
    assert found.examples == examples
    assert found.plain == int((logits.argmax(1) != labels).sum())
    expected = nn.functional.cross_entropy(logits.double(), labels, reduction="sum")
    assert found.nll_nats == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("lead", "cautious", "plain", "lenient", "doubtful"),
    [
        (3 * NUMERICAL_MARGIN, 0, 0, 0, 0),
        (1.5 * NUMERICAL_MARGIN, 0, 0, 0, 1),
        (0.5 * NUMERICAL_MARGIN, 1, 0, 0, 1),
        (-0.5 * NUMERICAL_MARGIN, 1, 1, 0, 1),
        (-1.5 * NUMERICAL_MARGIN, 1, 1, 1, 1),
    ],
)
def test_margins_are_relative_to_the_largest_logit(
    lead: float, cautious: int, plain: int, lenient: int, doubtful: int
) -> None:
    for scale in (1e-3, 1.0, 1e4):
        found = counts(scale * torch.tensor([[1.0, 1.0 - lead, -0.5]]), [0])
        assert (found.cautious, found.plain, found.lenient, found.doubtful) == (cautious, plain, lenient, doubtful)


def test_a_tie_is_a_cautious_error() -> None:
    found = counts(torch.zeros(4, 3), [0, 1, 2, 0])
    assert (found.cautious, found.plain) == (4, 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_no_numbers_are_errors(value: float) -> None:
    found = counts(torch.tensor([[5.0, value, 0.0]]), [0])
    assert (found.cautious, found.plain, found.lenient) == (1, 1, 1)


def test_counting_is_in_evaluation_mode_and_full_precision() -> None:
    class Watch(Echo):
        def forward(self, images: Tensor) -> Tensor:
            assert not self.training
            assert not torch.is_grad_enabled()
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            return super().forward(images)

    before = torch.backends.cuda.matmul.fp32_precision
    count(Watch().train(), Examples(torch.zeros(3, 2, 1, 1), torch.zeros(3, dtype=torch.int64)))
    assert torch.backends.cuda.matmul.fp32_precision == before
