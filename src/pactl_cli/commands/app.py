"""The command line: parse, make settings, call a stage, print. Stages, and so torch, are imported when they run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from pactl_cli import __version__, catalogue
from pactl_cli.commands.launch import assembled_crew, require_device, require_launchable, require_sound, with_paths
from pactl_cli.commands.options import merge, with_settings
from pactl_cli.commands.outcome import end, silence_followers
from pactl_cli.commands.reference import names_epilog
from pactl_cli.commands.report import report
from pactl_cli.commands.supervision import run_crew
from pactl_cli.commands.terminal import Terminal, percent, print_certificate
from pactl_cli.errors import BOUND_EXCEEDED, MissingError, PactlError
from pactl_cli.runs.settings import (
    CERTIFICATE,
    DATA,
    MACHINE,
    MAX_SEED,
    NETWORK,
    SETTINGS,
    BoundSettings,
    PriorSettings,
    TrainSettings,
    TransferSettings,
)

if TYPE_CHECKING:
    from pactl_cli.stages.display import Display
    from pactl_cli.training.processes import World

RUN = "Run directory"
SEVERAL = "Several machines"

app = typer.Typer(
    name="pactl",
    help="Certified error bounds for neural networks, from the training set alone.",
    epilog="Begin with:  pactl train | pactl bound -",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pactl {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Certified error bounds for neural networks, from the training set alone."""


_Out = Annotated[
    Path | None,
    typer.Option(help="Where to write.", show_default="runs/TIME-DATASET-MODEL-MODE-dD", rich_help_panel=RUN),
]
_Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.", rich_help_panel=RUN)]
_Force = Annotated[bool, typer.Option("--force", help="Replace the run in --out.", rich_help_panel=RUN)]
_Config = Annotated[Path | None, typer.Option(help="Settings as YAML; options override them.", rich_help_panel=RUN)]
_PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the settings as YAML and leave.", rich_help_panel=RUN)
]


@app.command(epilog=names_epilog("pactl train --dataset mnist --data-dir data --intrinsic-dim 3000 | pactl bound -"))
@with_settings(TrainSettings)
def train(
    given: dict[str, Any],
    out: _Out = None,
    resume: _Resume = False,
    force: _Force = False,
    config: _Config = None,
    print_config: _PrintConfig = False,
) -> None:
    """Train a network in a random subspace. Prints the run directory."""
    if settings := _settings("train", given, out, config, print_config, resume, force):
        from pactl_cli.stages.train import train as run_stage

        _begin_run(run_stage, settings, out, resume, force)


@app.command(epilog="Example:  pactl transfer runs/cifar10 --dataset mnist | pactl bound -")
@with_settings(TransferSettings)
def transfer(
    given: dict[str, Any],
    source: Annotated[str, typer.Argument(help="A run directory, or - for stdin, or torchvision:NAME.")],
    out: _Out = None,
    resume: _Resume = False,
    force: _Force = False,
    config: _Config = None,
    print_config: _PrintConfig = False,
) -> None:
    """Train in a subspace around the weights of another run, or of torchvision. Prints the run directory."""
    given["source"] = str(run_directories([Path(source)])[-1]) if source == "-" else source
    if settings := _settings("transfer", given, out, config, print_config, resume, force):
        from pactl_cli.stages.transfer import transfer as run_stage

        _begin_run(run_stage, settings, out, resume, force)


@app.command(epilog="Example:  pactl prior --dataset mnist --train-subset 0.5 --intrinsic-dim 1000 | pactl bound -")
@with_settings(PriorSettings)
def prior(
    given: dict[str, Any],
    out: _Out = None,
    resume: _Resume = False,
    force: _Force = False,
    config: _Config = None,
    print_config: _PrintConfig = False,
) -> None:
    """Train all weights on a part of the data, then a subspace on the rest. Prints the run directory."""
    if settings := _settings("prior", given, out, config, print_config, resume, force):
        from pactl_cli.stages.prior import prior as run_stage

        _begin_run(run_stage, settings, out, resume, force)


def _settings(
    kind: str,
    given: dict[str, Any],
    out: Path | None,
    config: Path | None,
    print_config: bool,
    resume: bool,
    force: bool,
) -> TrainSettings | None:
    """The settings of a run, from options and a file; None if they were to be printed only."""
    if resume and force:
        raise PactlError("--resume and --force exclude each other", "give one of them")
    if resume and out is None:
        raise PactlError("--resume needs --out", "name the run directory to go on with")
    base = out / "config.yml" if resume and out and config is None and os.path.exists(out / "config.yml") else config
    settings = SETTINGS[kind].parse(merge(given, base))
    if not print_config:
        return settings
    print(yaml.safe_dump(settings.as_dict(), sort_keys=False), end="")
    return None


