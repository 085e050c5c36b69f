"""Adaptive codes of sequences decode, are prefix-free, and cost at most two bits more than the estimator says."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import pairwise, product
from math import ceil, log2

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pactl_cli.certificate import symbols as module
from pactl_cli.certificate.codes import BitReader, BitWriter, DecodeError, encode_decisions
from pactl_cli.certificate.symbols import (
    Symbols,
    SymbolTree,
    ideal_bits,
    learned_probabilities,
    ordered_tree,
    read_symbols,
    symbol_trees,
    symmetric_tree,
    write_symbols,
)

SIZES = (1, 2, 3, 4, 5, 7, 8, 16, 21, 101, 256)

# --- the oracle: the definition of the model, one symbol after the other, in fractions ---

Branch = tuple[tuple[str, int, int] | None, int]  # whose counts (None: a fair coin), which way


def halving(name: str, low: int, high: int, place: int) -> list[Branch]:
    """Return the path to `place` among low .. high-1 by halving, with the first half rounded up."""
    if high - low == 1:
        return []
    middle = low + ceil((high - low) / 2)
    if place < middle:
        return [((name, low, high), 0), *halving(name, low, middle, place)]
    return [((name, low, high), 1), *halving(name, middle, high, place)]


def ordered_way(symbol: int, size: int) -> list[Branch]:
    return halving("symbol", 0, size, symbol)


def symmetric_way(symbol: int, size: int) -> list[Branch]:
    """Return the path to a symbol: the middle or not; then a fair sign, positive first; then the distance."""
    offset = symbol - size // 2
    if not offset:
        return [(("middle", 0, 0), 0)]
    return [(("middle", 0, 0), 1), (None, int(offset < 0)), *halving("distance", 1, size // 2 + 1, abs(offset))]


Way = Callable[[int, int], list[Branch]]


def ways(size: int) -> list[Way]:
    return [symmetric_way, ordered_way] if size % 2 and size > 1 else [ordered_way]


def steps(way: Way, symbols: Iterable[int], size: int) -> list[tuple[int, int, int]]:
    """Return every decision with its Krichevsky-Trofimov frequencies, (count of zeros + 1/2) / (seen + 1), doubled."""
    counts: defaultdict[tuple[str, int, int], list[int]] = defaultdict(lambda: [0, 0])
    made = []
    for symbol in symbols:
        for context, decision in way(symbol, size):
            seen = [0, 0] if context is None else counts[context]
            made.append((decision, 2 * seen[0] + 1, 2 * sum(seen) + 2))
            seen[decision] += 1
    return made


def probability(way: Way, symbols: Iterable[int], size: int) -> Fraction:
    exact = Fraction(1)
    for decision, zero, total in steps(way, symbols, size):
        exact *= Fraction(total - zero if decision else zero, total)
    return exact


def expected_code(symbols: list[int], size: int) -> str:
    """Return the shortest code of all trees, the first of equals, after the place of its tree."""
    codes = []
    for index, way in enumerate(ways(size)):
        writer = BitWriter()
        writer.write(index, len(ways(size)) - 1)
        made = steps(way, symbols, size)
        encode_decisions(writer, *([step[field] for step in made] for field in range(3)))
        codes.append(bit_string(writer))
    return min(codes, key=len)


# --- the system under test ---


def bit_string(writer: BitWriter) -> str:
    return "".join(format(byte, "08b") for byte in writer.to_bytes())[: writer.num_bits]


def code(symbols: Iterable[int], size: int) -> str:
    writer = BitWriter()
    write_symbols(writer, np.array(list(symbols), dtype=np.int64), size)
    return bit_string(writer)


def check(symbols: Symbols, size: int, before: list[int], after: list[int]) -> int:
    """Check that a sequence decodes from amid other bits and consumes exactly its own; return how many."""
    writer = BitWriter()
    writer.extend(before)
    write_symbols(writer, symbols, size)
    end = writer.num_bits
    writer.extend(after)
    reader = BitReader(writer.to_bytes())
    reader.skip(len(before))
    decoded = read_symbols(reader, len(symbols), size)
    np.testing.assert_array_equal(decoded, symbols)
    assert decoded.dtype == np.int64
    assert reader.position == end
    return end - len(before)


def check_length(num_bits: int, symbols: Symbols, size: int) -> None:
    """Check that a length is that of the better tree and its choice, plus at most two bits."""
    trees = symbol_trees(size)
    ideal = min(ideal_bits(tree, symbols) for tree in trees) + (len(trees) - 1)
    assert ideal - 1e-6 <= num_bits <= ideal + 2 + 1e-6


def adversarial(size: int) -> list[list[int]]:
    """Return sequences that surprise an estimator."""
    last, middle = size - 1, size // 2
    return [
        [],
        [0],
        [last],
        [middle],
        [0] * 500,
        [last] * 500,
        [middle] * 500,
        [0] * 300 + [last],
        [middle] * 300 + [0, last],
        [last] + [0] * 300,
        [0, last] * 150,
        [0] * 150 + [last] * 150,
        list(range(size)),
        list(range(size))[::-1],
        [symbol for run in range(1, 20) for symbol in [run % size] * run],
    ]


@pytest.mark.parametrize("size", SIZES)
def test_adversarial_sequences_come_back(size: int) -> None:
    for sequence in adversarial(size):
        symbols = np.array(sequence, dtype=np.int64)
        for after in ([], [0] * 70, [1] * 70, [1, 0] * 35):
            check_length(check(symbols, size, [1, 0, 1], after), symbols, size)


@pytest.mark.parametrize("size", SIZES)
def test_thousands_of_random_sequences_come_back(size: int) -> None:
    rng = np.random.default_rng(size)
    for _ in range(200):
        frequencies = rng.dirichlet(np.full(size, rng.choice([0.05, 0.3, 1, 10])))
        symbols = rng.choice(size, rng.integers(0, 60), p=frequencies)
        before, after = (rng.integers(0, 2, rng.integers(0, 70)).tolist() for _ in range(2))
        check_length(check(symbols, size, before, after), symbols, size)


@given(
    st.integers(1, 256).flatmap(lambda size: st.tuples(st.lists(st.integers(0, size - 1), max_size=100), st.just(size)))
)
@example(([0, 2], 3))  # its two trees give the same probability
@example(([], 1))
def test_the_code_is_the_defined_one(sequence: tuple[list[int], int]) -> None:
    symbols, size = sequence
    assert code(symbols, size) == expected_code(symbols, size)


@given(
    st.integers(1, 30).flatmap(lambda size: st.tuples(st.lists(st.integers(0, size - 1), max_size=60), st.just(size)))
)
def test_ideal_bits_are_the_exact_probability(sequence: tuple[list[int], int]) -> None:
    symbols, size = sequence
    for tree, way in zip(symbol_trees(size), ways(size), strict=True):
        exact = probability(way, symbols, size)
        bits = log2(exact.denominator) - log2(exact.numerator)
        assert ideal_bits(tree, np.array(symbols, dtype=np.int64)) == pytest.approx(bits, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize(("size", "count"), [(1, 6), (2, 8), (3, 5), (4, 4), (5, 4)])
def test_probabilities_sum_to_one(size: int, count: int) -> None:
    for way in ways(size):
        assert sum(probability(way, symbols, size) for symbols in product(range(size), repeat=count)) == 1


def check_kraft(size: int, count: int) -> None:
    """Check that the codes of all K^d sequences are prefix-free, and cost their exact price."""
    codes = {symbols: code(symbols, size) for symbols in product(range(size), repeat=count)}
    in_order = sorted(codes.values())
    assert len(in_order) == size**count
    assert not any(after.startswith(before) for before, after in pairwise(in_order))
    total = sum(Fraction(1, 2 ** len(bits)) for bits in in_order)
    assert total <= 1
    assert total >= Fraction(1, 8)  # at most 2 bits and the tree's are lost
    for symbols, bits in codes.items():
        best = max(probability(way, symbols, size) for way in ways(size)) / 2 ** (len(ways(size)) - 1)
        spent = Fraction(1, 2 ** len(bits))
        assert best / 4 * Fraction(999_999, 10**6) <= spent <= best * Fraction(1_000_001, 10**6)


@pytest.mark.parametrize(
    ("size", "count"),
    [
        *((1, d) for d in (0, 1, 6)),
        *((2, d) for d in range(10)),
        *((3, d) for d in range(7)),
        *((4, d) for d in range(1, 5)),
        *((5, d) for d in range(1, 5)),
        *((7, 3), (8, 3), (11, 2), (40, 1)),
    ],
)
def test_all_codes_of_one_length_are_prefix_free(size: int, count: int) -> None:
    check_kraft(size, count)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "count"), [(2, 13), (3, 8), (4, 5), (4, 6), (5, 5), (5, 6), (256, 1), (31, 2)])
def test_all_codes_of_one_length_are_prefix_free_at_length(size: int, count: int) -> None:
    check_kraft(size, count)


def test_one_level_is_free() -> None:
    for count in (0, 1, 1000):
        assert check(np.zeros(count, dtype=np.int64), 1, [], [1, 1]) == 0


def test_a_level_never_used_costs_little() -> None:
    """The code is adaptive: it transmits nothing about the 253 levels that do not occur."""
    symbols = np.random.default_rng(0).integers(0, 3, 4000)
    three, many = (check(symbols, size, [], []) for size in (4, 256))
    assert three < many < three + 50


def test_the_better_tree_is_taken() -> None:
    rng = np.random.default_rng(0)
    symmetric = rng.choice([-2, -1, 0, 1, 2], 3000, p=[0.02, 0.08, 0.8, 0.08, 0.02]) + 2
    assert code(symmetric, 5)[0] == "0"
    assert code(rng.choice(5, 3000, p=[0.6, 0.1, 0.1, 0.1, 0.1]), 5)[0] == "1"


@pytest.mark.parametrize("relative", [-1e-12, 1e-12])
def test_the_code_does_not_hang_on_rounding(relative: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine may compute other last digits of the log-gamma function; the message must not change."""
    sequences = [symbols for count in range(6) for symbols in product(range(3), repeat=count)]
    before = [code(symbols, 3) for symbols in sequences]

    def elsewhere(tree: SymbolTree, symbols: Symbols) -> float:
        return ideal_bits(tree, symbols) * (1 + relative * (tree == symmetric_tree(tree.size))) + 1e-12

    monkeypatch.setattr(module, "ideal_bits", elsewhere)
    assert [code(symbols, 3) for symbols in sequences] == before


