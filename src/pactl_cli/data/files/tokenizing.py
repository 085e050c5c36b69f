"""Splitting of texts into tokens: UTF-8 bytes, words, or the tokens of a tokenizer's file, which may be a stranger's.

The `tokenizers` library runs regular expressions and replacements from the file. These can take unlimited memory and
time, and can make it panic. So it runs in a separate process with limits.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b, sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pactl_cli.data.files.capacity import available_memory
from pactl_cli.data.files.checked_files import open_file
from pactl_cli.errors import MissingError, PactlError, on_one_line, reason

BYTES, WORDS = "bytes", "words"
BUILT_IN = (BYTES, WORDS)
"""The tokenizers without a file."""

_WORD = re.compile(r"\w+|[^\w\s]")
_WORD_NUMBERS = 1 << 13
"""A word's number is its hash modulo this, so that no vocabulary is learned from texts."""

_LARGEST_FILE = 1 << 26
_MOST_TOKENS = 1 << 22
_MEMORY, _MEMORY_FOR_EACH_BYTE = 1 << 32, 16
_BASE_SECONDS, _BYTES_FOR_EACH_SECOND = 60, 20_000
"""Limits on computation: a hundred times what an ordinary tokenizer takes."""
_AT_ONCE = 1024
_LONGEST_REASON = 200


