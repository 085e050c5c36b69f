"""The end of the program: an exit code and one line on stderr, from one process if several run."""

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
"""Words by which torch's RuntimeErrors about memory are known, on a CPU and on a GPU."""


def open_closed_streams() -> None:
    """Open the null device for a stream that the shell has closed, before a file of ours gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - stays open to the end of the process


def require_working_directory() -> None:
    """Raise PactlError if the working directory was removed: some libraries would end the process silently."""
    try:
        os.getcwd()
    except OSError as error:
        raise PactlError(f"the working directory cannot be used: {error.strerror}", "go to another one") from error


def silence_followers() -> None:
    """Close stdout on every rank but 0.

    Raises:
        PactlError: if the environment contradicts itself.
    """
    place = Placement.here()
    if place is not None and place.rank:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays open to the end of the process


def end(command: Callable[[], int]) -> NoReturn:
    """Run a command and end the process with its exit code; an error is one line on stderr.

    Any other exception is a bug: Python shows its traceback.
    """
    if _is_one_of_several():
        sys.excepthook = _show_and_leave
    if handoff := Handoff.received():  # the launcher itself reports what it has stopped
        end_with(handoff.launcher)
    else:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the same as Ctrl-C
    try:
        code = command()
        sys.stdout.flush()  # a write that fails is an error of the command
        if code == INTERRUPTED:  # typer's code for Ctrl-C
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
    """Drop what stdout could not write; Python would complain of it at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_and_leave(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show the traceback of an unexpected exception as Python does, and end the process."""
    sys.__excepthook__(kind, error, trace)
    _leave(FAILED)


def _leave(code: int) -> NoReturn:
    """End the process; after a failure, one of several does not wait for the others, which may not answer."""
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
    """Return what the parser says, and what to do."""
    if hint := published.hint(error):
        return f"{error.message} ({hint})"
    context = getattr(error, "ctx", None)
    command = str(context.info_name) if context and context.parent else ""
    return f"{error.format_message().replace('Value error, ', '')} ({seek_help(command)})"


def _complain(text: str, exit_code: int) -> int:
    """Print a complaint, unless another process has or `pactl launch` will; return the exit code."""
    if HANDOFF in os.environ or not _is_one_of_several() or _is_first_to_complain():
        complain(text)
    return exit_code


def _is_first_to_complain() -> bool:
    place = Placement.here()
    assert place is not None
    if "torch" not in sys.modules:  # all processes have found the same mistake in the command line
        return place.local_rank == 0
    from pactl_cli.processes.world import is_first_to_complain

    return is_first_to_complain(place)
