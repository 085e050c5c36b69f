"""Whole messages decode, have one form only, and 2**-bits is a probability over all accepted messages."""

from fractions import Fraction
from itertools import pairwise, product
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pactl_cli import catalogue
from pactl_cli.certificate import codebook as codebook_module
from pactl_cli.certificate import message as message_module
from pactl_cli.certificate.codebook import Codebook, FreeLevels, Grid, write_codebook
from pactl_cli.certificate.codes import BitReader, BitWriter, DecodeError, write_delta
from pactl_cli.certificate.configuration import complete, write_configuration
from pactl_cli.certificate.format import MAX_DIM, default_dim
from pactl_cli.certificate.message import Encoded, Message, decode, encode
from pactl_cli.certificate.symbols import read_symbols
from pactl_cli.certificate.task import Task

MNIST = Task("mnist", 60_000, 1)


def task_with_default(dim: int) -> Task:
    """Return the task of the smallest data set whose default is d = `dim`."""
    sizes = range(1, 100 * dim)
    return Task("npz:tiny.npz", next(n for n in sizes if default_dim(n) == dim), 3)


TINY = task_with_default(2)
TASKS = [MNIST, TINY, Task("folder:photos", 1_300_000, 3)]


@pytest.fixture(scope="module", autouse=True)
def few_dimensions() -> Any:
    """Limit messages to 10,000 coordinates: a few bits may claim up to 2**26, which would take too long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(message_module, "MAX_DIM", 10_000)
        yield


def bit_string(encoded: Encoded) -> str:
    return "".join(format(byte, "08b") for byte in encoded.data)[: encoded.bits]


def packed(bits: str) -> bytes:
    writer = BitWriter()
    writer.extend(map(int, bits))
    return writer.to_bytes()


def is_same(one: Message, other: Message) -> bool:
    parts = (one.configuration, one.codebook) == (other.configuration, other.codebook)
    return parts and np.array_equal(one.symbols, other.symbols)


def build(codebook: Codebook | None, symbols: list[int], task: Task = MNIST, **given: Any) -> Message:
    """Return the message of these symbols, with defaults for all other fields."""
    configuration = complete(given | {"intrinsic_dim": len(symbols)}, task)
    return Message(configuration, codebook, np.array(symbols, dtype=np.int64))


STEP = st.sampled_from([2.0**-24, 0.0625, 1.0, 65504.0])
CODEBOOKS = st.one_of(
    st.just(Grid(1.0, 0)),
    st.builds(Grid, STEP, st.integers(1, 40)),
    st.sets(st.integers(-2048, 2048), min_size=1, max_size=12).map(
        lambda levels: FreeLevels(tuple(float(level) for level in sorted(levels)))
    ),
)


@st.composite
def statements(draw: st.DrawFn) -> tuple[Message, Task]:
    task = draw(st.sampled_from(TASKS))
    model = draw(st.none() | st.sampled_from(list(catalogue.MODELS)))
    has_width = model is None or catalogue.MODELS[model].width is not None
    configuration = {
        "model_name": model,
        "base_width": draw(st.none() | st.integers(1, 4096)) if has_width else None,
        "intrinsic_mode": draw(st.none() | st.sampled_from(list(catalogue.PROJECTORS))),
        "seed": draw(st.none() | st.integers(0, 2**63 - 1)),
        "calibration_examples": draw(st.none() | st.integers(0, task.train_examples)),
    }
    codebook = draw(CODEBOOKS)
    symbols = draw(st.lists(st.integers(0, codebook.size - 1), max_size=60))
    return build(codebook if symbols else None, symbols, task, **configuration), task


# --- messages come back ---


@given(statements())
@example((build(None, []), MNIST))
@example((build(Grid(1.0, 0), [0] * 9999), MNIST))
@example((build(FreeLevels((0.5,)), [0, 0], TINY), TINY))
def test_messages_come_back(statement: tuple[Message, Task]) -> None:
    message, task = statement
    encoded = encode(message, task)
    decoded, again = decode(encoded.data, task)
    assert is_same(decoded, message)
    assert again == encoded
    assert decoded.coordinates().tobytes() == message.coordinates().tobytes()
    assert 0 <= 8 * len(encoded.data) - encoded.bits < 8


def test_the_parts_are_the_bits() -> None:
    task = task_with_default(300)
    encoded = encode(build(Grid(1.0, 1), [1] * 300, task), task)
    assert encoded.configuration_bits == 1
    assert encoded.codebook_bits == 1 + 3 + 15
    assert encoded.symbols_bits == 1 + 5  # the tree, and log2 of sqrt(300 pi), rounded up
    assert encoded.bits == 1 + 19 + 6
    assert encode(build(Grid(1.0, 0), [0] * 300, task), task).bits == 1 + 2
    empty = encode(build(None, []), MNIST)
    assert (empty.codebook_bits, empty.symbols_bits) == (0, 0)
    assert empty.bits == empty.configuration_bits == 1 + 1 + 2 + 1


def test_coordinates_are_the_levels() -> None:
    assert build(Grid(0.25, 2), [0, 4, 2, 3]).coordinates().tolist() == [-0.5, 0.5, 0.0, 0.25]
    assert build(FreeLevels((-3.0, 0.5)), [1, 0, 1]).coordinates().tolist() == [0.5, -3.0, 0.5]
    assert build(None, []).coordinates().shape == (0,)


# --- one form only ---

REAL = [
    (build(Grid(0.0625, 2), [2, 2, 1, 2, 3, 2, 2, 4, 0, 2, 2, 2] * 3), MNIST),
    (build(FreeLevels((-1.0, -0.25, 0.5, 2.0)), [0, 1, 2, 3, 3, 1, 2], seed=42, model_name="fc"), MNIST),
    (build(Grid(0.5, 1), [0, 2], TINY), TINY),
    (build(FreeLevels((0.0, 0.125, 1.5)), [1, 0, 2, 2] * 9, normalisation=((0.1307,), (0.3081,))), MNIST),
    (build(None, [], TINY, base_width=77, calibration_examples=3), TINY),
]
REAL_IDS = ["grid", "free", "default", "normalised", "empty"]


@pytest.mark.parametrize(("message", "task"), REAL, ids=REAL_IDS)
def test_every_truncation_is_an_error(message: Message, task: Task) -> None:
    data = encode(message, task).data
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            decode(data[:length], task)


@pytest.mark.parametrize(("message", "task"), REAL, ids=REAL_IDS)
def test_nothing_may_follow(message: Message, task: Task) -> None:
    encoded = encode(message, task)
    for tail in (b"\0", b"\1", b"\x80", bytes(100), encoded.data):
        with pytest.raises(DecodeError):
            decode(encoded.data + tail, task)
    for place in range(8 * len(encoded.data) - encoded.bits):
        altered = bytearray(encoded.data)
        altered[-1] |= 1 << place
        with pytest.raises(DecodeError, match="followed by something else"):
            decode(bytes(altered), task)


@pytest.mark.parametrize(("message", "task"), REAL, ids=REAL_IDS)
def test_a_flipped_bit_is_another_message_or_an_error(message: Message, task: Task) -> None:
    data = encode(message, task).data
    refused = 0
    for place in range(8 * len(data)):
        altered = bytearray(data)
        altered[place // 8] ^= 0x80 >> place % 8
        try:
            decoded, encoded = decode(bytes(altered), task)
        except DecodeError:
            refused += 1
            continue
        assert not is_same(decoded, message)
        assert encoded.data == bytes(altered)
    assert refused


def header_of(configuration_bits: str, codebook: Codebook) -> str:
    writer = BitWriter()
    write_codebook(writer, codebook)
    return configuration_bits + "".join(format(byte, "08b") for byte in writer.to_bytes())[: writer.num_bits]


@pytest.mark.parametrize(
    ("bits", "says"),
    [
        ("0" + "1" + "0" + "000001" + "1", "spells out the default"),  # d = 2, as a round one
        ("0" + "1" + "1" + "0101" + "1", "spells out the default"),  # d = 2, as any other
        ("0" + "1" + "1" + "01101" + "1", "not in the form"),  # d = 4, which is round, as any other
    ],
)
def test_a_roundabout_configuration_is_refused(bits: str, says: str) -> None:
    assert decode(packed("1" + "01"), TINY)[0].configuration == complete({}, TINY)
    with pytest.raises(DecodeError, match=says):
        decode(packed(bits + "01"), TINY)


def test_other_forms_of_a_sequence_are_refused() -> None:
    """The symbols can be read along the longer tree, or from another point of the interval, but are not written so."""
    before = header_of("1", Grid(1.0, 1))
    canonical = {bit_string(encode(build(Grid(1.0, 1), [*pair], TINY), TINY)) for pair in product(range(3), repeat=2)}
    others: set[str] = set()
    for length in range(1, 9):
        for tail in map("".join, product("01", repeat=length)):
            reader = BitReader(packed(tail))
            try:
                read_symbols(reader, 2, 3)
                reader.finish()
            except DecodeError:
                continue
            if reader.position == length and before + tail not in canonical:
                others.add(tail)
    assert {tail[0] for tail in others} == {"0", "1"}  # along either tree
    assert len(others) > 9
    for tail in others:
        with pytest.raises(DecodeError, match="not in the form"):
            decode(packed(before + tail), TINY)


# --- Kraft ---


def accepted_bytes(task: Task, longest: int) -> dict[str, Message]:
    """Return every message of at most `longest` bytes, by its bits without padding."""
    accepted = {}
    for length in range(longest + 1):
        for number in range(256**length):
            try:
                message, encoded = decode(number.to_bytes(length), task)
            except DecodeError:
                continue
            accepted[bit_string(encoded)] = message
    return accepted


def check_kraft(accepted: dict[str, Message], task: Task) -> None:
    in_order = sorted(accepted)
    assert not any(after.startswith(before) for before, after in pairwise(in_order))
    assert sum(Fraction(1, 2 ** len(bits)) for bits in in_order) <= 1
    stated = {(m.configuration, m.codebook, tuple(m.symbols)) for m in accepted.values()}
    assert len(stated) == len(accepted)
    for bits, message in accepted.items():
        assert bit_string(encode(message, task)) == bits


@pytest.fixture
def fifteen_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there are fifteen half-precision numbers, so that whole messages fit in two bytes."""
    monkeypatch.setattr(codebook_module, "_LARGEST", 7)


