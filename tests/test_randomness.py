"""Random numbers from a seed: they agree with the generator's definition and with recorded values."""

from hashlib import blake2b

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pactl_cli import randomness
from pactl_cli.randomness import gaussians, integers, packed_signs, permutation, uniforms

WORD = 2**64
SEEDS = st.one_of(st.integers(0, 3), st.integers(0, 2**63 - 1), st.just(WORD - 1))
NAMES = st.text(max_size=20)


def philox(seed: int, name: str, count: int) -> list[int]:
    """Return words of Philox4x64-10 as its paper defines it, keyed by the seed and the name, counting from 1."""
    name_key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    words: list[int] = []
    for counter in range(1, -(-count // 4) + 1):
        block, key = [counter, 0, 0, 0], [seed, name_key]
        for _ in range(10):
            high_0, low_0 = divmod(0xD2E7470EE14C6C93 * block[0], WORD)
            high_1, low_1 = divmod(0xCA5A826395121157 * block[2], WORD)
            block = [high_1 ^ block[1] ^ key[0], low_1, high_0 ^ block[3] ^ key[1], low_0]
            key = [(key[0] + 0x9E3779B97F4A7C15) % WORD, (key[1] + 0xBB67AE8584CAA73B) % WORD]
        words += block
    return words[:count]


# --- against the definition ---


@given(SEEDS, NAMES, st.integers(0, 20))
def test_uniforms_are_the_words_scaled(seed: int, name: str, count: int) -> None:
    expected = [(2 * (word >> 12) + 1) / 2**53 for word in philox(seed, name, count)]
    assert uniforms(seed, name, count).tolist() == expected


@given(SEEDS, NAMES, st.integers(0, 20), st.integers(1, 2**16))
def test_integers_are_the_words_scaled(seed: int, name: str, count: int, below: int) -> None:
    exact = [(2 * (word >> 12) + 1) * below // 2**53 for word in philox(seed, name, count)]
    drawn = integers(seed, name, count, below)
    assert drawn.dtype == np.int64
    assert drawn.tolist() == exact


@given(SEEDS, NAMES, st.one_of(st.integers(0, 200), st.sampled_from([7, 8, 9, 63, 64, 65, 128])))
def test_signs_are_the_bits_of_the_words(seed: int, name: str, count: int) -> None:
    words = philox(seed, name, -(-count // 64))
    expected = b"".join(word.to_bytes(8, "little") for word in words)[: -(-count // 8)]
    signs = packed_signs(seed, name, count)
    assert signs.dtype == np.uint8
    assert signs.tobytes() == expected
    bits = np.unpackbits(signs, bitorder="little")[:count]
    assert bits.tolist() == [words[i // 64] >> i % 64 & 1 for i in range(count)]


@given(SEEDS, NAMES, st.integers(0, 40))
def test_permutations_sort_the_words(seed: int, name: str, length: int) -> None:
    index_bits = (length - 1).bit_length() if length else 0
    keys = [word % 2 ** (64 - index_bits) for word in philox(seed, name, length)]
    expected = sorted(range(length), key=lambda index: (keys[index], index))
    assert permutation(seed, name, length).tolist() == expected


@given(SEEDS, NAMES)
def test_gaussians_invert_the_distribution_function(seed: int, name: str) -> None:
    for gaussian, word in zip(gaussians(seed, name, 4).tolist(), philox(seed, name, 4), strict=True):
        with mpmath.workdps(40):
            uniform = mpmath.mpf(2 * (word >> 12) + 1) / 2**53
            expected = mpmath.sqrt(2) * mpmath.erfinv(2 * uniform - 1)
        assert gaussian == pytest.approx(float(expected), rel=1e-12, abs=1e-15)


# --- recorded values: a seed must not change its meaning ---


def test_golden_integers_signs_and_permutations() -> None:
    assert integers(137, "golden", 12, 1000).tolist() == [648, 341, 351, 140, 607, 160, 230, 904, 111, 274, 593, 298]
    assert packed_signs(137, "golden", 100).tobytes().hex() == "06d78a0ce80621a64a36e08b7b"
    assert permutation(137, "golden", 10).tolist() == [3, 0, 9, 1, 7, 5, 2, 6, 4, 8]


def test_golden_uniforms_and_gaussians() -> None:
    assert uniforms(137, "golden", 4).tolist() == [
        0.6489414516950477,
        0.3412088443400315,
        0.3517487688672615,
        0.14081705439378822,
    ]
    expected = [
        0.38246417541937744,
        -0.40916621152032284,
        -0.3806034273395578,
        -1.0766557033354585,
        0.27198388720056593,
        -0.9926527581547452,
    ]
    np.testing.assert_allclose(gaussians(137, "golden", 6), expected, rtol=1e-12)


# --- ranges ---


@pytest.mark.parametrize("length", [*range(70), 127, 128, 129, 1000, 65_536, 65_537])
def test_a_permutation_has_every_index_once(length: int) -> None:
    order = permutation(7, "permutation", length)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(length))


def test_equal_words_are_ordered_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomness, "_raw", lambda *_: np.array([9, 5, 9, 5, WORD - 1], dtype=np.uint64))
    assert permutation(0, "any", 5).tolist() == [1, 3, 0, 2, 4]


def test_all_orders_are_about_equally_likely() -> None:
    orders = [tuple(permutation(seed, "orders", 3).tolist()) for seed in range(6000)]
    assert all(abs(orders.count(order) - 1000) < 150 for order in set(orders))
    assert len(set(orders)) == 6


@pytest.mark.parametrize("word", [0, 1, 2**11, 2**12, 2**63 - 1, 2**63, WORD - 2**12, WORD - 2**11, WORD - 1])
def test_every_word_gives_a_number_strictly_inside(word: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 and 1 would give an infinite Gaussian, and 1 an integer out of range."""
    monkeypatch.setattr(randomness, "_raw", lambda *_: np.array([word], dtype=np.uint64))
    uniform = uniforms(0, "any", 1).item()
    assert 0 < uniform < 1
    assert uniform * 2**53 % 2 == 1
    assert np.isfinite(gaussians(0, "any", 1)).all()
    for below in (1, 2, 3, 5, 10, 1000, 2**31 - 1, 2**31, 2**52 - 1):
        assert 0 <= integers(0, "any", 1, below).item() < below


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 1000])
def test_a_shorter_stream_begins_a_longer_one(count: int) -> None:
    for draw in (uniforms, gaussians):
        np.testing.assert_array_equal(draw(5, "stream", count), draw(5, "stream", 2000)[:count])
    np.testing.assert_array_equal(packed_signs(5, "stream", 8 * count), packed_signs(5, "stream", 16_000)[:count])


# --- independence ---


def draws(seed: int, name: str) -> NDArray[np.float64]:
    return gaussians(seed, name, 10_000)


def test_a_stream_depends_on_nothing_but_seed_and_name() -> None:
    before = draws(3, "one")
    np.random.default_rng(0).normal(size=7)
    draws(4, "other")
    np.testing.assert_array_equal(draws(3, "one"), before)


def test_streams_of_other_names_and_seeds_are_uncorrelated() -> None:
    """The keys include neighbouring seeds and names that are prefixes of each other."""
    keys = [(0, "a"), (1, "a"), (2, "a"), (2**63, "a"), (0, "b"), (0, "ab"), (0, "a/1"), (0, "a/2"), (0, ""), (137, "")]
    correlations = np.corrcoef([draws(seed, name) for seed, name in keys])
    np.fill_diagonal(correlations, 0)
    assert np.abs(correlations).max() < 0.05


def test_gaussians_are_standard_normal() -> None:
    numbers = np.sort(gaussians(11, "normal", 100_000))
    assert abs(numbers.mean()) < 0.02
    assert abs(numbers.std() - 1) < 0.02
    below = [np.searchsorted(numbers, place) / len(numbers) for place in (-2, -1, 0, 1, 2)]
    assert below == pytest.approx([0.02275, 0.15866, 0.5, 0.84134, 0.97725], abs=0.01)


def test_signs_and_integers_are_fair() -> None:
    signs = np.unpackbits(packed_signs(1, "fair", 100_000))
    assert abs(signs.mean() - 0.5) < 0.01
    counts = np.bincount(integers(1, "fair", 70_000, 7))
    assert len(counts) == 7
    assert np.abs(counts - 10_000).max() < 500


@pytest.mark.parametrize("seed", [-1, WORD])
def test_a_seed_has_64_bits(seed: int) -> None:
    with pytest.raises(OverflowError):
        uniforms(seed, "any", 1)