def _begin_run(
    stage: Callable[..., None], settings: TrainSettings, out: Path | None, resume: bool, force: bool
) -> None:
    """Runs a stage and prints where."""
    from pactl_cli.stages.training_run import Destination

    target = out or _default_directory(settings)
    with _shared() as (world, display):
        stage(settings, Destination(target, resume=resume, force=force), display, world)
        print(target)


@contextmanager
def _shared() -> Iterator[tuple[World, Display]]:
    """The processes that share a command, and what this one shows: only rank 0 does."""
    from pactl_cli.stages.display import Silence
    from pactl_cli.training.processes import joined

    with joined() as world:
        yield world, Terminal() if world.leads else Silence()


def _default_directory(settings: TrainSettings) -> Path:
    """A new directory below `runs/`, named after the time and the settings."""
    dataset = settings.dataset.partition(":")[0]
    model = settings.model_name or catalogue.dataset_entry(settings.dataset).model
    dim = "" if settings.intrinsic_dim is None else f"-d{settings.intrinsic_dim}"
    time = datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{time}-{dataset}-{model.replace(':', '.')}-{settings.intrinsic_mode}{dim}"
    path, number = Path("runs") / name, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return path


def run_directories(paths: list[Path]) -> list[Path]:
    """The run directories named, `-` standing for the lines of stdin."""
    found: list[Path] = []
    for path in paths:
        if str(path) != "-":
            found.append(path)
            continue
        lines = [line for line in sys.stdin.read().split("\n") if line]
        if not lines:
            raise MissingError("no run directory came through the pipe", "the command before this one failed")
        found += map(Path, lines)
    return found


_Json = Annotated[bool, typer.Option("--json", help="JSON even to a terminal.")]


@app.command(epilog="Example:  pactl bound runs/mine --quant-epochs 10 --json | jq .error_bound")
@with_settings(BoundSettings)
def bound(
    given: dict[str, Any],
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="Runs to certify, or - for stdin.")],
    as_json: _Json = False,
    fail_above: Annotated[
        float | None,
        typer.Option(help="Exit with 3 if the certificate is above this error.", rich_help_panel=CERTIFICATE),
    ] = None,
) -> None:
    """Quantise, code and certify a run; of several, the best. Prints the certificate."""
    settings = BoundSettings.parse(given)
    if fail_above is not None and not 0 <= fail_above <= 1:
        raise PactlError(f"--fail-above {fail_above}: must lie between 0 and 1")
    directories = run_directories(run_dirs)
    from pactl_cli.stages.bound import bound as run_stage

    with _shared() as (world, display):
        path, certificate = run_stage(directories, settings, display, world)
        if as_json or not sys.stdout.isatty():
            print(certificate.model_dump_json(indent=2))
        else:
            print_certificate(certificate, str(path))
    if fail_above is not None and certificate.error_bound > fail_above:
        raise PactlError(
            f"the certificate, {percent(certificate.error_bound)}, is above --fail-above {fail_above:g}",
            exit_code=BOUND_EXCEEDED,
        )


