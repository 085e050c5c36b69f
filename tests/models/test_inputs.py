"""Specifications of inputs: derived from tensors, written, read from a stranger's file, and sampled."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from pactl_cli.models.inputs import InputSpec, TensorSpec, change, count_inputs, select

ROWS: dict[str, Any] = {
    "images of 3 x 4 x 5": torch.zeros(7, 3, 4, 5, dtype=torch.uint8),
    "images of 1 x 2 x 2": torch.zeros(7, 1, 2, 2, dtype=torch.int64),
    "6 features": torch.zeros(7, 6),
    "5 features": torch.zeros(7, 5, dtype=torch.uint8),
    "sequences of 16 integers": torch.zeros(7, 16, dtype=torch.int64),
    "a mapping of ids, mask, pixels": {
        "pixels": torch.zeros(7, 3, 2, 2),
        "ids": torch.zeros(7, 16, dtype=torch.int64),
        "mask": torch.zeros(7, dtype=torch.bool),
    },
}


@pytest.mark.parametrize("words", ROWS)
def test_a_specification_survives_being_written_and_read(words: str) -> None:
    spec = InputSpec.of(ROWS[words])
    assert str(spec) == words
    assert InputSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec
    assert hash(spec) == hash(InputSpec.of(select(ROWS[words], slice(2))))
    assert spec.channels == (3 if words.startswith("images of 3") else 1)
    assert spec.is_image_of_bytes == (words == "images of 3 x 4 x 5")


def test_sizes_of_one_example() -> None:
    spec = InputSpec.of(ROWS["a mapping of ids, mask, pixels"])
    assert (spec.values, spec.size_bytes) == (12 + 16 + 1, 4 * 12 + 8 * 16 + 1)
    assert InputSpec.image(3, 4, 5) == InputSpec.of(ROWS["images of 3 x 4 x 5"])
    assert InputSpec.image(3, 4, 5).image_shape == (3, 4, 5)
    assert InputSpec.image(3, 4, 5) != InputSpec.image(3, 4, 5, torch.float32)
    with pytest.raises(ValueError, match="it takes images"):
        _ = spec.image_shape


@pytest.mark.parametrize(
    "inputs", [torch.zeros(7), torch.zeros(7, 2, 3), torch.zeros(7, 0), torch.zeros(7, 2, dtype=torch.complex64), {}]
)
def test_inputs_of_no_kind_are_refused(inputs: Any) -> None:
    with pytest.raises(ValueError, match=r"inputs|mapping"):
        InputSpec.of(inputs)


def document(**tensors: Any) -> dict[str, Any]:
    return {"kind": "mapping", "tensors": tensors}


_NO_TYPES: tuple[Any, ...] = ("object", "float16", 3, None, [])
IDS = {"shape": [4], "dtype": "int64"}


@pytest.mark.parametrize(
    "stranger",
    [
        *(None, [], {}, {"kind": "mapping"}, document(), {"kind": "tokens", "tensors": {"x": IDS}}),
        *({"kind": kind, "tensors": {"inputs": IDS}} for kind in ("image", "features", "film", None)),
        *(document(a={"shape": shape, "dtype": "uint8"}) for shape in ([0], [-1], [1.0], [True], ["3"], 3, [1] * 5)),
        *(document(a={"shape": [2], "dtype": dtype}) for dtype in _NO_TYPES),
        *(document(a={"shape": shape, "dtype": "uint8"}) for shape in ([1 << 40], [1 << 20, 1 << 20])),
        document(**{str(number): IDS for number in range(33)}),
        document(**{"": IDS}),
        document(**{"a\nb": IDS}),
        document(**{"a" * 201: IDS}),
        {"kind": "image", "tensors": {"inputs": {"shape": [1, 8, 1 << 20], "dtype": "uint8"}}},
    ],
)
def test_a_strangers_specification_is_checked(stranger: Any) -> None:
    assert InputSpec.from_dict(document(ids=IDS, mask=IDS)).values == 8
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        InputSpec.from_dict(stranger)


@pytest.mark.parametrize("words", ROWS)
def test_fixed_inputs_are_of_the_specification_and_always_the_same(words: str) -> None:
    spec = InputSpec.of(ROWS[words])
    drawn = spec.fixed_inputs(200, "trial")
    assert InputSpec.of(drawn) == spec
    assert count_inputs(drawn) == 200
    again = spec.fixed_inputs(200, "trial")
    for tensor, same in zip(tensors(drawn), tensors(again), strict=True):
        assert torch.equal(tensor, same)
        low, high = {True: (-1, 1), False: (0, 255 if tensor.dtype == torch.uint8 else 1)}[tensor.is_floating_point()]
        values = tensor.double()
        assert low <= values.min() < 0.2 * high
        assert high * 0.8 < values.max() <= high


def tensors(inputs: Any) -> list[Tensor]:
    return [inputs] if isinstance(inputs, Tensor) else list(inputs.values())


@pytest.mark.parametrize("words", ROWS)
def test_a_sketch_has_no_numbers(words: str) -> None:
    sketch = InputSpec.of(ROWS[words]).sketch()
    assert {(tensor.device.type, tensor.dtype, len(tensor)) for tensor in tensors(sketch)} == {
        ("meta", torch.float32, 1)
    }


def test_selecting_and_changing_inputs() -> None:
    numbers = torch.arange(7)
    for inputs in (numbers[:, None], {"a": numbers[:, None], "b": numbers.view(7, 1, 1)}):
        part = select(inputs, slice(3, 5))
        assert (count_inputs(inputs), count_inputs(part)) == (7, 2)
        assert [tensor.flatten().tolist() for tensor in tensors(part)] == [[3, 4]] * len(tensors(inputs))
        chosen = select(inputs, torch.tensor([5, 0]))
        assert all(tensor.flatten().tolist() == [5, 0] for tensor in tensors(chosen))
        doubled = change(inputs, lambda tensor: 2 * tensor)
        assert all(tensor.flatten()[-1] == 12 for tensor in tensors(doubled))


def test_tensors_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="not of kind image"):
        InputSpec("image", (("inputs", TensorSpec((5,), torch.float32)),))
    with pytest.raises(ValueError, match="names in order"):
        InputSpec("mapping", tuple((name, TensorSpec((5,), torch.float32)) for name in "ba"))
