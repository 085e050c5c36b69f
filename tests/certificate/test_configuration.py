"""What a header costs, that it comes back, and that no header begins another."""

from dataclasses import fields, replace
from fractions import Fraction
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pactl_cli import catalogue
from pactl_cli.catalogue import Statistics
from pactl_cli.certificate.codes import BitReader, BitWriter, DecodeError, write_delta
from pactl_cli.certificate.configuration import (
    Configuration,
    Task,
    complete,
    read_configuration,
    write_configuration,
)

MNIST = Task("mnist", 60_000, 1)
TASKS = [
    MNIST,
    Task("digits", 1437, 1),
    Task("npz:some/where.npz", 1, 1),
    Task("npz:some/where.npz", 50, 3),
    Task("folder:photos", 1_300_000, 3),
    Task("folder:cubes", 19_999, 4),
    Task("digits", 1437, 1, catalogue.Model("nets:small", "", "", batch_statistics=True)),
]
BROUGHT = TASKS[-1]
WITHOUT_WIDTH = [entry.name for entry in catalogue.MODELS.values() if entry.width is None]

DIGITS = st.integers(0, 2**14 - 1)


def rows(channels: int, lowest: int) -> st.SearchStrategy[tuple[float, ...]]:
    number = st.integers(lowest, 2**14 - 1).map(lambda digits: digits / 10**4)
    return st.tuples(*[number] * channels)


@st.composite
def configurations(draw: st.DrawFn, task: Task) -> Configuration:
    """A configuration about a task, any field of which may have its default."""
    names = [*catalogue.MODELS, *([task.brought.name] if task.brought else ())]
    model = draw(st.none() | st.sampled_from(names))
    values: dict[str, st.SearchStrategy[Any]] = {
        "base_width": st.none() if model and task.model(model).width is None else st.integers(1, 4096),
        "intrinsic_mode": st.sampled_from(list(catalogue.PROJECTORS)),
        "intrinsic_dim": st.one_of(st.sampled_from(catalogue.ROUND_DIMS), st.integers(0, 2**26)),
        "seed": st.one_of(st.integers(130, 145), st.integers(0, 2**63 - 1)),
        "calibration_examples": st.integers(0, task.train_examples),
        "normalisation": st.tuples(rows(task.channels, 0), rows(task.channels, 1)),
        "label_noise": st.integers(0, 10**4).map(lambda digits: digits / 10**4),
    }
    given = {"model_name": model} | {name: draw(st.none() | value) for name, value in values.items()}
    return complete(given, task)


STATEMENTS = st.sampled_from(TASKS).flatmap(lambda task: st.tuples(configurations(task), st.just(task)))


def written(configuration: Configuration, task: Task) -> BitWriter:
    writer = BitWriter()
    write_configuration(writer, configuration, task)
    return writer


def bit_string(writer: BitWriter) -> str:
    return "".join(format(byte, "08b") for byte in writer.to_bytes())[: writer.num_bits]


def header(task: Task = MNIST, **given: Any) -> str:
    return bit_string(written(complete(given, task), task))


class ExactReader(BitReader):
    """Reads bits without padding; asking for one more is an error of its own."""

    class MoreError(Exception):
        """The bits end."""

    def __init__(self, bits: str) -> None:
        super().__init__(b"")
        self._bits = bytes(map(int, bits))

    def skip(self, num_bits: int) -> None:
        if self.position + num_bits > len(self._bits):
            raise self.MoreError
        super().skip(num_bits)


# --- headers come back ---


@given(STATEMENTS, st.lists(st.integers(0, 1), max_size=30))
@example((complete({"seed": 2**63 - 1}, MNIST), MNIST), [])
@example((complete({"intrinsic_dim": 0}, MNIST), MNIST), [1, 1])
@example((complete({"normalisation": ((0.0,), (0.0001,))}, MNIST), MNIST), [0])
@example((complete({"normalisation": ((1.6383,), (1.6383,))}, MNIST), MNIST), [0])
def test_headers_come_back(statement: tuple[Configuration, Task], after: list[int]) -> None:
    configuration, task = statement
    writer = written(configuration, task)
    end = writer.num_bits
    writer.extend(after)
    reader = BitReader(writer.to_bytes())
    assert (read_configuration(reader, task), reader.position) == (configuration, end)