@app.command(
    context_settings={"allow_interspersed_args": False},
    epilog="Examples:\n\npactl launch --gpus 4 train --dataset cifar10 | pactl launch --gpus 4 bound -\n\n"
    "pactl launch --cpus 2 train --out runs/mine --resume\n\n"
    "pactl launch --gpus 8 --nnodes 2 --node-rank 0 --rdzv-endpoint node0:29500 train --out /shared/run",
)
def launch(
    context: typer.Context,
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND ...", help="train, transfer, prior or bound, with its options.")
    ],
    gpus: Annotated[int | None, typer.Option(help="One process on each of N GPUs.", min=1, metavar="N")] = None,
    cpus: Annotated[int | None, typer.Option(help="N processes without GPUs.", min=1, metavar="N")] = None,
    nnodes: Annotated[
        int, typer.Option(help="Machines: run the same command on each, with --out.", min=1, rich_help_panel=SEVERAL)
    ] = 1,
    node_rank: Annotated[int, typer.Option(help="Which of them this is, from 0.", min=0, rich_help_panel=SEVERAL)] = 0,
    rdzv_endpoint: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of machine 0.",
            show_default="a free port of this machine",
            metavar="HOST:PORT",
            rich_help_panel=SEVERAL,
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a process that hangs.", min=1.0)] = 1800.0,
) -> None:
    """Run a command on several processes as if it were one. Prints what the command prints, once."""
    name, *words = command
    require_launchable(name)
    assert context.parent is not None
    inner = context.parent.command.get_command(context.parent, name)  # type: ignore[attr-defined]
    with inner.make_context(name, list(words), parent=context.parent) as parsed:
        given = parsed.params
        if given.get("print_config"):
            inner.invoke(parsed)
            return
    device = require_device(given["device"], gpus)
    settings = require_sound(name, given, _settings)
    crew = assembled_crew(
        [name, "--device", device],
        gpus=gpus,
        cpus=cpus,
        nnodes=nnodes,
        node_rank=node_rank,
        rdzv_endpoint=rdzv_endpoint,
        timeout=timeout,
    )
    advice = f"certify again: pactl launch bound {' '.join(words)}"
    if settings is not None:
        if given["out"] is None and nnodes > 1:
            raise PactlError(f"--nnodes {nnodes} needs --out", "name a directory that all machines share")
        target = given["out"] or _default_directory(settings)
        crew = replace(crew, words=[*crew.words, "--out", str(target)])
        advice = f"what it has saved is whole: go on with --resume --out {target}"
    paths = with_paths(words, lambda: run_directories([Path("-")])[-1 if name == "transfer" else 0 :])
    code, said = run_crew(replace(crew, words=[*crew.words, *paths]), advice)
    print(said, end="", file=sys.stderr)
    sys.exit(code)


@app.command(epilog="Example:  pactl verify runs/mine --data-dir data")
def verify(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A certified run, or - for stdin.")],
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where named data sets lie.", show_default="where training found them", rich_help_panel=DATA),
    ] = None,
    model_name: Annotated[
        str | None,
        typer.Option(
            help="The network, if it is code of somebody's own, MODULE:FUNCTION: it is loaded only if named here.",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=MACHINE)] = "auto",
    as_json: _Json = False,
) -> None:
    """Decode a certificate's message, count again, compute again. Exit 1 if anything disagrees."""
    settings = BoundSettings.parse({"device": device})
    model_name = None if model_name is None else catalogue.model_name(model_name)
    [directory] = run_directories([run_dir])[-1:]
    from pactl_cli.stages.verify import verify as run_stage

    certificate = run_stage(directory, data_dir, settings.device, Terminal(), model_name)
    if as_json:
        verdict = {"verified": True, "run_dir": str(directory), "error_bound": certificate.error_bound}
        print(json.dumps(verdict | {"assumptions": certificate.assumptions}, indent=2))
        return
    print(f"verified: {directory}")
    print(f"  {certificate.statement}")
    print("  What cannot be verified, and is assumed:")
    for line in certificate.assumptions:
        print(f"  - {line}")


app.command(epilog="Example:  pactl report runs/* --html report.html")(report)


@app.command(epilog="Example:  pactl permute --dataset cifar10 --seed 137")
def permute(
    dataset: Annotated[str, typer.Option(help="A named data set, or npz:PATH, or folder:PATH.", rich_help_panel=DATA)],
    seed: Annotated[int, typer.Option(help="Of the permutation.", min=0, max=MAX_SEED)] = catalogue.DEFAULT_SEED,
    out: Annotated[
        Path | None, typer.Option(help="Where to write.", show_default="DATASET-permutation-SEED.npy")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where named data sets lie.", show_default="$PACTL_DATA_DIR, else the cache", rich_help_panel=DATA
        ),
    ] = None,
) -> None:
    """Write a permutation of a training set's indices, the same everywhere. Prints the file's path."""
    kind, colon, path = dataset.partition(":")
    target = out or Path(f"{Path(path).stem if colon else kind}-permutation-{seed}.npy")
    from pactl_cli.stages.permute import permute as run_stage

    run_stage(dataset, seed, target, data_dir)
    print(target)


@app.command()
def info(as_json: _Json = False) -> None:
    """Versions, devices and directories: what a bug report needs."""
    from pactl_cli.stages.info import info as collect

    facts = collect()
    if as_json or not sys.stdout.isatty():
        print(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {', '.join(value) if isinstance(value, list) else value}")


def main() -> None:
    """The `pactl` executable: every error is one line on stderr and an exit code."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # a path is bytes, whatever the locale
    end(run)


def run() -> int:
    """The command that was called; gives the exit code."""
    silence_followers()
    return int(app(standalone_mode=False) or 0)
