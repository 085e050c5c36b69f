"""`pactl predict`: the classes of inputs by a certified classifier, one line each."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from itertools import chain
from math import isfinite
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pactl_cli import catalogue
from pactl_cli.commands.option_groups import CertifiedRun, DeviceOption, NetworkOptions
from pactl_cli.commands.options import with_options
from pactl_cli.commands.piped import run_directories
from pactl_cli.commands.terminal import Terminal, complain, starting
from pactl_cli.errors import FAILED, MissingError, PactlError, on_one_line
from pactl_cli.runs.fields import DATA, MACHINE

if TYPE_CHECKING:
    from pactl_cli.stages.predicting import Prediction

_PIECE, _LONGEST_PATH = 1 << 16, 1 << 20
_MARGIN_WIDTH, _WIDEST_CLASS = 8, 24
_CONTROL = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that end a column or a line or control a terminal, and the backslash, by which they are escaped."""

_Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="Pictures, folders, texts (.txt), arrays (.npy, .npz, FILE.npz:ARRAY) or tables (.csv, .parquet), of the "
        "same kind as the run's data; or - for paths on stdin.",
    ),
]
_Null = Annotated[bool, typer.Option("--null", "-0", help="Paths on stdin end with a zero byte.", rich_help_panel=DATA)]
_Tokenizer = Annotated[
    str | None,
    typer.Option(help="The tokenizer's file, if the run has one.", show_default=False, rich_help_panel=DATA),
]
_BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Number of inputs at a time.", min=1, show_default="500, or fewer large ones", rich_help_panel=MACHINE
    ),
]


@with_options(NetworkOptions)
def predict(
    run_dir: CertifiedRun,
    inputs: _Inputs,
    options: NetworkOptions,
    labels: Annotated[bool, typer.Option("--labels", help="Print only the classes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
    null: _Null = False,
    tokenizer: _Tokenizer = None,
    batch_size: _BatchSize = None,
    device: DeviceOption = "auto",
) -> None:
    """Print the class of each input by a run's certified classifier. The class is empty where the classifier abstains.
    Needs only the run, not its data.
    """
    settings = options.settings("predict", device=device)
    if labels and as_json:
        raise PactlError("--labels and --json exclude each other", "give one of them")
    if str(run_dir) == "-" and "-" in inputs:
        raise PactlError("stdin has either the run or the paths of inputs", "name the run")
    _require_present(inputs)
    [directory] = run_directories([run_dir])[-1:]
    with starting():
        from pactl_cli.stages.classifier import load
        from pactl_cli.stages.predicting import predict as run_stage
    with catalogue.handing_over({catalogue.NETWORK: settings.model_name}):
        classifier = load(directory, model_name=settings.model_name, device=settings.device)
    paths = chain.from_iterable(_paths_on_stdin(b"\0" if null else b"\n") if path == "-" else [path] for path in inputs)
    in_lines = _table(classifier.class_names) if sys.stdout.isatty() and not (labels or as_json) else _columns
    in_words = _label if labels else _json if as_json else in_lines
    batches = run_stage(classifier, paths, batch_size=batch_size, tokenizer=tokenizer)
    _print_all(batches, in_words, classifier.margin)


def _print_all(
    batches: Iterable[list[Prediction | PactlError]], in_words: Callable[[Prediction], str], threshold: float | None
) -> None:
    """Print predictions batch by batch, and complain of inputs that cannot be read.

    Args:
        threshold: the margin below which the classifier abstains; None if it never does.

    Raises:
        PactlError: at the end, if an input could not be read.
    """
    from pactl_cli.problem.display import Silence

    done, failures, abstained = 0, 0, 0
    display = Silence() if sys.stdout.isatty() else Terminal()  # a bar would overwrite the lines
    with display.progress("predicting") as advance:
        for batch in batches:
            for found in batch:
                if isinstance(found, PactlError):
                    complain(found.one_line())
                    failures += 1
                else:
                    print(in_words(found))
                    abstained += bool(found.abstains)
            sys.stdout.flush()
            done += len(batch)
            advance(done, 0, f"{done:,}")
    if abstained:
        Terminal().warn(
            f"the classifier abstains on {abstained:,} of {done:,} inputs, whose class is empty: their two largest "
            f"logits differ by less than {threshold:g}, or are no numbers"
        )
    if failures:
        raise PactlError(f"{failures:,} of {done:,} inputs cannot be read", exit_code=FAILED)


def _require_present(inputs: list[str]) -> None:
    """Raise MissingError if a named input does not exist."""
    for path in inputs:
        file, is_array, _ = path.rpartition(".npz:")
        if path != "-" and not os.path.lexists(path) and not (is_array and os.path.lexists(f"{file}.npz")):
            raise MissingError(f"{path}: there is no such file")


def _paths_on_stdin(end: bytes) -> Iterator[str]:
    """Yield paths from stdin as they come; the byte `end` ends each.

    Raises:
        PactlError: if there are none, or one is longer than any path can be.
    """
    rest, count = b"", 0
    stream = cast(BufferedReader, sys.stdin.buffer)
    while piece := stream.read1(_PIECE):
        *whole, rest = (rest + piece).split(end)
        if len(rest) > _LONGEST_PATH:
            raise PactlError("what comes through the pipe is no list of paths")
        for path in filter(None, whole):
            count += 1
            yield os.fsdecode(path)
    if rest:
        yield os.fsdecode(rest)
    elif not count:
        raise MissingError("no path came through the pipe", "the command before this one found or did nothing")


def _label(found: Prediction) -> str:
    """Return the class, or "" if the classifier abstains: no class has an empty name."""
    return found.class_name or ""


def _columns(found: Prediction) -> str:
    """Return class, margin and name with tabs between them; control characters in the name are escaped."""
    name = _CONTROL.sub(lambda control: control[0].encode("unicode_escape").decode(), found.name)
    return f"{_label(found)}\t{found.margin:.4g}\t{name}"


def _json(found: Prediction) -> str:
    """Return a prediction as a JSON object; a margin that is no number is null."""
    margin = found.margin if isfinite(found.margin) else None
    said = {"input": found.name, "label": found.label, "class": found.class_name, "margin": margin}
    return json.dumps(said if found.abstains is None else said | {"abstains": found.abstains})


def _table(classes: Iterable[str]) -> Callable[[Prediction], str]:
    """Return a function that formats the rows of a table for people, the first with the header above it."""
    width = min(max(map(len, ("class", *classes))), _WIDEST_CLASS)

    def row(class_name: str, margin: str, name: str) -> str:
        return f"{class_name:<{width}}  {margin:>{_MARGIN_WIDTH}}  {on_one_line(name)}"

    header = iter([row("class", "margin", "input")])
    return lambda found: "\n".join([*header, row(_label(found), f"{found.margin:.4g}", found.name)])