@given(
    st.sampled_from(TASKS).flatmap(
        lambda task: st.tuples(st.sets(configurations(task), min_size=2, max_size=8), st.just(task))
    )
)
def test_headers_about_one_task_do_not_begin_one_another(stated: tuple[set[Configuration], Task]) -> None:
    configurations, task = stated
    codes = sorted(bit_string(written(configuration, task)) for configuration in configurations)
    assert not any(after.startswith(before) for before, after in pairwise(codes))


def test_every_number_of_four_digits_comes_back() -> None:
    task = TASKS[-2]
    assert task.channels == 4
    for digits in range(0, 2**14, 8):
        mean = tuple(number / 10**4 for number in range(digits, digits + 4))
        std = tuple(number / 10**4 for number in range(digits + 4, digits + 8))
        reader = ExactReader(header(task, normalisation=(mean, std)))
        assert read_configuration(reader, task).normalisation == (mean, std)


def test_the_published_constants_come_back() -> None:
    for entry in catalogue.DATASETS.values():
        if entry.published:
            task = Task(entry.name, entry.train_examples or 1000, len(entry.published[0]))
            bits = header(task, normalisation=entry.published)
            fields = 8 if catalogue.MODELS[entry.model].width else 7
            assert len(bits) == 1 + fields + 2 * 14 * task.channels
            assert read_configuration(ExactReader(bits), task).normalisation == entry.published


# --- what they cost ---


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_default_costs_one_bit(task: Task) -> None:
    assert header(task) == "1"
    assert read_configuration(ExactReader("1"), task) == complete({}, task)


FLAGS = 1 + 8
"""Not the default throughout; then one bit a field."""


@pytest.mark.parametrize(
    ("given", "num_bits"),
    [
        ({"model_name": "fc"}, FLAGS + 3),
        ({"base_width": 1}, FLAGS + 1),
        ({"base_width": 4096}, FLAGS + 25),
        ({"intrinsic_mode": "dense"}, FLAGS + 3),
        ({"intrinsic_dim": 1}, FLAGS + 7),
        ({"intrinsic_dim": 1_000_000}, FLAGS + 7),
        ({"intrinsic_dim": 0}, FLAGS + 1 + 1),
        ({"intrinsic_dim": 6}, FLAGS + 1 + 5),
        ({"seed": 0}, FLAGS + 4),
        ({"seed": 2}, FLAGS + 5),
        ({"calibration_examples": 1}, FLAGS + 4),
        ({"normalisation": ((0.1307,), (0.3081,))}, FLAGS + 28),
        ({"label_noise": 0.0001}, FLAGS + 14),
        ({"label_noise": 1.0}, FLAGS + 14),
        ({"seed": 0, "intrinsic_dim": 1, "intrinsic_mode": "dense"}, FLAGS + 4 + 7 + 3),
    ],
    ids=str,
)
def test_only_what_differs_is_paid_for(given: dict[str, Any], num_bits: int) -> None:
    assert len(header(**given)) == num_bits


def test_a_default_may_depend_on_the_fields_before() -> None:
    """A network's own width, and its own need of calibration, are free once it is named."""
    own = complete({"model_name": "layer13s"}, MNIST)
    assert (own.base_width, own.calibration_examples) == (8, 512)
    assert len(header(model_name="layer13s")) == FLAGS + 3
    assert len(header(model_name="layer13s", base_width=20, calibration_examples=0)) == FLAGS + 3 + 9 + 1


def test_low_seeds_are_cheap_and_the_default_is_first() -> None:
    """Trying seeds 0, 1, 2, ... and keeping one costs about twice the logarithm of how many were tried."""
    codes = {seed: header(seed=seed) for seed in range(2000)}
    assert codes.pop(catalogue.DEFAULT_SEED) == "1"
    lengths = [len(bits) for bits in codes.values()]
    assert lengths == sorted(lengths)
    assert len(set(codes.values())) == len(codes)
    assert all(read_configuration(ExactReader(bits), MNIST).seed == seed for seed, bits in codes.items())


