"""Prefix-free codes of integers and of binary decisions, in integer arithmetic: the same bits on every machine.

- Universal codes of single integers (Elias 1975).
- An arithmetic coder of binary decisions (Witten, Neal, Cleary 1987) with exact termination: a sequence of probability
  P takes at most 2 bits more than -log2 P, and no sequence's bits begin another's.

`symbols.py` turns symbols into decisions. Reading past the end, or a value out of range, raises `DecodeError`.

>>> writer = BitWriter()
>>> write_delta(writer, 5)
>>> writer.num_bits, read_delta(BitReader(writer.to_bytes()))
(5, 5)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np


class DecodeError(ValueError):
    """An error: the bits are not a message."""


class BitWriter:
    """A growing sequence of bits; integers are written most significant bit first."""

    def __init__(self) -> None:
        self._bits = bytearray()

    @property
    def num_bits(self) -> int:
        """The number of bits written so far."""
        return len(self._bits)

    def write(self, value: int, num_bits: int) -> None:
        """Append `value` in `num_bits` bits; raise ValueError if it does not fit."""
        if value < 0 or value >> num_bits:
            raise ValueError(f"{value} does not fit in {num_bits} bits")
        self._bits.extend(value >> shift & 1 for shift in range(num_bits - 1, -1, -1))

    def extend(self, bits: Iterable[int]) -> None:
        """Append bits, each 0 or 1."""
        self._bits.extend(bits)

    def to_bytes(self) -> bytes:
        """Return the bits as bytes, padded with fewer than eight zeros."""
        return np.packbits(np.frombuffer(self._bits, dtype=np.uint8)).tobytes()


class BitReader:
    """A reader of the bits of `data`, in order; `position` is the number of bits consumed."""

    def __init__(self, data: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8)).tobytes()
        self.position = 0

    def read(self, num_bits: int) -> int:
        """Consume and return the next `num_bits` bits as an integer."""
        chunk = self._bits[self.position : self.position + num_bits]
        self.skip(num_bits)
        value = 0
        for bit in chunk:
            value = value << 1 | bit
        return value

    def skip(self, num_bits: int) -> None:
        """Consume bits without returning them."""
        if self.position + num_bits > len(self._bits):
            raise DecodeError("the message ends too early")
        self.position += num_bits

    def lookahead(self) -> Iterator[int]:
        """Yield the bits from here on, then two words of zeros, and consume nothing.

        Raises:
            DecodeError: when asked for more, which no encoded sequence needs.
        """
        yield from self._bits[self.position :]
        yield from bytes(2 * _WORD)
        raise DecodeError("the message ends too early")

    def finish(self) -> None:
        """Check that only padding is left: fewer than eight bits, all zero.

        Raises:
            DecodeError: if anything else follows.
        """
        rest = self._bits[self.position :]
        if len(rest) >= 8 or any(rest):
            raise DecodeError("the message is followed by something else")


def write_gamma(writer: BitWriter, value: int) -> None:
    """Append the Elias gamma code of a value >= 1, which has 2 floor(log2 value) + 1 bits."""
    if value < 1:
        raise ValueError(f"Elias codes start at 1, got {value}")
    writer.write(value, 2 * value.bit_length() - 1)


def read_gamma(reader: BitReader, max_bits: int = 64) -> int:
    """Return the value of an Elias gamma code, of at most `max_bits` significant bits."""
    zeros = 0
    while not reader.read(1):
        zeros += 1
        if zeros >= max_bits:
            raise DecodeError("an integer in the message is too large")
    return 1 << zeros | reader.read(zeros)


def write_delta(writer: BitWriter, value: int) -> None:
    """Append the Elias delta code of a value >= 1, which has about log2 value + 2 log2 log2 value bits."""
    if value < 1:
        raise ValueError(f"Elias codes start at 1, got {value}")
    length = value.bit_length()
    write_gamma(writer, length)
    writer.write(value - (1 << (length - 1)), length - 1)


def read_delta(reader: BitReader) -> int:
    """Return the value of an Elias delta code, below 2**64."""
    length = read_gamma(reader, max_bits=7)
    if length > 64:
        raise DecodeError("an integer in the message is too large")
    return 1 << (length - 1) | reader.read(length - 1)


_WORD = 48
_FULL = 1 << _WORD
_HALF, _QUARTER, _THREE_QUARTERS = _FULL >> 1, _FULL >> 2, 3 * _FULL >> 2


def encode_decisions(writer: BitWriter, decisions: Sequence[int], zeros: Sequence[int], totals: Sequence[int]) -> None:
    """Append binary decisions, ended by the fewest bits that keep the code prefix-free.

    Args:
        decisions: 0 or 1 each.
        zeros, totals: for each decision, the probability of 0 is zero / total, with 0 < zero < total < 2**30.
    """
    bits = bytearray()
    pending = 0
    low, high = 0, _FULL
    for decision, zero, total in zip(decisions, zeros, totals, strict=True):
        middle = low + (high - low) * zero // total
        if decision:
            low = middle
        else:
            high = middle
        while True:
            if high <= _HALF:
                bit = 0
            elif low >= _HALF:
                bit, low, high = 1, low - _HALF, high - _HALF
            elif low >= _QUARTER and high <= _THREE_QUARTERS:
                pending, low, high = pending + 1, (low - _QUARTER) << 1, (high - _QUARTER) << 1
                continue
            else:
                break
            low, high = low << 1, high << 1
            bits.append(bit)
            if pending:
                bits.extend((1 - bit,) * pending)
                pending = 0
    value, length = _termination(low, high, pending)
    if length:
        first = value >> (length - 1)
        bits.append(first)
        bits.extend((1 - first,) * pending)
    if length == 2:
        bits.append(value & 1)
    writer.extend(bits)


class DecisionReader:
    """A reader of decisions; `finish` moves the reader below it past exactly the encoder's bits."""

    def __init__(self, reader: BitReader) -> None:
        self._reader = reader
        self._low, self._high, self._value = 0, _FULL, 0
        self._settled = self._pending = 0
        self._ahead = reader.lookahead()
        for _ in range(_WORD):
            self._value = self._value << 1 | next(self._ahead)

    def decide(self, zero: int, total: int) -> int:
        """Return the next decision, where 0 has probability zero / total."""
        low, high, value = self._low, self._high, self._value
        middle = low + (high - low) * zero // total
        if value >= middle:
            decision, low = 1, middle
        else:
            decision, high = 0, middle
        while True:
            if high <= _HALF:
                offset = 0
            elif low >= _HALF:
                offset = _HALF
            elif low >= _QUARTER and high <= _THREE_QUARTERS:
                offset = _QUARTER
            else:
                break
            if offset == _QUARTER:
                self._pending += 1
            else:
                self._settled += 1 + self._pending
                self._pending = 0
            low, high = (low - offset) << 1, (high - offset) << 1
            value = (value - offset) << 1 | next(self._ahead)
        self._low, self._high, self._value = low, high, value
        return decision

    def finish(self) -> None:
        """Consume the encoder's bits.

        Raises:
            DecodeError: if the message ends before they do.
        """
        length = _termination(self._low, self._high, self._pending)[1]
        self._reader.skip(self._settled + self._pending + length)


def _termination(low: int, high: int, pending: int) -> tuple[int, int]:
    """Return the shortest bits, as (value, length), whose dyadic interval lies within [low, high)."""
    if (low, high, pending) == (0, _FULL, 0):
        return 0, 0
    for length in (1, 2):
        width = _FULL >> length
        value = -(-low // width)
        if (value + 1) * width <= high:
            return value, length
    raise AssertionError("the interval is wider than a quarter")  # pragma: no cover
