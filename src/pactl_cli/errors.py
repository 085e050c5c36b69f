"""The error that a user sees, and how names, paths and commands are quoted in it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

FAILED = 1
BAD_INPUT = 2
BOUND_EXCEEDED = 3
INTERRUPTED = 130
PEER_LOST = 113
"""The exit status that tells `pactl launch` that a process ended only because another one did."""

_LONGEST_LINE = 1200
_LONGEST_QUOTATION = 200
_MOST_NAMED, _LONGEST_LISTED = 8, 100
"""How many names a list for people has, and how many letters of each."""


class PactlError(Exception):
    """An error that the user can act on.

    Args:
        message: what is wrong; it names the option or the file.
        hint: what to do about it.
        exit_code: the process's exit status; 2 for bad input found before work starts.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def one_line(self) -> str:
        """Return the message and the hint on a single line, whatever they contain."""
        return on_one_line(f"{self.message} ({self.hint})" if self.hint else self.message)


class MissingError(PactlError):
    """An error about something absent that the user has to provide: data, a device, a run directory."""


class StoppedError(PactlError):
    """An error for work that was stopped from outside and can be resumed."""


class PeerLostError(StoppedError):
    """An error for a process of the same run that no longer answers; that process reports the cause."""


def seek_help(command: str) -> str:
    """Return a hint that points to a command's help."""
    return f"see {' '.join(['pactl', *command.split()])} --help"


def shell_command(*words: object, launched: str = "", **options: object) -> str:
    """Return a command of this program, quoted for a shell.

    Args:
        words: the command's name and its arguments.
        launched: the `pactl launch ...` before it, if there is one.
        options: values by name; None leaves an option out, True and False are flags.

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
    """Return `--intrinsic-dim` for the setting `intrinsic_dim`; `continued` is `--continue`, a keyword of Python."""
    return "--" + {"continued": "continue"}.get(field, field).replace("_", "-")


def reason(error: Exception) -> str:
    """Return why a file cannot be read, without the file's name."""
    return str((isinstance(error, OSError) and error.strerror) or error)


def not_written(place: str, error: OSError, exit_code: int = FAILED) -> PactlError:
    """Return the error that a file cannot be written, `place` being its option and its path."""
    return PactlError(f"{place} cannot be written: {reason(error)}", "choose another place", exit_code)


def on_one_line(text: str) -> str:
    """Return text on a single line that is safe to print on a terminal.

    Characters that cannot be printed are escaped, except for undecodable bytes of a path. Very long text loses its
    middle.
    """
    line = " ".join(text.split())
    if len(line) > _LONGEST_LINE:
        line = f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 4 :]}"
    return "".join(
        letter if letter.isprintable() or "\udc80" <= letter <= "\udcff" else letter.encode("unicode_escape").decode()
        for letter in line
    )


def quoted(text: str) -> str:
    """Return text between double quotation marks, on one line and shortened; those inside become single ones.

    >>> print(quoted('here", which was checked'))
    "here', which was checked"
    """
    line = on_one_line(text).replace('"', "'")
    if len(line) > _LONGEST_QUOTATION:
        line = f"{line[: _LONGEST_QUOTATION // 2]} ... {line[-_LONGEST_QUOTATION // 2 :]}"
    return f'"{line}"'


def names_in_words(names: Sequence[object]) -> str:
    """Return a list of names for people; a long list is cut."""
    some = ", ".join(on_one_line(str(name))[:_LONGEST_LISTED] for name in names[:_MOST_NAMED])
    return some if len(names) <= _MOST_NAMED else f"{some} and {len(names) - _MOST_NAMED:,} more"


def printable(text: str) -> str:
    """Return a path or a name with every unprintable character replaced, short enough for a run directory's files."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:2048]