def test_round_dimensions_cost_six_bits_and_a_flag() -> None:
    assert len(set(catalogue.ROUND_DIMS)) == 64
    assert list(catalogue.ROUND_DIMS) == sorted(catalogue.ROUND_DIMS)
    default = catalogue.default_dim(MNIST.train_examples)
    for dim in catalogue.ROUND_DIMS:
        assert len(header(intrinsic_dim=dim)) == (1 if dim == default else FLAGS + 7)


# --- Kraft ---


def accepted_headers(task: Task, longest: int) -> dict[str, Configuration]:
    """Every bit string of at most `longest` bits that is read to its very end as a configuration."""
    accepted = {}
    open_prefixes = [""]
    while open_prefixes:
        bits = open_prefixes.pop()
        reader = ExactReader(bits)
        try:
            configuration = read_configuration(reader, task)
        except ExactReader.MoreError:
            if len(bits) < longest:
                open_prefixes += [bits + "0", bits + "1"]
        except DecodeError:
            pass
        else:
            assert reader.position == len(bits)
            accepted[bits] = configuration
    return accepted


def check_kraft(task: Task, longest: int) -> None:
    accepted = accepted_headers(task, longest)
    in_order = sorted(accepted)
    assert not any(after.startswith(before) for before, after in pairwise(in_order))
    assert sum(Fraction(1, 2 ** len(bits)) for bits in in_order) <= 1
    canonical = {bits for bits, stated in accepted.items() if bits == bit_string(written(stated, task))}
    assert len({accepted[bits] for bits in canonical}) == len(canonical)
    assert {accepted[bits] for bits in canonical} >= {
        stated for stated in set(accepted.values()) if written(stated, task).num_bits <= longest
    }
    assert len(canonical) > 100


@pytest.mark.parametrize("task", [MNIST, Task("folder:cubes", 19_999, 4)], ids=str)
def test_all_short_headers_satisfy_kraft(task: Task) -> None:
    check_kraft(task, 16)


@pytest.mark.slow
def test_all_headers_of_eighteen_bits_satisfy_kraft() -> None:
    check_kraft(MNIST, 18)


# --- what is refused, and what is not canonical ---


@pytest.mark.parametrize(
    "bits",
    [
        "0" + "00000000",  # not the default, but every field is
        "0" + "1" + "1" + "0000000",  # the model's default, spelt out
        "0" + "00" + "1" + "1" + "00000",  # the projector's
        "0" + "000" + "1" + "1" + "01101" + "0000",  # a round dimension, 4, as any other: by 4 + 1
        "0" + "0000" + "1" + "1" + "000",  # the seed's
    ],
)
def test_a_roundabout_header_is_read_but_never_written(bits: str) -> None:
    """`message.decode` refuses it, for it is not what would be written."""
    reader = ExactReader(bits + "1" * 20)
    stated = read_configuration(reader, MNIST)
    assert bit_string(written(stated, MNIST)) != (bits + "1" * 20)[: reader.position]


@pytest.mark.parametrize("field", [0, 2])
def test_a_name_beyond_the_catalogue_is_refused(field: int) -> None:
    bits = "0" + "0" * field + "1" + "00000001" + "0000000"  # 128 in Elias gamma needs 15 bits
    with pytest.raises(DecodeError, match="catalogue lacks"):
        read_configuration(ExactReader(bits), MNIST)


def test_a_brought_network_is_the_place_after_the_catalogue() -> None:
    bits = header(BROUGHT, model_name="nets:small")
    place = len(catalogue.MODELS) + 1
    assert bits == "0" + "1" + "0" * (place.bit_length() - 1) + format(place, "b") + "000000"
    stated = read_configuration(ExactReader(bits), BROUGHT)
    assert stated == complete({"model_name": "nets:small"}, BROUGHT)
    assert (stated.model_name, stated.base_width, stated.calibration_examples) == ("nets:small", None, 143)
    with pytest.raises(DecodeError, match="the receiver brings"):
        read_configuration(ExactReader(bits), replace(BROUGHT, brought=None))


def test_whoever_brings_a_network_pays_what_others_pay_for_the_catalogue() -> None:
    for name in catalogue.MODELS:
        assert header(BROUGHT, model_name=name) == header(replace(BROUGHT, brought=None), model_name=name)


