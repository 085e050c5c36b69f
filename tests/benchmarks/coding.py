"""The code: microseconds a symbol.: one of the tables of `python tests/benchmarks`."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from pairs import Terms, seconds, table

from pactl_cli.certificate.codes import BitReader, BitWriter
from pactl_cli.certificate.symbols import read_symbols, write_symbols

REPEATS = 3
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


def main(terms: Terms) -> None:
    """Prints microseconds a symbol."""
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
