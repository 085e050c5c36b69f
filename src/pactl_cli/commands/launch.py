"""What `pactl launch` decides once for all processes: where they meet, where they write, on what they compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pactl_cli.commands.next_steps import certifying, going_on
from pactl_cli.commands.run_options import RunOptions
from pactl_cli.errors import PactlError, shell_command
from pactl_cli.runs.directory import MANIFEST
from pactl_cli.runs.kinds import KINDS
from pactl_cli.runs.settings import BoundSettings

LAUNCHED = (*KINDS, "bound")
_several = partial(typer.Option, rich_help_panel="Several machines")


@dataclass(frozen=True)
class CrewOptions:
    """What `launch` is told of the processes: how many they are, and where they meet."""

    gpus: Annotated[int | None, typer.Option(help="One process on each of N GPUs.", min=1, metavar="N")] = None
    cpus: Annotated[int | None, typer.Option(help="N processes without GPUs.", min=1, metavar="N")] = None
    max_restarts: Annotated[int, typer.Option(help="How often to start again, from what was saved.", min=0)] = 0
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a process that hangs.", min=1.0)] = 1800.0
    nnodes: Annotated[str, _several(help="The same command on each, with --out.", metavar="MIN[:MAX]")] = "1"
    rdzv_endpoint: Annotated[
        str | None,
        _several(help="HOST:PORT of one of them.", show_default="a free port of this machine", metavar="HOST:PORT"),
    ] = None
    rdzv_id: Annotated[str, _several(help="Of the job, the same on all.", metavar="ID")] = "pactl"
    node_rank: Annotated[
        int | None,
        _several(help="0 for the one at the endpoint, which prints.", min=0, show_default="by their names"),
    ] = None

    def machines(self) -> tuple[int, int]:
        """How many there are, at least and at most.

        Raises:
            PactlError: if that is not clear, or not where they meet.
        """
        least, _, most = self.nnodes.partition(":")
        if not (least + most).isdecimal() or not 1 <= int(least or 0) <= int(most or least):
            raise PactlError(f"--nnodes {self.nnodes} is not MIN or MIN:MAX", "such as 2 or 1:4")
        found = int(least), int(most or least)
        if self.node_rank is not None and self.node_rank >= found[1]:
            words = f"--node-rank {self.node_rank} is not below --nnodes {found[1]}"
            raise PactlError(words, "machines are counted from 0")
        if found[1] > 1 and self.endpoint() is None:
            raise PactlError(f"--nnodes {self.nnodes} needs --rdzv-endpoint", "HOST:PORT of one, the same on all")
        return found

    def endpoint(self) -> tuple[str, int] | None:
        """Host and port where the machines meet; None for a free port, on one.

        Raises:
            PactlError: if it is none.
        """
        if self.rdzv_endpoint is None:
            return None
        host, _, port = self.rdzv_endpoint.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise PactlError(f"--rdzv-endpoint {self.rdzv_endpoint} is not HOST:PORT", "such as node0:29500")
        return host.strip("[]"), int(port)

    def called(self) -> str:
        """The command line that says the same."""
        said: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return shell_command("launch", **{f.name: said[f.name] for f in fields(self) if said[f.name] != f.default})


def state_of(target: Path | None) -> str:
    """Return something that changes when a run is begun in a directory."""
    with suppress(OSError):
        if target is not None:
            manifest = (target / MANIFEST).stat()
            return f"{manifest.st_ino}-{manifest.st_mtime_ns}"
    return "nothing"


def require_launchable(name: str) -> None:
    """Raises PactlError unless a command can be shared by processes."""
    if name not in LAUNCHED:
        raise PactlError(
            f"launch {name}: only {', '.join(LAUNCHED[:-1])} and {LAUNCHED[-1]} run on several processes",
            "options of launch come before the command",
        )


def require_device(device: str | None, options: CrewOptions) -> str:
    """The kind of device that all processes compute on.

    Raises:
        PactlError: if it is not clear, or the command was told another.
    """
    if (options.gpus is None) == (options.cpus is None):
        raise PactlError("launch needs --gpus N or --cpus N", "give one of them")
    kind, option = ("cuda", "--gpus") if options.gpus else ("cpu", "--cpus")
    if device not in (None, "auto", kind):
        raise PactlError(f"--device {device} does not go with launch {option}", "leave it out")
    return kind


def require_sound(name: str, given: dict[str, Any]) -> AbstractContextManager[Path] | None:
    """Checks a command's options before any process starts; gives the directory that a training command will write,
    which is claimed when it is entered.

    Args:
        given: the command's parameters, as parsed from the command line.

    Raises:
        PactlError: naming every wrong value.
    """
    settings = _settings(name, given)
    if name == "bound":
        BoundSettings.parse(settings)
        return None
    options = RunOptions.among(given)
    return options.target(options.settings(name, settings))


def _settings(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Those among a command's parameters that are settings and were given."""
    model = BoundSettings if name == "bound" else KINDS[name].settings
    return {field: given[field] for field in model.model_fields if given.get(field) is not None}


def advice_for(name: str, given: dict[str, Any], target: Path | None, piped: list[Path], launched: str) -> str:
    """Return what to do when the processes of a command have been stopped.

    Args:
        given: the command's parameters, as parsed from the command line.
        target: the directory that it writes; None for `bound`.
        piped: what `-` stands for.
    """
    if target is None:
        named = [path for each in given["run_dirs"] for path in (piped if str(each) == "-" else [each])]
        return certifying(named, _settings(name, given), launched)
    return going_on(name, _settings(name, given), RunOptions.among(given), target, launched)


def with_piped(given: dict[str, Any], piped: list[Path]) -> dict[str, Any]:
    """A command's parameters in which the run that came through the pipe stands for the `-` of one to start from."""
    starts = {name: piped[-1] for name in ("source", "continued") if str(given.get(name)) == "-"}
    return given | {name: str(path) for name, path in starts.items()}


def with_paths(words: list[str], directories: list[Path]) -> list[str]:
    """A command line whose `-` is replaced by the paths that came through the pipe, which only one process can read."""
    paths = [f"./{path}" if str(path).startswith("-") else str(path) for path in directories]
    return [word for given in words for word in (paths if given == "-" else [given])]