def test_a_network_without_a_width_does_not_pay_for_its_flag() -> None:
    for name in WITHOUT_WIDTH:
        assert complete({"model_name": name}, MNIST).base_width is None
        place = list(catalogue.MODELS).index(name) + 1
        assert len(header(model_name=name)) == FLAGS - 1 + 2 * place.bit_length() - 1


def test_the_order_of_the_catalogue_is_the_format() -> None:
    """New entries go to the end: a place in these tables is what a message carries."""
    digest = sha256(" ".join(list(catalogue.MODELS)[:86]).encode()).hexdigest()
    assert digest == "cbbfcb0ee4bfd2726f30a5329687810ac2b450cdaeef2a38ac816e18b33889eb"
    assert list(catalogue.MODELS)[:7] == ["lenet5", "fc", "layer13s", "lenet", "resnet20", "resnet18k", "squeezenet1_0"]


def test_a_standard_deviation_of_zero_is_refused() -> None:
    with pytest.raises(DecodeError, match="zero"):
        read_configuration(ExactReader("0" + "000000" + "1" + "0" * 28), MNIST)


def test_a_rate_above_one_is_refused() -> None:
    with pytest.raises(DecodeError, match="above 1"):
        read_configuration(ExactReader("0" + "0000000" + "1" + format(10**4 + 1, "014b")), MNIST)


@pytest.mark.parametrize(
    "given",
    [
        {"base_width": 0},
        {"base_width": None},
        {"model_name": "squeezenet1_0"},  # with the width of another
        {"model_name": "nets:small", "base_width": None},
        {"intrinsic_dim": -1},
        {"calibration_examples": -1},
        {"seed": -2},
        {"normalisation": ((-0.1,), (0.5,))},
        {"normalisation": ((0.1,), (1.6384,))},
        {"label_noise": 1.6384},
        {"label_noise": -0.1},
        {"model_name": "nothing"},
        {"intrinsic_mode": "nothing"},
    ],
    ids=str,
)
def test_what_has_no_code_is_not_written(given: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        written(replace(complete({}, MNIST), **given), MNIST)


def test_integers_are_below_two_to_the_64() -> None:
    writer = BitWriter()
    writer.write(0b000001, 6)  # only the seed differs
    write_delta(writer, 2**64)
    writer.write(0, 10)
    with pytest.raises(DecodeError, match="too large"):
        read_configuration(BitReader(writer.to_bytes()), MNIST)


@given(st.binary(max_size=40), st.sampled_from(TASKS))
def test_random_bits_are_a_configuration_or_an_error(data: bytes, task: Task) -> None:
    reader = BitReader(data)
    try:
        stated = read_configuration(reader, task)
    except DecodeError:
        return
    assert read_configuration(ExactReader(bit_string(written(stated, task))), task) == stated


# --- golden ---

PUBLISHED: Statistics = ((0.1307,), (0.3081,))


@pytest.mark.parametrize(
    ("given", "bits"),
    [
        ({"seed": 0}, "0" + "0000" + "1" + "0100" + "000"),
        ({"intrinsic_dim": 1000}, "0" + "000" + "1" + "0" + "011011" + "0000"),
        ({"model_name": "fc", "base_width": 100}, "0" + "1" + "010" + "1" + "0000001100100" + "000000"),
        (
            {"intrinsic_mode": "dense", "intrinsic_dim": 999},
            "0" + "00" + "1" + "010" + "1" + "1" + "0001010" + "111101000" + "0000",
        ),
        ({"calibration_examples": 7}, "0" + "00000" + "1" + "00100000" + "00"),
        ({"normalisation": PUBLISHED}, "0" + "000000" + "1" + format(1307, "014b") + format(3081, "014b") + "0"),
        ({"label_noise": 0.06}, "0" + "0000000" + "1" + format(600, "014b")),
    ],
    ids=str,
)
def test_golden_headers(given: dict[str, Any], bits: str) -> None:
    assert header(**given) == bits


def test_fields_are_written_in_their_order() -> None:
    assert list(complete({}, MNIST).as_dict()) == [field.name for field in fields(Configuration)]
    assert complete({"seed": None, "base_width": 3}, MNIST) == complete({"base_width": 3}, MNIST)
