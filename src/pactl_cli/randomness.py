"""Streams of random numbers from a seed, the same on every machine.

A message carries a seed, not a network; the receiver rebuilds the initialisation, the
projector and the calibration set from it. So the numbers must not depend on a device, a
thread count or a library's release. They come from the raw output of Philox4x64-10
(Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), whose bits are
fixed by its definition, keyed by the seed and by the name of the stream.

Integers, signs and permutations are bit-exact. Gaussian numbers pass through one
double-precision special function and agree to its accuracy.
"""

from __future__ import annotations

from fractions import Fraction
from hashlib import blake2b
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri


def _raw(seed: int, name: str, count: int) -> NDArray[np.uint64]:
    """Return `count` raw 64-bit words of the stream `name` of `seed`."""
    name_key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    philox = np.random.Philox(key=np.array([seed, name_key], dtype=np.uint64))
    return philox.random_raw(count)


def uniforms(seed: int, name: str, count: int) -> NDArray[np.float64]:
    """Return `count` numbers in the open interval (0, 1), each an odd multiple of 2**-53."""
    return ((_raw(seed, name, count) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def gaussians(seed: int, name: str, count: int) -> NDArray[np.float64]:
    """Return `count` standard normal numbers, by inversion of the distribution function."""
    return np.asarray(ndtri(uniforms(seed, name, count)), dtype=np.float64)


def truncated_gaussians(seed: int, name: str, count: int, low: float, high: float) -> NDArray[np.float64]:
    """Return `count` standard normal numbers conditioned on [low, high], by inversion of the distribution function."""
    if low > 0:  # the distribution function has more digits in the lower tail
        return -truncated_gaussians(seed, name, count, -high, -low)
    below, within = ndtr(low), ndtr(high) - ndtr(low)
    return np.clip(ndtri(below + within * uniforms(seed, name, count)), low, high)


def packed_signs(seed: int, name: str, count: int) -> NDArray[np.uint8]:
    """Return `count` fair bits, eight to a byte, least significant first; spare bits of the last byte are random."""
    words = _raw(seed, name, -(-count // 64)).astype("<u8")
    return words.view(np.uint8)[: -(-count // 8)]


def signs(seed: int, name: str, count: int) -> NDArray[np.int8]:
    """Return `count` fair signs, +1 or -1."""
    bits = np.unpackbits(packed_signs(seed, name, count), bitorder="little")[:count]
    return (2 * bits.astype(np.int8) - 1).astype(np.int8)


def bernoulli_places(seed: int, name: str, length: int, chance: Fraction) -> NDArray[np.int64]:
    """Return a random subset of 0 .. length - 1, ascending: each is in it with probability `chance`.

    The gaps between them are geometric. Each gap is drawn by comparing a random word with the distribution of gaps,
    tabulated in integers, so the places are bit-exact.
    """
    survival = [1 << 128]
    while survival[-1] >> 64:
        survival.append(survival[-1] * (chance.denominator - chance.numerator) // chance.denominator)
    table = np.array([value >> 64 for value in reversed(survival[1:])], dtype=np.uint64)
    found = [np.zeros(0, dtype=np.int64)]
    last, part = -1, 0
    while last < length:
        expected = float((length - last) * chance)
        words = _raw(seed, f"{name}/{part}", int(expected + 4 * sqrt(expected)) + 16)
        gaps = len(table) - np.searchsorted(table, words, side="right")
        places = last + np.cumsum(gaps + 1)
        found.append(places)
        last, part = int(places[-1]), part + 1
    places = np.concatenate(found)
    return places[: np.searchsorted(places, length)]


def integers(seed: int, name: str, count: int, below: int) -> NDArray[np.int64]:
    """Return `count` integers in [0, below), each value equally likely up to 2**-52."""
    return (uniforms(seed, name, count) * below).astype(np.int64)


def permutation(seed: int, name: str, length: int) -> NDArray[np.int64]:
    """Return a random order of 0 .. length - 1."""
    return permutations(seed, name, 1, length).ravel()


def permutations(seed: int, name: str, count: int, length: int) -> NDArray[np.int64]:
    """Return `count` independent random orders of 0 .. length - 1, shape (count, length).

    Every index is written into the low bits of a random word, and the words are sorted. No two are equal, so the order
    does not depend on the sorting algorithm.
    """
    index_bits = np.uint64(max(length - 1, 0).bit_length())
    words = _raw(seed, name, count * length).reshape(count, length)
    words <<= index_bits
    words |= np.arange(length, dtype=np.uint64)
    words.sort(axis=1)
    words &= (np.uint64(1) << index_bits) - np.uint64(1)
    return words.view(np.int64)
