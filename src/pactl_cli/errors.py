"""The one error a user sees, and what is quoted in it: names, paths, commands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

FAILED = 1
BAD_INPUT = 2
BOUND_EXCEEDED = 3
INTERRUPTED = 130
PEER_LOST = 113
"""What a process says to `pactl launch` alone: it has ended only because another did."""

_LONGEST_LINE = 1200
_LONGEST_QUOTATION = 200
_MOST_NAMED, _LONGEST_LISTED = 8, 100
"""A list of names for people has so many, of so many letters."""


class PactlError(Exception):
    """Something the user can act on.

    Args:
        message: what is wrong, naming the option or the file.
        hint: what to do about it.
        exit_code: the process's exit status; 2 for bad input found before work starts.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def one_line(self) -> str:
        """The message and the hint on a single line, whatever they contain."""
        return on_one_line(f"{self.message} ({self.hint})" if self.hint else self.message)


class MissingError(PactlError):
    """Something the user has to bring is not there: data, a device, a run directory."""


class StoppedError(PactlError):
    """Nothing was wrong with the work, but somebody or something has stopped it: it can be gone on with."""


class PeerLostError(StoppedError):
    """Another process of the same run does not answer: what is wrong is its to say."""


def seek_help(command: str) -> str:
    """Return the hint that names a command's help."""
    return f"see {' '.join(['pactl', *command.split()])} --help"


def shell_command(*words: object, launched: str = "", **options: object) -> str:
    """Return a command of this program as a shell takes it.

    Args:
        words: what it is called, and its arguments.
        launched: the `pactl launch ...` before it, if it has one.
        options: by name; those that are None are left out, True and False are flags.

    >>> print(shell_command("verify", "my run", model_name="nets:small", data_dir=None))
    pactl verify 'my run' --model-name nets:small
    """
    said = [str(word) for word in words]
    line = [f"./{word}" if word.startswith("-") else word for word in said]
    for name, value in options.items():
        flag = option_name(name)[2:]
        if isinstance(value, bool):
            line.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            line += [f"--{flag}={value}"] if str(value).startswith("-") else [f"--{flag}", str(value)]
    return f"{launched or 'pactl'} {shlex.join(line)}"


def option_name(field: str) -> str:
    """Return `--intrinsic-dim` for the setting `intrinsic_dim`; and `--continue`, a word of Python, for `continued`."""
    return "--" + {"continued": "continue"}.get(field, field).replace("_", "-")


def reason(error: Exception) -> str:
    """Return why a file cannot be read, without its name."""
    return str((isinstance(error, OSError) and error.strerror) or error)


def not_written(place: str, error: OSError, exit_code: int = FAILED) -> PactlError:
    """Return the error that a file cannot be written, `place` being its option and its path."""
    return PactlError(f"{place} cannot be written: {reason(error)}", "choose another place", exit_code)


def on_one_line(text: str) -> str:
    """Text on a single line to read, which does nothing to a terminal.

    What has no picture is spelt out, but a path's bytes stay; of what is far too long the middle is left out.
    """
    line = " ".join(text.split())
    if len(line) > _LONGEST_LINE:
        line = f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 4 :]}"
    return "".join(
        letter if letter.isprintable() or "\udc80" <= letter <= "\udcff" else letter.encode("unicode_escape").decode()
        for letter in line
    )


def quoted(text: str) -> str:
    """Somebody's words as a quotation: between quotation marks, of which it has none inside, on one line, and cut.

    >>> print(quoted('here", which was checked'))
    "here', which was checked"
    """
    line = on_one_line(text).replace('"', "'")
    if len(line) > _LONGEST_QUOTATION:
        line = f"{line[: _LONGEST_QUOTATION // 2]} ... {line[-_LONGEST_QUOTATION // 2 :]}"
    return f'"{line}"'


def names_in_words(names: Sequence[object]) -> str:
    """Return names as a list for people, cut where they are many."""
    some = ", ".join(on_one_line(str(name))[:_LONGEST_LISTED] for name in names[:_MOST_NAMED])
    return some if len(names) <= _MOST_NAMED else f"{some} and {len(names) - _MOST_NAMED:,} more"


def printable(text: str) -> str:
    """A path or a name for people, whatever its characters, of a length that a run directory takes."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:2048]
