"""The universal codes and the arithmetic coder decode, are prefix-free, and have the promised lengths."""

import random
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from math import log2

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pactl_cli.certificate.codes import (
    BitReader,
    BitWriter,
    DecisionReader,
    DecodeError,
    encode_decisions,
    read_delta,
    read_gamma,
    write_delta,
    write_gamma,
)

Write = Callable[[BitWriter, int], None]
Read = Callable[[BitReader], int]

ELIAS = [
    pytest.param(write_gamma, read_gamma, id="gamma"),
    pytest.param(write_delta, read_delta, id="delta"),
]
LARGEST = 2**64 - 1
MOST_TOTAL = 2**30 - 1

BITS = st.lists(st.integers(0, 1), max_size=80)


def bit_string(writer: BitWriter) -> str:
    """Return the written bits as text, without the padding."""
    return "".join(format(byte, "08b") for byte in writer.to_bytes())[: writer.num_bits]


def code(write: Write, value: int) -> str:
    writer = BitWriter()
    write(writer, value)
    return bit_string(writer)


def from_bits(bits: str) -> BitReader:
    writer = BitWriter()
    writer.extend(map(int, bits))
    return BitReader(writer.to_bytes())


def is_prefix_free(codes: Iterable[str]) -> bool:
    """Return True if no code begins another or equals it: in sorted order only neighbours need a comparison."""
    return not any(after.startswith(before) for before, after in pairwise(sorted(codes)))


def kraft_sum(codes: Iterable[str]) -> Fraction:
    return sum((Fraction(1, 2 ** len(bits)) for bits in codes), Fraction(0))


# --- bits ---


