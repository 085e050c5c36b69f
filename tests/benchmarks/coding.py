"""The code: microseconds a symbol.

python tests/benchmarks/coding.py
"""

from __future__ import annotations

import numpy as np
from pairs import seconds, table

from pactl_cli.certificate.codes import BitReader, BitWriter
from pactl_cli.certificate.symbols import read_symbols, write_symbols

COUNT, REPEATS = 200_000, 3
CASES = {
    "three levels, 89 % zeros": (3, [0.055, 0.89, 0.055]),
    "seven levels, uniform": (7, None),
    "256 levels, uniform": (256, None),
}


def main() -> None:
    rows = []
    for name, (size, chances) in CASES.items():
        symbols = np.random.default_rng(0).choice(size, COUNT, p=chances).astype(np.int64)
        writer = BitWriter()
        write_symbols(writer, symbols, size)
        data = writer.to_bytes()
        encode = min(seconds(lambda s=symbols, k=size: write_symbols(BitWriter(), s, k)) for _ in range(REPEATS))  # type: ignore[misc]
        decode = min(seconds(lambda b=data, k=size: read_symbols(BitReader(b), COUNT, k)) for _ in range(REPEATS))  # type: ignore[misc]
        bits = writer.num_bits / COUNT
        rows.append((name, f"{bits:.3f}", f"{1e6 * encode / COUNT:.2f}", f"{1e6 * decode / COUNT:.2f}"))
    table(f"{COUNT:,} symbols", ("symbols", "bits each", "encode us each", "decode us each"), rows)


if __name__ == "__main__":
    main()