def test_trees_reach_every_symbol_once() -> None:
    for size in range(1, 70):
        for tree in symbol_trees(size):
            paths = [tuple(decision for _, decision in path) for path in tree.paths()]
            assert len(set(paths)) == size
            assert sum(Fraction(1, 2 ** len(path)) for path in paths) == 1
        assert max(map(len, paths)) == (size - 1).bit_length()  # the ordered tree, which comes last
        assert len(symbol_trees(size)) == (2 if size % 2 and size > 1 else 1)


@settings(max_examples=50)
@given(st.integers(1, 60))
def test_the_symmetric_tree_is_symmetric(radius: int) -> None:
    """Mirrored symbols share every count, and so cost the same."""
    rng = np.random.default_rng(radius)
    symbols = rng.integers(0, 2 * radius + 1, 50)
    flipped = np.where(rng.integers(0, 2, 50) == 1, symbols, 2 * radius - symbols)
    tree = symmetric_tree(2 * radius + 1)
    assert ideal_bits(tree, symbols) == ideal_bits(tree, flipped)


@pytest.mark.parametrize(("symbols", "size"), [([3], 3), ([0, -1], 3), ([1], 1), ([0, 256], 256)])
def test_a_symbol_out_of_range_is_refused(symbols: list[int], size: int) -> None:
    writer = BitWriter()
    with pytest.raises(ValueError, match="must lie in"):
        write_symbols(writer, np.array(symbols), size)
    assert writer.num_bits == 0


