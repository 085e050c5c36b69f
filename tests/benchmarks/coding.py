"""Quantising and coding, over a sort of as many numbers and by the symbol: two tables of `python tests/benchmarks`."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from pairs import Terms, seconds, table

from pactl_cli.catalogue import CODEBOOKS
from pactl_cli.certificate.codes import BitReader, BitWriter
from pactl_cli.certificate.symbols import read_symbols, write_symbols

REPEATS, PAIRS = 3, 3
DIM, QUANTISERS = 500_000, [("grid", None), ("kmeans", 7), ("bins", 33)]
CASES = {
    "three levels, 89 % zeros": (3, [0.055, 0.89, 0.055]),
    "seven levels, uniform": (7, None),
    "256 levels, uniform": (256, None),
}


def encode(symbols: NDArray[np.int64], size: int) -> None:
    """As `bound` does."""
    write_symbols(BitWriter(), symbols, size)


def decode(data: bytes, count: int, size: int) -> None:
    """As `verify` does."""
    read_symbols(BitReader(data), count, size)


def there_and_back(symbols: NDArray[np.int64], size: int) -> None:
    """Encodes, and decodes what was encoded."""
    writer = BitWriter()
    write_symbols(writer, symbols, size)
    decode(writer.to_bytes(), len(symbols), size)


def against_a_sort(terms: Terms) -> None:
    """Prints what quantising coordinates takes over sorting them, and coding them and reading them back."""
    w = torch.randn(1_000 if terms.quick else DIM, generator=torch.Generator().manual_seed(0))
    rows = []
    for kind, levels in QUANTISERS:
        quantiser = CODEBOOKS[kind].maker()(levels)
        quantiser.fit(w)
        codebook, symbols = quantiser.message_parts(w)
        works = partial(quantiser.message_parts, w), partial(there_and_back, symbols, codebook.size)
        for what, work in zip(("quantise", "encode and decode"), works, strict=True):
            rows.append((f"{kind}, {codebook.size} levels: {what}", *terms.compare(work, w.sort, PAIRS).cells()))
    table(f"Over a sort of d = {len(w):,} numbers; {terms}", ("work", "ms", "sort ms", "ratio", "quartiles"), rows)


def main(terms: Terms) -> None:
    """Prints both tables."""
    against_a_sort(terms)
    count = 1_000 if terms.quick else 200_000
    rows = []
    for name, (size, chances) in CASES.items():
        symbols = np.random.default_rng(0).choice(size, count, p=chances).astype(np.int64)
        writer = BitWriter()
        write_symbols(writer, symbols, size)
        works = (partial(encode, symbols, size), partial(decode, writer.to_bytes(), count, size))
        times = (min(seconds(work, terms.clock) for _ in range(REPEATS)) for work in works)
        rows.append((name, f"{writer.num_bits / count:.3f}", *(f"{1e6 * each / count:.2f}" for each in times)))
    table(f"{count:,} symbols", ("symbols", "bits each", "encode us each", "decode us each"), rows)
