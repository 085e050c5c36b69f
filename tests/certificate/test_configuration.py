"""Headers decode, cost what they should, and do not begin one another."""

from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pactl_cli import catalogue
from pactl_cli.catalogue import Statistics
from pactl_cli.certificate.codes import BitReader, BitWriter, DecodeError
from pactl_cli.certificate.configuration import Configuration, complete, read_configuration, write_configuration
from pactl_cli.certificate.format import DEFAULT_SEED, FIELDS, ROUND_DIMS, default_dim
from pactl_cli.certificate.task import Brought, Task

MNIST = Task("mnist", 60_000, 1)
NETWORK = {"intrinsic_dim": 0, "model_name": "layer13s", "base_width": 3}
SOURCE = NETWORK | {"normalisation": ((0.1,), (0.2,)), "calibration_examples": 0}
PRIOR = NETWORK | {"seed": 5, "normalisation": None, "image_size": 16}
TASKS = [
    MNIST,
    Task("mnist", 60_000, 1, defaults=SOURCE),
    Task("digits", 719, 1, calibration_pool=700, defaults=PRIOR),
    Task("digits", 1437, 1),
    Task("npz:some/where.npz", 1, 1),
    Task("npz:some/where.npz", 50, 3),
    Task("folder:photos", 1_300_000, 3),
    Task("folder:cubes", 19_999, 4),
    Task("digits", 1437, 1, Brought("nets:small", batch_statistics=True)),
]
BROUGHT = TASKS[-1]
WITHOUT_WIDTH = [entry.name for entry in catalogue.MODELS.values() if entry.width is None]

DIGITS = st.integers(0, 2**14 - 1)


def rows(channels: int, lowest: int) -> st.SearchStrategy[tuple[float, ...]]:
    number = st.integers(lowest, 2**14 - 1).map(lambda digits: digits / 10**4)
    return st.tuples(*[number] * channels)


