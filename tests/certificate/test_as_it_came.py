"""The cost of a header for a run that starts from theta0: one bit if theta0 is used as it came."""

from __future__ import annotations

from typing import Any

import pytest

from pactl_cli.certificate.codes import BitReader, BitWriter
from pactl_cli.certificate.configuration import complete, read_configuration, silent, write_configuration
from pactl_cli.certificate.task import Task

MNIST = Task("mnist", 60_000, 1)
NETWORK = {"intrinsic_dim": 0, "model_name": "layer13s", "base_width": 3}
SOURCE = Task("mnist", 60_000, 1, defaults=NETWORK | {"normalisation": ((0.1,), (0.2,)), "calibration_examples": 0})
PRIOR = Task("digits", 719, 1, calibration_pool=700, defaults=NETWORK | {"normalisation": None, "image_size": 16})


def header(given: dict[str, Any], task: Task) -> str:
    """Return the bits of a header, and check that they are read as they were written."""
    writer, stated = BitWriter(), complete(given, task)
    write_configuration(writer, stated, task)
    data = writer.to_bytes()
    assert read_configuration(BitReader(data), task) == stated
    return "".join(f"{byte:08b}" for byte in data)[: writer.num_bits]


def test_as_it_came_costs_one_bit_and_the_usual_d_four() -> None:
    """With d = 0 a source keeps its batch statistics; else the default is to take calibration examples."""
    came = complete({}, SOURCE)
    assert (came.intrinsic_dim, came.base_width, came.normalisation) == (0, 3, ((0.1,), (0.2,)))
    assert (came.calibration_examples, complete({"intrinsic_dim": 6000}, SOURCE).calibration_examples) == (0, 512)
    assert complete({"normalisation": "calibration"}, SOURCE).calibration_examples == 512
    came = complete({}, PRIOR)
    assert (came.intrinsic_dim, came.seed, came.image_size, came.calibration_examples) == (0, 137, 16, 512)
    usual = "0" + "1" + "1" + "1"
    assert header({"intrinsic_dim": 6000}, SOURCE) == header({"intrinsic_dim": 60}, PRIOR) == usual


@pytest.mark.parametrize(
    ("given", "bits"),
    [
        ({"calibration_examples": 512}, "0" + "00111" + "1" + "1"),
        ({"calibration_examples": 7}, "0" + "00111" + "0" + "00100000" + "1"),
        ({"intrinsic_dim": 1000}, "0" + "1" + "0" + "0" + "011011" + "1"),
        ({"intrinsic_dim": 6000, "calibration_examples": 0}, "0" + "1" + "1" + "0" + "00110" + "1" + "1"),
        ({"base_width": 8}, "0" + "00101" + "1" + "1"),
        ({"normalisation": "calibration"}, "0" + "00110" + "0" + "1" + "1"),
        ({"seed": 0}, "0" + "010" + "1" + "1"),
    ],
    ids=str,
)
def test_what_is_not_as_it_came(given: dict[str, Any], bits: str) -> None:
    """If theta0 has another default, one bit says whether the value is the data set's default."""
    assert header(given, SOURCE) == bits


def test_silence_says_nothing_of_the_subspace() -> None:
    """At w = 0 every P gives the same classifier, so P has its default."""
    told: dict[str, Any] = {"intrinsic_dim": 6000, "intrinsic_mode": "dense", "freeze": "body", "lora_rank": 3}
    assert silent(complete(told, SOURCE), SOURCE) == complete({"calibration_examples": 512}, SOURCE)
    rest: dict[str, Any] = {"seed": 3, "model_name": "fc", "base_width": 7, "label_noise": 0.5, "image_size": 5}
    assert silent(complete(told | rest, MNIST), MNIST) == complete(rest | {"intrinsic_dim": 0}, MNIST)
    assert silent(complete(told, PRIOR), PRIOR) == complete({}, PRIOR)
