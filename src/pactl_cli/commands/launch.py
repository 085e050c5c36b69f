"""The options of `pactl launch`, and what it decides for all processes: the run directory and the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pactl_cli.commands.next_steps import bound_advice, resume_advice
from pactl_cli.commands.option_groups import RunOptions
from pactl_cli.errors import PactlError, shell_command
from pactl_cli.runs.directory import MANIFEST
from pactl_cli.runs.kinds import KINDS
from pactl_cli.runs.settings import BoundSettings

Launched = Literal["train", "transfer", "prior", "bound"]
_several = partial(typer.Option, rich_help_panel="Several machines")


@dataclass(frozen=True)
class LaunchOptions:
    """The options of `launch` about the processes: their number, and where they meet."""

    gpus: Annotated[int | None, typer.Option(help="One process on each of N GPUs.", min=1, metavar="N")] = None
    cpus: Annotated[int | None, typer.Option(help="N processes without GPUs.", min=1, metavar="N")] = None
    max_restarts: Annotated[int, typer.Option(help="How often to restart from the last saved state.", min=0)] = 0
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a process that hangs.", min=1.0)] = 1800.0
    nnodes: Annotated[
        str, _several(help="Number of machines; each runs the same command, with --out.", metavar="MIN[:MAX]")
    ] = "1"
    rdzv_endpoint: Annotated[
        str | None,
        _several(help="Address of the machine where all meet.", show_default="a free local port", metavar="HOST:PORT"),
    ] = None
    rdzv_id: Annotated[str, _several(help="Name of the job, the same on all machines.", metavar="ID")] = "pactl"
    node_rank: Annotated[
        int | None,
        _several(
            help="Number of this machine; 0 is the one at the endpoint, which prints.",
            min=0,
            show_default="by host name",
        ),
    ] = None

    def machines(self) -> tuple[int, int]:
        """Return the least and the largest number of machines.

        Raises:
            PactlError: if `--nnodes` is no range, or contradicts `--node-rank` or `--rdzv-endpoint`.
        """
        least, _, most = self.nnodes.partition(":")
        if not (least + most).isdecimal() or not 1 <= int(least or 0) <= int(most or least):
            raise PactlError(f"--nnodes {self.nnodes} is not MIN or MIN:MAX", "such as 2 or 1:4")
        low, high = int(least), int(most or least)
        if (self.node_rank or 0) >= high:
            raise PactlError(f"--node-rank {self.node_rank} is not below --nnodes {high}", "machines count from 0")
        if high > 1 and self.endpoint() is None:
            raise PactlError(f"--nnodes {self.nnodes} needs --rdzv-endpoint", "HOST:PORT of one, the same on all")
        return low, high

    def endpoint(self) -> tuple[str, int] | None:
        """Return the host and the port where the machines meet; None for a free port of a single machine.

        Raises:
            PactlError: if `--rdzv-endpoint` is not HOST:PORT.
        """
        if self.rdzv_endpoint is None:
            return None
        host, _, port = self.rdzv_endpoint.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise PactlError(f"--rdzv-endpoint {self.rdzv_endpoint} is not HOST:PORT", "such as node0:29500")
        return host.strip("[]"), int(port)

    def called(self) -> str:
        """Return the command line with the same options."""
        given = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}
        return shell_command("launch", **given)


def state_of(target: Path | None) -> str:
    """Return a text that changes when a run begins in a directory."""
    with suppress(OSError):
        if target is not None:
            manifest = (target / MANIFEST).stat()
            return f"{manifest.st_ino}-{manifest.st_mtime_ns}"
    return "nothing"


def require_device(device: str | None, options: LaunchOptions) -> str:
    """Return the kind of device that all processes compute on.

    Raises:
        PactlError: unless one of `--gpus` and `--cpus` is given, or if the command's own `--device` contradicts it.
    """
    if (options.gpus is None) == (options.cpus is None):
        raise PactlError("launch needs --gpus N or --cpus N", "give one of them")
    kind, option = ("cuda", "--gpus") if options.gpus else ("cpu", "--cpus")
    if device not in (None, "auto", kind):
        raise PactlError(f"--device {device} does not go with launch {option}", "leave it out")
    return kind


@contextmanager
def claimed(name: str, given: dict[str, Any], launched: str) -> Iterator[tuple[Path | None, Callable[[], str]]]:
    """Check a command's options before any process starts; yield the run directory and the advice after a stop.

    The directory of a training command is claimed for the time of the launch; `bound` has none.

    Args:
        given: the command's parameters, as parsed from the command line.
        launched: the launcher's own command line.

    Raises:
        PactlError: naming every wrong value.
    """
    model = BoundSettings if name == "bound" else KINDS[name].settings
    settings = {field: given[field] for field in model.model_fields if given.get(field) is not None}
    if name == "bound":
        BoundSettings.parse(settings)
        yield None, partial(bound_advice, given["run_dirs"], settings, launched)
        return
    options = RunOptions.among(given)
    with options.target(options.settings(name, settings)) as target:
        yield target, partial(resume_advice, name, settings, options, target, launched)


def with_paths(words: list[str], directories: list[Path]) -> list[str]:
    """Return a command line with the paths from the pipe in place of `-`: only one process can read the pipe."""
    paths = [f"./{path}" if str(path).startswith("-") else str(path) for path in directories]
    return [word for given in words for word in (paths if given == "-" else [given])]