@pytest.mark.parametrize("size", [2, 3, 16, 21, 256])
def test_a_truncated_sequence_is_an_error(size: int) -> None:
    symbols = np.random.default_rng(1).integers(0, size, 300)
    writer = BitWriter()
    write_symbols(writer, symbols, size)
    data = writer.to_bytes()
    for length in range(len(data)):
        with pytest.raises(DecodeError, match="too early"):
            read_symbols(BitReader(data[:length]), 300, size)


@given(st.binary(max_size=40), st.integers(0, 200), st.integers(1, 40))
def test_random_bits_are_symbols_or_an_error(data: bytes, count: int, size: int) -> None:
    reader = BitReader(data)
    try:
        symbols = read_symbols(reader, count, size)
    except DecodeError:
        return
    assert reader.position <= 8 * len(data)
    assert len(symbols) == count
    assert all(0 <= symbol < size for symbol in symbols)


GOLDEN = {
    "signs": ([0, 1, 2, 1, 1, 0, 1, 2, 1, 1], 3),
    "empty grid": ([5] * 40 + [4], 11),
    "skewed": ([4, 0, 0, 0, 1, 0, 0, 0, 0, 0], 5),
    "even": ([0, 1, 2, 3, 3, 2, 1, 0, 0, 0], 4),
    "bytes": (list(b"pactl"), 256),
    "one": ([6], 7),
}