@pytest.mark.slow
@pytest.mark.parametrize("task", [task_with_default(dim) for dim in (1, 2, 3)], ids=str)
def test_all_messages_of_two_bytes_satisfy_kraft(task: Task, fifteen_halves: None) -> None:
    accepted = accepted_bytes(task, 2)
    check_kraft(accepted, task)
    assert len({message.codebook for message in accepted.values()}) > 100
    dims = {message.configuration.intrinsic_dim for message in accepted.values()}
    assert dims >= {0, default_dim(task.train_examples)}


def test_all_messages_of_a_byte_satisfy_kraft(fifteen_halves: None) -> None:
    accepted = accepted_bytes(TINY, 1)
    check_kraft(accepted, TINY)
    dims = {message.configuration.intrinsic_dim for message in accepted.values()}
    assert dims == {0, 2}  # nothing else is said in a byte
    default = [message for message in accepted.values() if message.configuration == complete({}, TINY)]
    assert len(default) == 1 + 15  # the grid of one level and the free levels of one


def test_many_messages_about_one_task_do_not_begin_one_another() -> None:
    rng = Random(0)
    codes: dict[str, Message] = {}
    for _ in range(2000):
        given = {"seed": rng.choice([None, rng.randrange(20)]), "base_width": rng.choice([None, rng.randrange(1, 30)])}
        levels = FreeLevels(tuple(sorted({float(rng.randrange(-3, 4)) for _ in range(rng.randrange(1, 4))})))
        codebook: Codebook = rng.choice((Grid(1.0, rng.randrange(3)), levels))
        symbols = [rng.randrange(codebook.size) for _ in range(rng.choice([1, 2, 3, 4]))]
        message = build(codebook, symbols, TINY, **given)
        codes[bit_string(encode(message, TINY))] = message
    assert len(codes) > 1000
    check_kraft(codes, TINY)


