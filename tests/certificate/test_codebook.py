"""Codebooks keep 16-bit levels exactly, in one form only, and pay for a set as a set."""

import sys
import warnings
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from math import comb, inf, nan
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pactl_cli import catalogue
from pactl_cli.certificate.codebook import Codebook, FreeLevels, Grid, read_codebook, to_half, write_codebook
from pactl_cli.certificate.codes import BitReader, BitWriter, DecodeError, write_gamma
from pactl_cli.certificate.format import MAX_LEVELS

LARGEST = 65504.0
SMALLEST = 2.0**-24

ALL_HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)
FINITE: list[float] = sorted({float(half) for half in ALL_HALVES[np.isfinite(ALL_HALVES)]})
"""Every finite half-precision number once, ascending."""

HALVES = st.sampled_from(FINITE)
STEPS = st.sampled_from([half for half in FINITE if half > 0])
GRIDS = st.builds(Grid, STEPS, st.integers(1, MAX_LEVELS // 2 - 1))
SETS = st.builds(lambda levels: FreeLevels(tuple(sorted(levels))), st.sets(HALVES, min_size=1, max_size=40))
BITS = st.lists(st.integers(0, 1), max_size=20)


def written(codebook: Codebook) -> BitWriter:
    writer = BitWriter()
    write_codebook(writer, codebook)
    return writer


def bit_string(writer: BitWriter) -> str:
    return "".join(format(byte, "08b") for byte in writer.to_bytes())[: writer.num_bits]


def from_bits(bits: str) -> BitReader:
    writer = BitWriter()
    writer.extend(map(int, bits))
    return BitReader(writer.to_bytes())


def gamma_bits(value: int) -> int:
    return 2 * value.bit_length() - 1


# --- half precision ---


def test_there_are_63487_finite_halves() -> None:
    assert (len(FINITE), FINITE[0], FINITE[-1]) == (63487, -LARGEST, LARGEST)


def test_to_half_keeps_halves() -> None:
    assert [to_half(half) for half in FINITE] == FINITE


@given(st.floats(-65519.99, 65519.99))
@example(1 + 2.0**-11)  # half way between two: to the even one
@example(1 + 3 * 2.0**-11)
@example(SMALLEST / 2)
@example(65519.99)
def test_to_half_is_the_nearest(value: float) -> None:
    half = to_half(value)
    above = np.searchsorted(FINITE, value)
    neighbours = [FINITE[place] for place in (above - 1, above) if 0 <= place < len(FINITE)]
    exact = Fraction(value)
    assert abs(Fraction(half) - exact) == min(abs(Fraction(neighbour) - exact) for neighbour in neighbours)
    assert half == float(np.float16(value))


def test_there_is_one_zero() -> None:
    for value in (-0.0, 0.0, -1e-30):
        assert np.copysign(1, to_half(value)) == 1
    assert bit_string(written(FreeLevels((-0.0,)))) == bit_string(written(FreeLevels((0.0,))))


@pytest.mark.parametrize("value", [nan, inf, -inf, 65520.0, -65520.0, 1e300])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="not a finite half-precision number"):
            to_half(value)
        with pytest.raises(ValueError, match="not a finite half-precision number"):
            written(FreeLevels((value,)))
        with pytest.raises(ValueError, match="not a finite half-precision number"):
            written(Grid(value, 1))


@pytest.mark.parametrize("value", [0.1, 1 + 2.0**-11, 2.0**-25])
def test_what_is_not_a_half_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not a finite half-precision number"):
        written(FreeLevels((0.0, value)))
    with pytest.raises(ValueError, match="not a finite half-precision number"):
        written(Grid(value, 3))


# --- sets ---


@given(SETS, BITS, BITS)
@example(FreeLevels((-LARGEST,)), [], [])
@example(FreeLevels((LARGEST,)), [1], [1])
@example(FreeLevels((-LARGEST, -SMALLEST, 0.0, SMALLEST, LARGEST)), [], [0])
@example(FreeLevels(tuple(FINITE[:40])), [], [1])
@example(FreeLevels(tuple(FINITE[-40:])), [], [1])
def test_sets_come_back(levels: FreeLevels, before: list[int], after: list[int]) -> None:
    writer = BitWriter()
    writer.extend(before)
    write_codebook(writer, levels)
    end = writer.num_bits
    writer.extend(after)
    reader = BitReader(writer.to_bytes())
    reader.skip(len(before))
    assert (read_codebook(reader), reader.position) == (levels, end)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_a_set_costs_the_logarithm_of_the_number_of_sets(size: int) -> None:
    sets = comb(63487, size)
    set_bits = written(FreeLevels(tuple(FINITE[::1000][:size]))).num_bits - 2 - gamma_bits(size)
    assert 2 ** (set_bits - 1) < sets <= 2**set_bits
    assert set_bits <= 16 * size


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("lowest", [0, 31740])
def test_small_sets_have_distinct_numbers(size: int, lowest: int) -> None:
    values = FINITE[lowest : lowest + 12]
    sets = [FreeLevels(levels) for levels in combinations(values, size)]
    codes = [bit_string(written(levels)) for levels in sets]
    assert len(set(codes)) == len(sets) == comb(12, size)
    assert len({len(bits) for bits in codes}) == 1
    assert [read_codebook(from_bits(bits)) for bits in codes] == sets


@pytest.mark.parametrize("size", [1, 2, 3])
def test_set_numbers_leave_no_gap(size: int) -> None:
    """The sets of the m lowest levels are numbered 0 .. C(m, K) - 1, and the last set of all C(63487, K) - 1."""
    start = 2 + gamma_bits(size)
    numbers = sorted(
        int(bit_string(written(FreeLevels(levels)))[start:], 2) for levels in combinations(FINITE[:10], size)
    )
    assert numbers == list(range(comb(10, size)))
    assert int(bit_string(written(FreeLevels(tuple(FINITE[-size:]))))[start:], 2) == comb(63487, size) - 1


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_a_number_beyond_the_last_set_is_refused(size: int) -> None:
    last = bit_string(written(FreeLevels(tuple(FINITE[-size:]))))
    start = 2 + gamma_bits(size)
    number_bits = len(last) - start
    beyond = last[:start] + format(int(last[start:], 2) + 1, f"0{number_bits}b")
    for bits in (beyond, last[:start] + "1" * number_bits):
        with pytest.raises(DecodeError, match="not a set"):
            read_codebook(from_bits(bits))


@pytest.mark.parametrize("levels", [(1.0, 1.0), (2.0, 1.0), (-1.0, -2.0, 3.0), (0.0, -0.0), (0.0, 1.0, 1.0)])
def test_levels_out_of_order_are_refused(levels: tuple[float, ...]) -> None:
    writer = BitWriter()
    with pytest.raises(ValueError, match="distinct and ascending"):
        FreeLevels(levels).write(writer)
    assert writer.num_bits == 0


def test_no_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="start at 1"):
        written(FreeLevels(()))