@st.composite
def configurations(draw: st.DrawFn, task: Task) -> Configuration:
    """Draw a configuration about a task, in which any field may have its default."""
    names = [*catalogue.MODELS, *([task.brought.name] if task.brought else ())]
    model = draw(st.none() | st.sampled_from(names))
    values: dict[str, st.SearchStrategy[Any]] = {
        "base_width": st.none() if model and task.model(model).width is None else st.integers(1, 4096),
        "intrinsic_mode": st.sampled_from(list(catalogue.PROJECTORS)),
        "intrinsic_dim": st.one_of(st.sampled_from(ROUND_DIMS), st.integers(0, 2**26)),
        "seed": st.one_of(st.integers(130, 145), st.integers(0, 2**63 - 1)),
        "calibration_examples": st.integers(0, task.train_examples),
        "normalisation": st.just("calibration") | st.tuples(rows(task.channels, 0), rows(task.channels, 1)),
        "label_noise": st.integers(0, 10**4).map(lambda digits: digits / 10**4),
        "image_size": st.integers(1, 10**4),
        "freeze": st.text(max_size=50),
        "lora_rank": st.integers(0, 10**4),
        "view": st.sampled_from(list(catalogue.VIEWS)),
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
    """A reader of bits without padding, with its own error for reading past the end."""

    class MoreError(Exception):
        """The reader was asked for more bits than there are."""

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
            assert len(bits) == 1 + 5 + 1 + 2 * 14 * task.channels + 1
            assert read_configuration(ExactReader(bits), task).normalisation == entry.published


# --- what they cost ---


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_default_costs_one_bit(task: Task) -> None:
    assert header(task) == "1"
    assert read_configuration(ExactReader("1"), task) == complete({}, task)


@pytest.mark.parametrize(
    ("given", "parts", "before"),
    [
        ({"model_name": "fc"}, [(3, 3)], 14),
        ({"base_width": 1}, [(5, 1)], 10),
        ({"base_width": 4096}, [(5, 25)], 34),
        ({"intrinsic_mode": "dense"}, [(5, 1)], 12),
        ({"intrinsic_dim": 1}, [(1, 7)], 16),
        ({"intrinsic_dim": 1_000_000}, [(1, 7)], 16),
        ({"intrinsic_dim": 0}, [(1, 1 + 1)], 11),
        ({"intrinsic_dim": 6}, [(1, 1 + 5)], 15),
        ({"seed": 0}, [(3, 1)], 13),
        ({"seed": 2}, [(3, 4)], 14),
        ({"calibration_examples": 1}, [(5, 4)], 13),
        ({"label_noise": 0.0001}, [(7, 14)], 23),
        ({"label_noise": 1.0}, [(7, 14)], 23),
        ({"normalisation": ((0.1307,), (0.3081,))}, [(5, 1 + 28)], 37),
        ({"normalisation": "calibration"}, [(5, 1)], None),
        ({"image_size": 64}, [(7, 11)], None),
        ({"freeze": "^body"}, [(7, 5 + 40)], None),
        ({"lora_rank": 4}, [(7, 5)], None),
        ({"view": "crop-mirror"}, [(7, 1)], None),
        ({"view": "resized-crop"}, [(7, 3)], None),
        ({"intrinsic_dim": 1, "seed": 0, "intrinsic_mode": "dense"}, [(1, 7), (1, 1), (3, 1)], 23),
    ],
    ids=str,
)
def test_only_what_differs_is_paid_for(given: dict[str, Any], parts: list[tuple[int, int]], before: int | None) -> None:
    """Each field costs a bit, the gap and the value, and the end one bit; a flag for each field would cost more."""
    num_bits = len(header(**given))
    assert num_bits == sum(1 + gap + value for gap, value in parts) + 1
    assert before is None or num_bits <= before


def test_a_default_may_depend_on_the_fields_before() -> None:
    """Once a network is named, its own width and its own calibration are free."""
    own = complete({"model_name": "layer13s"}, MNIST)
    assert (own.base_width, own.calibration_examples) == (8, 512)
    assert len(header(model_name="layer13s")) == (1 + 3 + 3) + 1
    assert (
        len(header(model_name="layer13s", base_width=20, calibration_examples=0)) == 7 + (1 + 3 + 9) + (1 + 3 + 1) + 1
    )


def test_low_seeds_are_cheap_and_the_default_is_first() -> None:
    """The code of a seed grows with its rank, so keeping the best of the first seeds is cheap."""
    codes = {seed: header(seed=seed) for seed in range(2000)}
    assert codes.pop(DEFAULT_SEED) == "1"
    lengths = [len(bits) for bits in codes.values()]
    assert lengths == sorted(lengths)
    assert len(set(codes.values())) == len(codes)
    assert all(read_configuration(ExactReader(bits), MNIST).seed == seed for seed, bits in codes.items())


def test_round_dimensions_cost_six_bits_and_a_flag() -> None:
    assert len(set(ROUND_DIMS)) == 64
    assert list(ROUND_DIMS) == sorted(ROUND_DIMS)
    default = default_dim(MNIST.train_examples)
    for dim in ROUND_DIMS:
        assert len(header(intrinsic_dim=dim)) == (1 if dim == default else 10)


# --- Kraft ---


def accepted_headers(task: Task, longest: int) -> dict[str, Configuration]:
    """Return every bit string of at most `longest` bits that is read to its end as a configuration."""
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


@pytest.mark.parametrize("task", [*TASKS[:3], Task("folder:cubes", 19_999, 4)], ids=str)
def test_all_short_headers_satisfy_kraft(task: Task) -> None:
    check_kraft(task, 15 if task.defaults else 16)


@pytest.mark.slow
def test_all_headers_of_eighteen_bits_satisfy_kraft() -> None:
    check_kraft(MNIST, 18)


# --- what is refused, and what is not canonical ---


def test_a_roundabout_header_is_read_but_never_written() -> None:
    """It writes the round dimension 4 as any other number, so `message.decode` refuses it."""
    bits = "0" + "1" + "1" + "01101" + "1"
    stated = read_configuration(ExactReader(bits), MNIST)
    assert stated == complete({"intrinsic_dim": 4}, MNIST)
    assert bit_string(written(stated, MNIST)) != bits


def test_a_brought_network_comes_first() -> None:
    """Its place then stays the same when the catalogue grows."""
    bits = header(BROUGHT, model_name="nets:small")
    assert bits == "0" + "011" + "1" + "1"
    stated = read_configuration(ExactReader(bits), BROUGHT)
    assert stated == complete({"model_name": "nets:small"}, BROUGHT)
    assert (stated.model_name, stated.base_width, stated.calibration_examples) == ("nets:small", None, 143)
    assert read_configuration(ExactReader(bits), replace(BROUGHT, brought=None)).model_name == "lenet5"


def test_a_network_is_paid_for_by_its_place_among_those_that_are_not_the_default() -> None:
    for name in WITHOUT_WIDTH:
        assert complete({"model_name": name}, MNIST).base_width is None
        place = list(catalogue.MODELS).index(name)
        assert len(header(model_name=name)) == 1 + 3 + 2 * place.bit_length() - 1 + 1


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
        {"image_size": 0},
        {"freeze": "\ud800"},
        {"freeze": "\u00e9" * 101},
        {"lora_rank": -1},
        {"view": "nothing"},
        {"hypothesis": "nothing"},
    ],
    ids=str,
)
def test_what_has_no_code_is_not_written(given: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        written(replace(complete({}, MNIST), **given), MNIST)


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
        ({"seed": 0}, "0" + "010" + "1" + "1"),
        ({"seed": 138}, "0" + "010" + "0001000" + "0001010" + "1"),
        ({"intrinsic_dim": 1000}, "0" + "1" + "0" + "011011" + "1"),
        ({"model_name": "fc", "base_width": 100}, "0" + "011" + "010" + "0" + "010" + "0000001100100" + "1"),
        (
            {"intrinsic_mode": "dense", "intrinsic_dim": 999},
            "0" + "1" + "1" + "0001010" + "111101000" + "0" + "011" + "1" + "1",
        ),
        ({"calibration_examples": 7}, "0" + "00111" + "00100000" + "1"),
        ({"label_noise": 0.06}, "0" + "0001000" + format(600, "014b") + "1"),
        ({"normalisation": PUBLISHED}, "0" + "00110" + "0" + format(1307, "014b") + format(3081, "014b") + "1"),
        ({"image_size": 32}, "0" + "0001001" + "0011000000" + "1"),
        ({"freeze": "a"}, "0" + "0001010" + "1" + "01100001" + "1"),
        ({"lora_rank": 1, "view": "crop-mirror"}, "0" + "0001011" + "1" + "0" + "1" + "1" + "1"),
    ],
    ids=str,
)
def test_golden_headers(given: dict[str, Any], bits: str) -> None:
    assert header(**given) == bits


def test_fields_are_written_in_their_order() -> None:
    assert list(complete({}, MNIST).as_dict()) == [field.name for field in fields(Configuration)] == list(FIELDS)
    assert complete({"seed": None, "base_width": 3}, MNIST) == complete({"base_width": 3}, MNIST)
