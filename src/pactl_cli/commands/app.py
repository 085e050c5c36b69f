"""The command line: parse, make settings, call a stage, print. Stages load torch, and are imported when they run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pactl_cli import __version__, catalogue
from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.certificate.percent import percent
from pactl_cli.commands import completion
from pactl_cli.commands.certify import certify
from pactl_cli.commands.export import export
from pactl_cli.commands.launch import (
    Launched,
    LaunchOptions,
    claimed,
    require_device,
    with_paths,
)
from pactl_cli.commands.layout import Command, Group
from pactl_cli.commands.names import HINT as NAMES_HINT
from pactl_cli.commands.names import names
from pactl_cli.commands.next_steps import advising, bound_advice, bound_command, launcher, resume_advice
from pactl_cli.commands.option_groups import RUN, CertifiedRun, JsonOption, LogOption, RunOptions, VerifyOptions
from pactl_cli.commands.options import with_options, with_settings
from pactl_cli.commands.outcome import end, open_closed_streams, require_working_directory, silence_followers
from pactl_cli.commands.piped import run_directories, with_named_runs
from pactl_cli.commands.predict import predict
from pactl_cli.commands.report import report
from pactl_cli.commands.results import print_certified, print_verdict
from pactl_cli.commands.terminal import Terminal, starting
from pactl_cli.commands.trackers import track_certified, tracking
from pactl_cli.errors import BOUND_EXCEEDED, PactlError
from pactl_cli.runs.defaults import in_words
from pactl_cli.runs.fields import CERTIFICATE, DATA
from pactl_cli.runs.kinds import KINDS, kind_of
from pactl_cli.runs.settings import MAX_SEED, BoundSettings, PriorSettings, TrainSettings, TransferSettings
from pactl_cli.stages.order import named_code

if TYPE_CHECKING:
    from pactl_cli.problem.display import Display
    from pactl_cli.processes.world import World

app = typer.Typer(
    name="pactl",
    epilog="Begin with:  pactl train | pactl bound -",
    no_args_is_help=True,
    cls=Group,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),  # the published scripts spell options with _
    },
)
_command = partial(app.command, cls=Command)


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


@_command(epilog=f"Example:  pactl train --dataset mnist --intrinsic-dim 3000 | pactl bound -\n\n{NAMES_HINT}")
@with_settings(TrainSettings)
@with_options(RunOptions)
def train(given: dict[str, Any], options: RunOptions) -> None:
    """Train a network in a random subspace. Prints the run directory."""
    _begin_run("train", given, options)


@_command(epilog="Example:  pactl transfer runs/cifar10 --dataset mnist | pactl bound -")
@with_settings(TransferSettings)
@with_options(RunOptions)
def transfer(
    given: dict[str, Any],
    options: RunOptions,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A run directory, - for stdin, torchvision:NAME, timm:NAME or MODULE:FUNCTION.",
            autocompletion=completion.source,
        ),
    ],
) -> None:
    """Train in a subspace around the weights of a run, a package or a file. Prints the run directory."""
    _begin_run("transfer", given | {"source": source}, options)


@_command(epilog="Example:  pactl prior --dataset mnist --train-subset 0.5 | pactl bound -")
@with_settings(PriorSettings)
@with_options(RunOptions)
def prior(given: dict[str, Any], options: RunOptions) -> None:
    """Train all weights on a part of the data, then a subspace on the rest. Prints the run directory."""
    _begin_run("prior", given, options)


def _begin_run(kind: str, given: dict[str, Any], options: RunOptions) -> None:
    """Run the stage of that name and print the run directory, or print only the settings."""
    given, options = with_named_runs(given), options.now()
    settings = options.settings(kind, given)
    if options.print_config:
        print(in_words(settings), end="")
        return
    with (
        options.target(settings) as target,
        advising(lambda: resume_advice(kind, given, options, target, launcher())),
    ):
        with starting():
            from pactl_cli.stages.train import Destination

            made = kind_of(settings)
            stage = made.maker()
        named = settings.model_name if named_code(given) else None
        destination = Destination(target, resume=options.resume, force=options.force, model_name=named)
        with _shared(named) as (world, display):
            log = options.log if world.leads else None
            with tracking(log, target, display, begins=not options.resume) as listener:
                stage(settings, replace(destination, listener=listener), display, world)
            print(target)
            if sys.stdout.isatty() and made.certifies(settings):
                display.say(f"Certify it: {bound_command(target, given, launcher())}")


@contextmanager
def _shared(network: str | None) -> Iterator[tuple[World, Display]]:
    """Yield the processes that share a command, and the display of this one: only rank 0 has a visible one.

    Args:
        network: the network that the user names; it replaces one that a run knows only as a Python object.
    """
    from pactl_cli.problem.display import Silence
    from pactl_cli.processes.world import joined

    with joined() as world, catalogue.handing_over({catalogue.NETWORK: network}):
        yield world, Terminal() if world.leads else Silence()


_FailAbove = Annotated[
    float | None,
    typer.Option(help="Exit with 3 if the best certificate is above this error.", rich_help_panel=CERTIFICATE),
]
_Out = Annotated[
    Path | None,
    typer.Option(
        help="Where to write a copy of the run with this certificate.",
        show_default="into the run itself",
        rich_help_panel=RUN,
    ),
]
_Force = Annotated[
    bool, typer.Option("--force", help="Replace what is there, even a better certificate.", rich_help_panel=RUN)
]


@_command(epilog="Example:  pactl bound runs/mine --quant-epochs 10 --json > certificate.json")
@with_settings(BoundSettings)
def bound(
    given: dict[str, Any],
    run_dirs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_DIR...", help="Runs to certify, or - for stdin.", autocompletion=completion.run_directory
        ),
    ],
    as_json: JsonOption = False,
    print_all: Annotated[bool, typer.Option("--all", help="Print all certificates, not only the best.")] = False,
    fail_above: _FailAbove = None,
    out: _Out = None,
    force: _Force = False,
    log: LogOption = None,
) -> None:
    """Quantise, code and certify trained runs. Prints the best certificate."""
    settings = BoundSettings.parse(given)
    if fail_above is not None and not 0 <= fail_above <= 1:
        raise PactlError(f"--fail-above {fail_above}: must lie between 0 and 1")
    if Path("-") in run_dirs:
        import_module("pactl_cli.stages.bound")  # loads torch while the command before the pipe is still at work
    directories = run_directories(run_dirs)
    with advising(
        lambda: bound_advice(directories, given | {"out": out, "force": force or None, "log": log}, launcher())
    ):
        with starting():
            from pactl_cli.stages.bound import Shelf, best_of
            from pactl_cli.stages.bound import bound as run_stage

        with _shared(settings.model_name) as (world, display):
            certified = run_stage(directories, settings, display, world, Shelf(out, force))
            path, certificate = best_of(certified)
            if world.leads:
                every = certified if print_all else ()
                print_certified((path, certificate), settings, display, as_json=as_json, every=every)
                track_certified(log, certified, display)
    if fail_above is not None and certificate.error_bound > fail_above:
        words = f"the certificate, {percent(certificate.error_bound)}, is above --fail-above {fail_above:g}"
        raise PactlError(words, exit_code=BOUND_EXCEEDED)


_command(epilog="Example:  pactl certify nets:small --weights mine.pth --dataset npz:unseen.npz")(certify)


_command(epilog="Example:  pactl certify nets:small --weights mine.pth --dataset npz:unseen.npz")(certify)


@_command(
    context_settings={"allow_interspersed_args": False},
    epilog="Examples:\n\npactl launch --gpus 4 train --dataset cifar10 | pactl launch --gpus 4 bound -\n\n"
    "pactl launch --cpus 2 train --out runs/mine --resume\n\n"
    "pactl launch --gpus 8 --nnodes 1:4 --max-restarts 3 \\\n"
    "    --rdzv-endpoint node0:29500 train --out /shared/run",
)
@with_options(LaunchOptions)
def launch(
    context: typer.Context,
    name: Annotated[Launched, typer.Argument(metavar="COMMAND", help="train, transfer, prior or bound.")],
    options: LaunchOptions,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="...", help="The command's own arguments and options.")
    ] = None,
) -> None:
    """Run a command on several processes. Prints what the command prints, once."""
    words = words or []
    assert context.parent is not None
    inner = context.parent.command.get_command(context.parent, name)  # type: ignore[attr-defined]
    while True:  # stdin is read only once the other words are known to be right; then all words are parsed again
        with inner.make_context(name, list(words), parent=context.parent) as parsed:
            given = parsed.params
            if given.get("print_config"):
                inner.invoke(parsed)
                return
        device = require_device(given["device"], options)
        if "-" not in words:
            break
        words = with_paths(words, run_directories([Path("-")])[-1 if name in KINDS else 0 :])
    if options.machines()[1] > 1 and name in KINDS and not given["out"]:
        raise PactlError(f"--nnodes {options.nnodes} needs --out", "name a directory that all machines share")
    target, advice = context.with_resource(claimed(name, given, options.called()))
    where = ["--out", str(target)] if target else []
    from pactl_cli.commands.agent import run_processes

    code, said = run_processes(options, [name, "--device", device, *where, *words], target, advice)
    print(said, end="", file=sys.stderr)
    sys.exit(code)


@_command(epilog="Example:  pactl verify runs/mine --data-dir data")
@with_options(VerifyOptions)
def verify(run_dir: CertifiedRun, options: VerifyOptions, as_json: JsonOption = False) -> None:
    """Check a certificate by decoding and counting again. Exits with 1 if anything disagrees, and writes nothing."""
    settings = options.settings("verify")
    [directory] = run_directories([run_dir])[-1:]
    with starting():
        from pactl_cli.problem.consent import Named
        from pactl_cli.stages.verify import verify as run_stage

    named = Named(settings.data_dir, settings.dataset, settings.model_name, settings.tokenizer, settings.groups)
    with catalogue.handing_over({catalogue.NETWORK: named.model_name}):
        verdict = run_stage(directory, named, settings.device, Terminal())
    print_verdict(verdict, directory, as_json=as_json)


_command(epilog="Example:  pactl predict runs/mine photos --labels | sort | uniq -c")(predict)
_command(epilog="Example:  pactl export runs/mine --to mine.onnx --card README.md")(export)
_command(epilog="Example:  pactl report runs/* --html report.html")(report)
_command(epilog="Example:  pactl names networks --json")(names)


@_command(epilog="Example:  pactl permute --dataset cifar10 --seed 137")
def permute(
    dataset: Annotated[
        str,
        typer.Option(
            help="Data set: a name, or csv:PATH, npz:PATH, ...",
            rich_help_panel=DATA,
            autocompletion=completion.NAMES["--dataset"],
        ),
    ],
    seed: Annotated[int, typer.Option(help="Seed of the permutation.", min=0, max=MAX_SEED)] = DEFAULT_SEED,
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="DATASET-permutation-SEED.npy")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where named data sets lie.", show_default="$PACTL_DATA_DIR, else the cache", rich_help_panel=DATA
        ),
    ] = None,
) -> None:
    """Write a reproducible permutation of a training set's indices. Prints the file's path."""
    from pactl_cli.stages.permute import default_place
    from pactl_cli.stages.permute import permute as run_stage

    target = out or default_place(dataset, seed)
    run_stage(dataset, seed, target, data_dir)
    print(target)


@_command()
def info(as_json: JsonOption = False) -> None:
    """Print versions, devices and directories, for a bug report."""
    with starting():
        from pactl_cli.stages.info import info as collect

    facts = collect()
    if as_json or not sys.stdout.isatty():
        print(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {', '.join(value) if isinstance(value, list) else value}")


def main() -> None:
    """Run `pactl`: every error is one line on stderr and an exit code."""
    open_closed_streams()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # a path is bytes, whatever the locale
    end(_run)


def _run() -> int:
    """Run the command of the command line and return the exit code."""
    require_working_directory()
    silence_followers()
    return int(app(standalone_mode=False) or 0)