@given(st.lists(st.integers(0, 70).flatmap(lambda n: st.tuples(st.integers(0, 2**n - 1), st.just(n)))))
def test_bits_come_back(fields: list[tuple[int, int]]) -> None:
    writer = BitWriter()
    for value, num_bits in fields:
        writer.write(value, num_bits)
    assert writer.num_bits == sum(num_bits for _, num_bits in fields)
    assert len(writer.to_bytes()) == -(-writer.num_bits // 8)
    reader = BitReader(writer.to_bytes())
    assert [(reader.read(num_bits), num_bits) for _, num_bits in fields] == fields
    assert reader.position == writer.num_bits
    reader.finish()


def test_most_significant_bit_first_and_padded_with_zeros() -> None:
    writer = BitWriter()
    writer.write(0b101, 3)
    writer.extend([1, 1, 0])
    writer.write(0x1FF, 9)
    assert writer.to_bytes() == bytes([0b10111011, 0b11111110])


@pytest.mark.parametrize(("value", "num_bits"), [(-1, 4), (1, 0), (16, 4), (2**64, 64)])
def test_a_value_that_does_not_fit_is_refused(value: int, num_bits: int) -> None:
    writer = BitWriter()
    with pytest.raises(ValueError, match="does not fit"):
        writer.write(value, num_bits)
    assert writer.num_bits == 0


def test_reading_past_the_end_is_an_error_and_consumes_nothing() -> None:
    reader = BitReader(b"\xff")
    assert reader.read(5) == 31
    with pytest.raises(DecodeError, match="too early"):
        reader.read(4)
    assert (reader.position, reader.read(3)) == (5, 7)
    with pytest.raises(DecodeError, match="too early"):
        reader.skip(1)


@pytest.mark.parametrize("used", range(17))
def test_only_fewer_than_eight_zeros_may_follow(used: int) -> None:
    reader = BitReader(b"\0\0")
    reader.skip(used)
    if used > 8:
        reader.finish()
    else:
        with pytest.raises(DecodeError, match="followed by something else"):
            reader.finish()
    for place in range(used, 16):
        reader = BitReader((1 << (15 - place)).to_bytes(2))
        reader.skip(used)
        with pytest.raises(DecodeError, match="followed by something else"):
            reader.finish()


def test_looking_ahead_consumes_nothing_and_ends() -> None:
    reader = BitReader(b"\xa5")
    reader.skip(4)
    ahead = reader.lookahead()
    assert [next(ahead) for _ in range(4)] == [0, 1, 0, 1]
    assert reader.position == 4

    def rest() -> Iterator[int]:
        for _ in range(1000):
            yield next(ahead)

    with pytest.raises(DecodeError, match="too early"):
        assert not any(rest())


# --- universal codes ---


@pytest.mark.parametrize(
    ("value", "gamma", "delta"),
    [
        (1, "1", "1"),
        (2, "010", "0100"),
        (3, "011", "0101"),
        (4, "00100", "01100"),
        (7, "00111", "01111"),
        (8, "0001000", "00100000"),
        (17, "000010001", "001010001"),
    ],
)
def test_elias_codes_are_the_published_ones(value: int, gamma: str, delta: str) -> None:
    assert code(write_gamma, value) == gamma
    assert code(write_delta, value) == delta


@pytest.mark.parametrize(("write", "read"), ELIAS)
def test_elias_codes_of_small_values_are_prefix_free(write: Write, read: Read) -> None:
    codes = [code(write, value) for value in range(1, 2**12 + 1)]
    assert is_prefix_free(codes)
    assert kraft_sum(codes) < 1
    for value, bits in enumerate(codes, 1):
        reader = from_bits(bits + "1011")
        assert (read(reader), reader.position) == (value, len(bits))


def test_elias_codes_waste_nothing() -> None:
    """The codes of all values of at most n bits leave exactly the room that longer values need."""
    assert kraft_sum(code(write_gamma, value) for value in range(1, 2**12)) == 1 - Fraction(1, 2**12)
    lengths = kraft_sum(code(write_gamma, length) for length in range(1, 13))
    assert kraft_sum(code(write_delta, value) for value in range(1, 2**12)) == lengths


@pytest.mark.parametrize(("write", "read"), ELIAS)
@given(value=st.integers(0, 63).flatmap(lambda n: st.integers(2**n, 2 ** (n + 1) - 1)), before=BITS, after=BITS)
@example(value=LARGEST, before=[], after=[])
def test_elias_codes_come_back(write: Write, read: Read, value: int, before: list[int], after: list[int]) -> None:
    writer = BitWriter()
    writer.extend(before)
    write(writer, value)
    end = writer.num_bits
    writer.extend(after)
    reader = BitReader(writer.to_bytes())
    reader.skip(len(before))
    assert (read(reader), reader.position) == (value, end)


def test_the_prefix_test_can_fail() -> None:
    assert not is_prefix_free(["10", "0", "101"])
    assert not is_prefix_free(["10", "0", "10"])


@pytest.mark.parametrize(("write", "read"), ELIAS)
@pytest.mark.parametrize("value", [1, 2, 137, 2**40 + 1, LARGEST])
def test_every_proper_prefix_of_an_elias_code_is_an_error(write: Write, read: Read, value: int) -> None:
    bits = code(write, value)
    for length in range(len(bits)):
        reader = from_bits(bits[:length])
        reader._bits = reader._bits[:length]  # without the padding
        with pytest.raises(DecodeError):
            read(reader)


@pytest.mark.parametrize("bits", ["0" * 64 + "1" * 65, "0" * 1000])
def test_integers_of_more_than_64_bits_are_refused(bits: str) -> None:
    for read in (read_gamma, read_delta):
        with pytest.raises(DecodeError, match="too large"):
            read(from_bits(bits))


@pytest.mark.parametrize("length", [65, 127])
def test_a_delta_code_of_more_than_64_bits_is_refused(length: int) -> None:
    with pytest.raises(DecodeError, match="too large"):
        read_delta(from_bits(code(write_gamma, length) + "0" * length))


@pytest.mark.parametrize("write", [write_gamma, write_delta])
@pytest.mark.parametrize("value", [0, -1])
def test_elias_codes_start_at_one(write: Write, value: int) -> None:
    with pytest.raises(ValueError, match="start at 1"):
        write(BitWriter(), value)


# --- the arithmetic coder ---

Step = tuple[int, int, int]  # decision, zeros, total


def encoded(steps: list[Step]) -> BitWriter:
    writer = BitWriter()
    encode_decisions(writer, *([step[field] for step in steps] for field in range(3)))
    return writer


def check(steps: list[Step], before: list[int], after: list[int]) -> None:
    """Check that decisions decode whatever follows, consume their own bits, and cost at most 2 bits too many."""
    code_bits = bit_string(encoded(steps))
    writer = BitWriter()
    writer.extend(before)
    writer.extend(map(int, code_bits))
    end = writer.num_bits
    writer.extend(after)
    reader = BitReader(writer.to_bytes())
    reader.skip(len(before))
    source = DecisionReader(reader)
    assert [source.decide(zero, total) for _, zero, total in steps] == [decision for decision, _, _ in steps]
    assert reader.position == len(before)
    source.finish()
    assert reader.position == end
    ideal = -sum(log2((total - zero if decision else zero) / total) for decision, zero, total in steps)
    slack = 1e-9 + len(steps) * 2.0**-16  # of the coder's 48-bit words
    assert ideal - slack <= len(code_bits) <= ideal + 2 + slack


TOTALS = st.one_of(st.integers(2, 9), st.integers(2, MOST_TOTAL), st.just(MOST_TOTAL))
STEPS = TOTALS.flatmap(
    lambda total: st.tuples(
        st.integers(0, 1), st.one_of(st.integers(1, total - 1), st.sampled_from([1, total - 1])), st.just(total)
    )
)


@given(steps=st.lists(STEPS, max_size=60), before=BITS, after=BITS)
@example(steps=[(0, 1, MOST_TOTAL)] * 20, before=[], after=[1] * 9)
@example(steps=[(1, MOST_TOTAL - 1, MOST_TOTAL)] * 20, before=[1], after=[0])
@example(steps=[(1, 1, MOST_TOTAL)] * 50, before=[], after=[])
def test_decisions_come_back(steps: list[Step], before: list[int], after: list[int]) -> None:
    check(steps, before, after)


def straddling(count: int, total: int = 2**20) -> list[Step]:
    """Return decisions whose interval always contains 1/2, so that no bit is settled before the end."""
    steps: list[Step] = []
    half, quarter = 2**47, 2**46
    low, high = 0, 2**48
    for _ in range(count):
        place = Fraction(half - low, high - low)
        decision = int(place > Fraction(1, 2))
        zero = int((place / 2 if decision else (1 + place) / 2) * total)
        middle = low + (high - low) * zero // total
        low, high = (middle, high) if decision else (low, middle)
        while low >= quarter and high <= 3 * quarter:
            low, high = 2 * (low - quarter), 2 * (high - quarter)
        steps.append((decision, zero, total))
    return steps


@pytest.mark.parametrize("count", [*range(1, 20), 100, 1000])
@pytest.mark.parametrize("last", [0, 1])
def test_a_long_carry_comes_back(count: int, last: int) -> None:
    for after in ([], [0] * 60, [1] * 60, [0, 1] * 30):
        check([*straddling(count), (last, 1, 2)], [], after)


def test_a_carry_is_long() -> None:
    """The sequence of `straddling` is right for its test: hundreds of equal bits follow the first."""
    bits = bit_string(encoded(straddling(1000)))
    assert len(set(bits[1:300])) == 1
    assert bits[0] != bits[1]


@pytest.mark.parametrize("count", [1, 2, 60, 100])
def test_the_middle_half_again_and_again_comes_back(count: int) -> None:
    """The interval is the whole word again, but pending bits are still to be written."""
    steps = [(0, 3, 4), (1, 1, 3)] * count
    check(steps, [], [1])
    assert bit_string(encoded(steps)) == "0" + "1" * count


def test_no_decisions_no_bits() -> None:
    assert encoded([]).num_bits == 0
    check([], [1, 0, 1], [1, 1])


def test_a_certain_looking_sequence_is_free() -> None:
    """Any number of decisions that the model expects costs at most two bits."""
    check([(0, MOST_TOTAL - 1, MOST_TOTAL)] * 20_000, [], [1])
    assert encoded([(0, MOST_TOTAL - 1, MOST_TOTAL)] * 20_000).num_bits <= 2


def test_decisions_in_their_golden_bits() -> None:
    steps = [(1, 1, 2), (0, 1, 3), (1, 4, 5), (1, 4, 5), (0, 1, 1000), (0, 999, 1000)]
    assert bit_string(encoded(steps)) == "1010100011110101111"


@given(st.randoms(use_true_random=False), st.integers(1, 7))
def test_all_decisions_of_one_model_are_prefix_free(rng: random.Random, count: int) -> None:
    """This holds for any adaptive probabilities: each node of the tree of decisions gets its own."""
    codes: list[str] = []

    def grow(steps: list[Step]) -> None:
        if len(steps) == count:
            codes.append(bit_string(encoded(steps)))
            return
        total = rng.choice([2, 3, 10, 1000, MOST_TOTAL])
        zero = rng.choice([1, total - 1, rng.randint(1, total - 1)])
        for decision in (0, 1):
            grow([*steps, (decision, zero, total)])

    grow([])
    assert is_prefix_free(codes)
    assert kraft_sum(codes) <= 1