@pytest.mark.parametrize(
    ("name", "num_bits", "coded"),
    [
        ("signs", 18, "6451c0"),
        ("empty grid", 16, "0b51"),
        ("skewed", 18, "e02180"),
        ("even", 25, "2efcbc00"),
        ("bytes", 35, "7056624ce0"),
        ("one", 3, "e0"),
    ],
)
def test_golden_codes(name: str, num_bits: int, coded: str) -> None:
    writer = BitWriter()
    write_symbols(writer, np.array(GOLDEN[name][0]), GOLDEN[name][1])
    assert (writer.num_bits, writer.to_bytes().hex()) == (num_bits, coded)


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 256])
def test_half_a_million_symbols_come_back(size: int) -> None:
    rng = np.random.default_rng(size)
    symbols = np.clip(np.rint(rng.laplace(size // 2, size / 12, 500_000)), 0, size - 1).astype(np.int64)
    check_length(check(symbols, size, [1], [0, 1] * 40), symbols, size)


def test_the_ordered_tree_of_one_symbol_has_no_decision() -> None:
    assert ordered_tree(1).paths() == [[]]


# --- what the model has learned ---


@given(st.sampled_from([1, 2, 3, 5, 7, 21]), st.data())
def test_what_was_learned_is_the_chance_of_the_next_symbol(size, data):
    symbols = np.array(data.draw(st.lists(st.integers(0, size - 1), max_size=40)), dtype=np.int64)
    tree = min(symbol_trees(size), key=lambda tree: ideal_bits(tree, symbols))
    chances = learned_probabilities(np.bincount(symbols, minlength=size))
    costs = [ideal_bits(tree, np.append(symbols, symbol)) - ideal_bits(tree, symbols) for symbol in range(size)]
    assert chances.sum() == pytest.approx(1)
    assert chances.shape == (size,)
    if len({round(ideal_bits(tree, symbols), 6) for tree in symbol_trees(size)}) > 1 or len(symbol_trees(size)) == 1:
        assert -np.log2(chances) == pytest.approx(np.array(costs), abs=1e-6)