@pytest.mark.slow
def test_the_largest_set_comes_back() -> None:
    for levels in (FINITE[:MAX_LEVELS], FINITE[-MAX_LEVELS:], FINITE[:: len(FINITE) // MAX_LEVELS][:MAX_LEVELS]):
        codebook = FreeLevels(tuple(levels))
        assert read_codebook(from_bits(bit_string(written(codebook)))) == codebook


@pytest.mark.parametrize("size", [MAX_LEVELS + 1, 2**20, 2**63])
def test_too_many_levels_are_refused_at_once(size: int) -> None:
    for value, tag in ((size, (1, 1)), (size // 2 + 1, (0,))):
        writer = BitWriter()
        writer.extend(tag)
        write_gamma(writer, value)
        writer.write(0, 64)
        with pytest.raises(DecodeError, match="more than 1024 levels"):
            read_codebook(BitReader(writer.to_bytes()))


# --- grids ---


@given(GRIDS, BITS)
@example(Grid(SMALLEST, 1), [])
@example(Grid(LARGEST, 511), [1])
def test_grids_come_back(grid: Grid, after: list[int]) -> None:
    writer = written(grid)
    end = writer.num_bits
    assert end == 1 + gamma_bits(grid.radius + 1) + 15
    writer.extend(after)
    reader = BitReader(writer.to_bytes())
    assert (read_codebook(reader), reader.position) == (grid, end)


def test_a_grid_of_one_level_has_no_step() -> None:
    writer = written(Grid(0.25, 0))
    assert bit_string(writer) == "01"
    grid = read_codebook(BitReader(writer.to_bytes()))
    assert grid.size == 1
    assert grid.values().tolist() == [0.0]


def test_exactly_the_positive_finite_steps_are_accepted() -> None:
    accepted = []
    for pattern in range(2**15):
        writer = BitWriter()
        writer.write(0b0010, 4)
        writer.write(pattern, 15)
        try:
            codebook = read_codebook(BitReader(writer.to_bytes()))
        except DecodeError:
            continue
        assert isinstance(codebook, Grid)
        accepted.append(codebook.step)
    assert accepted == [half for half in FINITE if half > 0]


def test_a_negative_step_or_radius_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        written(Grid(-1.0, 1))
    with pytest.raises(ValueError, match="start at 1"):
        written(Grid(1.0, -1))


@given(GRIDS)
@example(Grid(SMALLEST, 511))
@example(Grid(LARGEST, 511))
@example(Grid(2 - 2.0**-10, 511))
def test_grid_levels_are_exact_in_single_precision(grid: Grid) -> None:
    values = grid.values()
    assert values.dtype == np.float32
    assert values.shape == (grid.size,)
    step = Fraction(grid.step)
    exact = [step * place for place in range(-grid.radius, grid.radius + 1)]
    assert [Fraction(float(value)) for value in values] == exact


@given(SETS)
def test_free_levels_are_exact_in_single_precision(levels: FreeLevels) -> None:
    values = levels.values()
    assert values.dtype == np.float32
    assert values.tolist() == list(levels.levels)
    assert levels.size == len(values)


# --- both ---


def test_unused_levels_are_not_sent() -> None:
    codebook, symbols = FreeLevels((-2.0, 0.0, 1.0, 5.0)).trimmed(np.array([2, 2, 0]))
    assert (codebook, symbols.tolist()) == (FreeLevels((-2.0, 1.0)), [1, 1, 0])
    codebook, symbols = FreeLevels((-2.0, 1.0, 1.0, 5.0)).trimmed(np.array([2, 1, 0]))
    assert (codebook, symbols.tolist()) == (FreeLevels((-2.0, 1.0)), [1, 1, 0])
    grid, symbols = Grid(1.0, 5).trimmed(np.array([6, 3, 5]))
    assert (grid, symbols.tolist()) == (Grid(1.0, 2), [3, 0, 2])


@pytest.mark.parametrize("tag", ["10" + "10", "10" + "11", "1" + "00100"])
def test_a_form_beyond_the_catalogue_is_refused(tag: str) -> None:
    with pytest.raises(DecodeError, match="catalogue lacks"):
        read_codebook(from_bits(tag + "1" * 40))


def test_a_third_form_has_its_own_tag_and_changes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a form by a row of the catalogue alone."""
    before = [bit_string(written(codebook)) for codebook in (Grid(0.5, 2), FreeLevels((1.0,)))]
    row = replace(catalogue.CODEBOOKS["bins"], name="signs", form=f"{__name__}:Signs")
    monkeypatch.setitem(catalogue.CODEBOOKS, "signs", row)
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(Signs=Signs))
    assert bit_string(written(Signs())) == "1" + "010"
    assert read_codebook(from_bits("1010")) == Signs()
    assert [bit_string(written(codebook)) for codebook in (Grid(0.5, 2), FreeLevels((1.0,)))] == before


@dataclass(frozen=True)
class Signs(Codebook):
    """A codebook with the levels -1 and 1."""

    size = 2

    def values(self) -> NDArray[np.float32]:
        return np.array([-1, 1], dtype=np.float32)

    def write(self, writer: BitWriter) -> None:
        """Write nothing: the tag says all."""

    @classmethod
    def read(cls, reader: BitReader) -> "Signs":
        return cls()

    def trimmed(self, symbols: NDArray[np.int64]) -> "tuple[Signs, NDArray[np.int64]]":
        return self, symbols


@given(st.one_of(GRIDS, SETS))
def test_every_proper_prefix_is_an_error(codebook: Codebook) -> None:
    bits = bit_string(written(codebook))
    for length in range(0, len(bits), max(1, len(bits) // 20)):
        reader = from_bits(bits[:length])
        reader._bits = reader._bits[:length]  # without the padding
        with pytest.raises(DecodeError, match="too early"):
            read_codebook(reader)


@given(st.binary(max_size=60))
def test_random_bits_are_a_codebook_in_its_own_form_or_an_error(data: bytes) -> None:
    reader = BitReader(data)
    try:
        codebook = read_codebook(reader)
    except DecodeError:
        return
    bits = "".join(format(byte, "08b") for byte in data)
    assert bit_string(written(codebook)) == bits[: reader.position]


@pytest.mark.parametrize(
    ("codebook", "bits"),
    [
        (Grid(1.0, 1), "0" + "010" + "011110000000000"),
        (Grid(0.0625, 3), "0" + "00100" + "010110000000000"),
        (FreeLevels((0.0,)), "11" + "1" + format(31743, "016b")),
        (FreeLevels((-LARGEST, LARGEST)), "11" + "010" + format(comb(63486, 2), "031b")),
        (FreeLevels((-1.0, 0.0, 2.0)), "1" + "10110100001110010110001001010011100011001111111111"),
    ],
)
def test_golden_bits(codebook: Codebook, bits: str) -> None:
    assert bit_string(written(codebook)) == bits
