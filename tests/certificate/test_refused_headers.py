"""Invalid headers are refused: spelt-out defaults, unknown names and fields, and values out of range."""

import pytest

from pactl_cli.certificate.codes import BitReader, BitWriter, DecodeError, write_delta
from pactl_cli.certificate.configuration import Configuration, read_configuration
from pactl_cli.certificate.format import ROUND_DIMS, default_dim
from pactl_cli.certificate.task import Task

MNIST = Task("mnist", 60_000, 1)


def read(bits: str) -> Configuration:
    """Return the configuration at the beginning of some bits, which are followed by zeros."""
    writer = BitWriter()
    writer.extend(map(int, bits + "0" * 40))
    return read_configuration(BitReader(writer.to_bytes()), MNIST)


@pytest.mark.parametrize(
    "bits",
    [
        "0" + "1" + "0" + format(ROUND_DIMS.index(default_dim(MNIST.train_examples)), "06b"),  # of d
        "0" + "1" + "1" + "0001101" + format(default_dim(MNIST.train_examples) + 1, "b")[1:],  # of d, as any other
        "0" + "00101" + "000010000",  # of a width, 16
        "0" + "00111" + "0001010000000001",  # of calibration, 512
        "0" + "0001000" + "0" * 14,  # of a rate
    ],
)
def test_a_default_that_is_spelt_out_is_refused(bits: str) -> None:
    with pytest.raises(DecodeError, match="spells out the default"):
        read(bits + "1")


@pytest.mark.parametrize("place", ["011", "00100", "0001100", "0001101"], ids=["model", "projector", "view", "kind"])
def test_a_name_beyond_the_catalogue_is_refused(place: str) -> None:
    bits = "0" + place + "0" * 7 + "10000000" + "1"  # the name of place 128
    with pytest.raises(DecodeError, match="catalogue lacks"):
        read(bits)


@pytest.mark.parametrize("gaps", [["0001110"], ["0001101" + "1", "1"], ["1" + "0000000", "0001101"]])
def test_a_field_beyond_the_last_is_refused(gaps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pactl_cli.certificate.configuration.HYPOTHESES", ("subspace", "other"))
    with pytest.raises(DecodeError, match="setting that this version lacks"):
        read("".join("0" + gap for gap in gaps) + "1")


def test_a_field_without_a_meaning_is_refused() -> None:
    bits = "0" + "011" + "0001001" + "0" + "010" + "1" + "1"
    with pytest.raises(DecodeError, match="base_width to squeezenet1_0, which has none"):
        read(bits)


@pytest.mark.parametrize(
    ("size", "data", "says"), [(201, b"a" * 201, "more than 200"), (2, b"\xc3\x28", "UTF-8"), (1, b"\xff", "UTF-8")]
)
def test_a_text_too_long_or_of_no_letters_is_refused(size: int, data: bytes, says: str) -> None:
    writer = BitWriter()
    writer.extend(map(int, "0" + "0001010"))
    write_delta(writer, size)
    writer.write(int.from_bytes(data), 8 * size)
    writer.write(1, 1)
    with pytest.raises(DecodeError, match=says):
        read_configuration(BitReader(writer.to_bytes()), MNIST)


def test_a_standard_deviation_of_zero_is_refused() -> None:
    with pytest.raises(DecodeError, match="zero"):
        read("0" + "00110" + "0" * 29)


def test_a_rate_above_one_is_refused() -> None:
    with pytest.raises(DecodeError, match="above 1"):
        read("0" + "0001000" + format(10**4 + 1, "014b"))


def test_integers_are_below_two_to_the_64() -> None:
    writer = BitWriter()
    writer.write(0b0010, 4)  # the seed differs
    write_delta(writer, 2**64)
    writer.write(1, 1)
    with pytest.raises(DecodeError, match="too large"):
        read_configuration(BitReader(writer.to_bytes()), MNIST)
