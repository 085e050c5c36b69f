"""The size of a network is that of its weights, and of what the evaluation of one example computes."""

from __future__ import annotations

import pytest

from pactl_cli.models import sketch_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.size import Size


@pytest.mark.parametrize("is_large", [False, True])
def test_results_of_an_example_are_not_its_weights(is_large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_large:
        monkeypatch.setattr("pactl_cli.models.size._SMALL", 0)
    inputs = InputSpec.image(1, 28, 28)
    size = Size.of(sketch_network("fc", classes=10, inputs=inputs, width=200), inputs)
    two_layers_and_their_relu = 2 * 2 * 200
    assert size.parameters == 784 * 200 + 200 + 200 * 200 + 200 + 200 * 10 + 10
    assert size.activations_bytes == 4 * (two_layers_and_their_relu + 10)
    assert size.largest_bytes == 4 * 200
