"""The code of a whole message, `message.bin`: configuration, codebook, symbols and threshold.

Each part is prefix-free given the parts before it, so the whole is prefix-free, and 2^-bits is a probability over
messages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pactl_cli.certificate.codebook import Codebook, read_codebook, write_codebook
from pactl_cli.certificate.codes import BitReader, BitWriter, DecodeError
from pactl_cli.certificate.configuration import Configuration, read_configuration, write_configuration
from pactl_cli.certificate.format import MAX_DIM
from pactl_cli.certificate.guarantees import THRESHOLD_BITS
from pactl_cli.certificate.symbols import Symbols, read_symbols, write_symbols
from pactl_cli.certificate.task import Task


@dataclass(frozen=True)
class Message:
    """One classifier, as it is sent.

    Attributes:
        configuration: the names of P and theta0; d is `configuration.intrinsic_dim`.
        codebook: the K levels; None where d = 0.
        symbols: shape (d,), each in 0 .. K-1.
        threshold: the place in `THRESHOLDS` of the margin below which the classifier abstains; None if it never does.
    """

    configuration: Configuration
    codebook: Codebook | None
    symbols: Symbols
    threshold: int | None = None

    def coordinates(self) -> NDArray[np.float32]:
        """Return the quantised coordinates, exactly as the receiver has them: shape (d,)."""
        if self.codebook is None:
            return np.zeros(0, dtype=np.float32)
        return self.codebook.values()[self.symbols]


@dataclass(frozen=True)
class Encoded:
    """The bytes of a message, padded with fewer than eight zeros, and the bits of each part."""

    data: bytes
    configuration_bits: int
    codebook_bits: int
    symbols_bits: int
    threshold_bits: int

    @property
    def bits(self) -> int:
        """The length L of the message: the bits that the decoder consumes, without the padding."""
        return self.configuration_bits + self.codebook_bits + self.symbols_bits + self.threshold_bits


def encode(message: Message, task: Task) -> Encoded:
    """Return the bits of a message about a task."""
    writer = BitWriter()
    write_configuration(writer, message.configuration, task)
    ends = [writer.num_bits]
    if message.codebook is not None:
        write_codebook(writer, message.codebook)
        ends.append(writer.num_bits)
        write_symbols(writer, message.symbols, message.codebook.size)
    ends += [writer.num_bits] * (3 - len(ends))
    if task.abstains:
        writer.write(message.threshold or 0, THRESHOLD_BITS)
    return Encoded(writer.to_bytes(), ends[0], ends[1] - ends[0], ends[2] - ends[1], writer.num_bits - ends[2])


def decode(data: bytes, task: Task, max_dim: int | None = None) -> tuple[Message, Encoded]:
    """Return the message, and the bits of each part.

    Raises:
        DecodeError: unless `data` is, to the last bit, what `encode` writes for it.
    """
    message, num_bits = read_message(data, task, max_dim)
    encoded = encode(message, task)
    if encoded.data != data or encoded.bits != num_bits:
        raise DecodeError("the message is not in the form in which it is written")
    return message, encoded


def read_message(data: bytes, task: Task, max_dim: int | None = None) -> tuple[Message, int]:
    """Return the message and its number of bits, without the check that `encode` would write the same bytes.

    A few bytes can claim many coordinates: a caller who knows how many to expect passes `max_dim`.

    Raises:
        DecodeError: unless `data` is exactly one message.
    """
    reader = BitReader(data)
    configuration = read_configuration(reader, task)
    dim, max_dim = configuration.intrinsic_dim, MAX_DIM if max_dim is None else max_dim
    if dim > max_dim:
        raise DecodeError(f"the message claims {dim:,} coordinates, more than {max_dim:,}")
    codebook = read_codebook(reader) if dim else None
    symbols = read_symbols(reader, dim, codebook.size) if codebook else np.zeros(0, dtype=np.int64)
    threshold = reader.read(THRESHOLD_BITS) if task.abstains else None
    reader.finish()
    return Message(configuration, codebook, symbols, threshold), reader.position
