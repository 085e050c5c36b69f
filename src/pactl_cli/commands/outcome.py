"""How the program ends: one line on stderr and an exit code, whatever happened, and, of several processes, once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

import typer

from pactl_cli.commands import published
from pactl_cli.commands.terminal import complain
from pactl_cli.errors import FAILED, INTERRUPTED, PEER_LOST, PactlError, PeerLostError, seek_help
from pactl_cli.processes.interruption import end_with
from pactl_cli.processes.placement import HANDOFF, Handoff, Placement

_OUT_OF_MEMORY = ("allocate memory", "out of memory")
"""What torch says in an error of no kind of its own, on a CPU and on a GPU."""


def open_closed_streams() -> None:
    """Puts nothing in the place of a stream that the shell has closed, before a file of ours gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - to the end of the process


def require_working_directory() -> None:
    """Raises PactlError if somebody has removed it: libraries that look for it end the process without a word."""
    try:
        os.getcwd()
    except OSError as error:
        raise PactlError(f"the working directory cannot be used: {error.strerror}", "go to another one") from error


def silence_followers() -> None:
    """Of several processes only rank 0 has a stdout.

    Raises:
        PactlError: if the environment contradicts itself.
    """
    place = Placement.here()
    if place is not None and place.rank:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - to the end of the process


def end(command: Callable[[], int]) -> NoReturn:
    """Runs a command and leaves with its exit code; an error is one line on stderr.

    Any other exception is a bug: Python shows its traceback.
    """
    if _is_one_of_several():
        sys.excepthook = _show_and_leave
    if handoff := Handoff.received():  # the launcher says itself what it has stopped
        end_with(handoff.launcher)
    else:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, wherever it comes
    try:
        code = command()
        sys.stdout.flush()  # an error of stdout is one of the command
        if code == INTERRUPTED:  # what is made of Ctrl-C
            _complain("interrupted", INTERRUPTED)
    except PeerLostError as error:
        code = PEER_LOST if HANDOFF in os.environ else _complain(error.one_line(), error.exit_code)
    except PactlError as error:
        code = _complain(error.one_line(), error.exit_code)
    except typer.TyperException as error:
        code = _complain(_usage_error(error), error.exit_code) if error.format_message() else error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        code = FAILED
    except OSError as error:
        code = _complain(f"{error.filename or 'input or output'}: {error.strerror or error}", FAILED)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in _OUT_OF_MEMORY):
            raise
        code = _complain("out of memory (try a smaller --batch-size or --intrinsic-dim)", FAILED)
    _discard_stdout()
    _leave(code)


def _discard_stdout() -> None:
    """Drops what stdout could not get rid of, of which Python would complain at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_and_leave(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python does of an exception that nobody expected, and then leaves."""
    sys.__excepthook__(kind, error, trace)
    _leave(FAILED)


def _leave(code: int) -> NoReturn:
    """Ends the process; after a failure among several, without taking leave of the others, which may not answer."""
    if code and _is_one_of_several():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _is_one_of_several() -> bool:
    try:
        return Placement.here() is not None
    except PactlError:
        return False


def _usage_error(error: typer.TyperException) -> str:
    """What the parser says, and what to do."""
    if hint := published.hint(error):
        return f"{error.message} ({hint})"
    return f"{error.format_message()} ({seek_help(_command(error))})"


def _command(error: typer.TyperException) -> str:
    """The command that a usage error is about; "" for the program."""
    context = getattr(error, "ctx", None)
    return str(context.info_name) if context and context.parent else ""


def _complain(text: str, exit_code: int) -> int:
    """A complaint, unless another process has said it or a launcher of ours will."""
    if HANDOFF in os.environ or not _is_one_of_several() or _is_first_to_complain():
        complain(text)
    return exit_code


def _is_first_to_complain() -> bool:
    place = Placement.here()
    assert place is not None
    if "torch" not in sys.modules:  # all processes have parsed the same words
        return place.local_rank == 0
    from pactl_cli.processes.world import claims_to_speak

    return claims_to_speak(place)