# --- whatever the bytes ---


@given(st.binary(max_size=80), st.sampled_from(TASKS))
@example(b"", MNIST)
@example(bytes(80), MNIST)
@example(b"\xff" * 80, MNIST)
def test_random_bytes_are_a_message_in_its_own_form_or_an_error(data: bytes, task: Task) -> None:
    try:
        message, encoded = decode(data, task)
    except DecodeError:
        return
    assert encode(message, task) == encoded
    assert encoded.data == data


@given(st.sampled_from(REAL), st.randoms(use_true_random=False))
def test_altered_messages_are_messages_or_errors(real: tuple[Message, Task], rng: Random) -> None:
    message, task = real
    data = bytearray(encode(message, task).data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data))
        data[place : place + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2)) or b"\0"
    try:
        decoded, encoded = decode(bytes(data), task)
    except DecodeError:
        return
    assert encoded == encode(decoded, task)
    assert encoded.data == bytes(data)


@pytest.mark.parametrize("dim", [10_001, MAX_DIM, MAX_DIM + 1, 2**63, 2**64 - 2])
def test_too_many_coordinates_are_refused_at_once(dim: int) -> None:
    writer = BitWriter()
    writer.write(0b011, 3)
    write_delta(writer, dim + 1)
    writer.write(0b1, 1)
    writer.write(0b01, 2)
    with pytest.raises(DecodeError, match="coordinates, more than"):
        decode(writer.to_bytes(), MNIST)


# --- golden ---


@pytest.mark.parametrize(
    ("place", "bits", "coded"),
    [
        (0, (14, 19, 64), "662cd6001675aefafdc9b0d300"),
        (1, (29, 67, 19), "640996ae431a1ca0fa3c41002efbe0"),
        (2, (1, 19, 5), "93800680"),
        (3, (49, 51, 61), "6628a146cc09ed05d0ea4ceff3ce8c21d74de0ba80"),
        (4, (33, 0, 0), "71009a4c80"),
    ],
)
def test_golden_messages(place: int, bits: tuple[int, int, int], coded: str) -> None:
    encoded = encode(*REAL[place])
    assert (encoded.configuration_bits, encoded.codebook_bits, encoded.symbols_bits) == bits
    assert encoded.data.hex() == coded
    assert is_same(decode(bytes.fromhex(coded), REAL[place][1])[0], REAL[place][0])


def test_the_header_comes_first() -> None:
    message, task = REAL[1]
    writer = BitWriter()
    write_configuration(writer, message.configuration, task)
    assert writer.num_bits == encode(message, task).configuration_bits
    assert encode(message, task).data.startswith(writer.to_bytes()[:-1])