@dataclass(frozen=True)
class TokenIds:
    """The tokens of some texts.

    Attributes:
        ids: of all texts, one after the other, int32.
        ends: the end of each text in `ids`, shape (n,).
        vocabulary: a number above every id.
        cut: the number of texts that were truncated.
    """

    ids: NDArray[np.int32]
    ends: NDArray[np.int64]
    vocabulary: int
    cut: int


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer of texts.

    Attributes:
        name: as in `--tokenizer`: one of `BUILT_IN`, or the path of a file.
        content: of the file.
    """

    name: str
    content: bytes = b""

    @classmethod
    def named(cls, name: str) -> Tokenizer:
        """Return the tokenizer that `--tokenizer` names.

        Raises:
            MissingError: if there is no such file, or the library is not installed.
            PactlError: if the file cannot be read, or is too large.
        """
        if name in BUILT_IN:
            return cls(name)
        if find_spec("tokenizers") is None:
            raise MissingError(
                f"--tokenizer {name} needs the package tokenizers, which is not installed", "pip install 'pactl[text]'"
            )
        try:
            with open_file(Path(name).expanduser()) as file:
                content = file.read(_LARGEST_FILE + 1)
        except FileNotFoundError as error:
            raise MissingError(f"--tokenizer {name}: there is no such file", "name a tokenizer.json") from error
        except (OSError, ValueError) as error:
            raise PactlError(f"--tokenizer {name} cannot be read: {reason(error)}") from error
        if len(content) > _LARGEST_FILE:
            raise PactlError(f"--tokenizer {name} has more than {_LARGEST_FILE >> 20} MB, too much for a tokenizer")
        return cls(name, content)

    @property
    def sha256(self) -> str | None:
        """The sha256 of the file; None for a built-in tokenizer."""
        return None if self.name in BUILT_IN else sha256(self.content).hexdigest()

    def split(self, texts: Sequence[str], length: int) -> TokenIds:
        """Return the first `length` tokens of each text, including those that the tokenizer adds.

        Raises:
            PactlError: if the file is not a tokenizer, or takes too long, or yields ids beyond its vocabulary.
        """
        if self.name == BYTES:
            return _joined([np.frombuffer(text.encode(), dtype=np.uint8) for text in texts], length, 256)
        if self.name == WORDS:
            return _joined([_word_numbers(text) for text in texts], length, _WORD_NUMBERS)
        reply, ids = self._from_child(texts, length)
        vocabulary = reply["vocabulary"]
        if vocabulary > _MOST_TOKENS:
            raise self._refused(f"its ids go up to {vocabulary - 1:,}")
        if len(ids) and ids.max() >= vocabulary:
            raise self._refused(f"it gives the id {ids.max():,}, and its vocabulary ends at {vocabulary - 1:,}")
        return TokenIds(ids, np.cumsum(reply["lengths"], dtype=np.int64), vocabulary, reply["cut"])

    def _from_child(self, texts: Sequence[str], length: int) -> tuple[dict[str, Any], NDArray[np.int32]]:
        """Run the library in another process, and return its reply and the ids."""
        try:
            request = {"tokenizer": self.content.decode(), "texts": list(texts), "length": length}
        except UnicodeDecodeError as error:
            raise self._refused("it is not UTF-8") from error
        sent = json.dumps(request).encode()
        seconds = _BASE_SECONDS + len(sent) // _BYTES_FOR_EACH_SECOND
        memory = min(_MEMORY + _MEMORY_FOR_EACH_BYTE * len(sent), available_memory())
        # -P: import nothing from the working directory, which may hold anything
        command = [sys.executable, "-P", "-m", __name__, str(seconds), str(memory)]
        done = subprocess.run(command, input=sent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        head, _, body = done.stdout.partition(b"\n")
        if done.returncode or not head:
            raise self._refused("it took too much memory or time, or crashed")
        reply: dict[str, Any] = json.loads(head)
        if "error" in reply:
            raise self._refused(on_one_line(reply["error"])[:_LONGEST_REASON])
        return reply, np.frombuffer(body, dtype="<i4").astype(np.int32)

    def _refused(self, why: str) -> PactlError:
        return PactlError(
            f"--tokenizer {self.name} cannot split these texts: {why}",
            "give a file that the library tokenizers has saved, or --tokenizer words",
        )


def _word_numbers(text: str) -> NDArray[np.int64]:
    """Return the numbers of all words, in any case, and of all other characters that are not space."""
    words = (blake2b(word.encode(), digest_size=4).digest() for word in _WORD.findall(text.casefold()))
    numbers: NDArray[np.int64] = np.frombuffer(b"".join(words), dtype="<u4").astype(np.int64) % _WORD_NUMBERS
    return numbers


def _joined(whole: Sequence[NDArray[Any]], length: int, vocabulary: int) -> TokenIds:
    """Return the first `length` tokens of each text, given all tokens of each."""
    rows, cut = [row[:length] for row in whole], sum(len(row) > length for row in whole)
    ids = np.concatenate([np.zeros(0, dtype=np.int32), *rows]).astype(np.int32)
    return TokenIds(ids, np.cumsum([len(row) for row in rows], dtype=np.int64), vocabulary, cut)


def _encoded(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return the library's reply to a request, and the ids."""
    from tokenizers import Tokenizer as Foreign

    foreign: Any = Foreign.from_str(request["tokenizer"])
    foreign.no_padding()
    foreign.enable_truncation(max_length=request["length"])
    texts, lengths, pieces, cut = request["texts"], [], [], 0
    for start in range(0, len(texts), _AT_ONCE):
        for encoding in foreign.encode_batch(texts[start : start + _AT_ONCE]):
            cut += bool(encoding.overflowing)
            ids = np.array(encoding.ids, dtype=np.int64)
            if len(ids) and ids.max() > np.iinfo(np.int32).max:
                raise ValueError(f"it gives the id {ids.max():,}")
            pieces.append(ids.astype("<i4").tobytes())
            lengths.append(len(ids))
    vocabulary = 1 + max(foreign.get_vocab(with_added_tokens=True).values(), default=0)
    return {"vocabulary": vocabulary, "lengths": lengths, "cut": cut}, b"".join(pieces)


def _answer() -> None:
    """Answer a request on stdin with a reply and ids on stdout, within the limits given on the command line."""
    seconds, memory = map(int, sys.argv[1:])
    for limit, value in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
        with suppress(OSError, ValueError):  # macOS cannot limit memory
            resource.setrlimit(limit, (value, value))
    try:
        reply, ids = _encoded(json.loads(sys.stdin.buffer.read()))
    except BaseException as error:  # the library's panics are not an Exception
        reply, ids = {"error": str(error) or type(error).__name__}, b""
    sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n" + ids)


if __name__ == "__main__":
    _answer()
