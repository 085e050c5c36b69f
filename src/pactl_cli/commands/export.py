"""`pactl export`: a certified classifier as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pactl_cli import catalogue
from pactl_cli.commands import completion
from pactl_cli.commands.options import with_options
from pactl_cli.commands.piped import run_directories
from pactl_cli.commands.terminal import Terminal, starting
from pactl_cli.commands.verification import DataOptions, finding
from pactl_cli.errors import FAILED, PactlError, reason


@with_options(DataOptions)
def export(
    run_dir: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR", help="A certified run, or - for stdin.", autocompletion=completion.run_directory
        ),
    ],
    options: DataOptions,
    to: Annotated[Path, typer.Option(help="The file: NAME.safetensors, NAME.pt2 or NAME.onnx.", show_default=False)],
    card: Annotated[Path | None, typer.Option(help="Write a model card, too: README.md.", show_default=False)] = None,
    license_name: Annotated[
        str, typer.Option("--license", help="That the card names, an identifier of Hugging Face's.")
    ] = "other",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a run's certified classifier as a file that takes inputs as they are. Prints the file's path."""
    settings = options.settings("export")
    if not all(letter.isascii() and (letter.isalnum() or letter in ".-") for letter in license_name):
        raise PactlError(f"--license {license_name} is no identifier", "such as apache-2.0, cc-by-4.0 or other")
    [directory] = run_directories([run_dir])[-1:]
    with starting():
        from pactl_cli.problem.consent import Named
        from pactl_cli.stages.exporting import export as run_stage
        from pactl_cli.stages.exporting import require_free
        from pactl_cli.stages.model_card import model_card

    if card is not None:
        require_free(card, "--card", force=force)
        if card.resolve() == to.resolve():
            raise PactlError(f"--card {card} is the file of --to", "name another file")
    named = Named(settings.data_dir, settings.dataset, settings.model_name, settings.tokenizer)
    with catalogue.handing_over({catalogue.NETWORK: named.model_name}):
        classifier = run_stage(directory, to, named, Terminal(), force=force)
    if card is not None:
        _write(card, model_card(classifier, to, license_name, finding(directory, classifier.certificate, settings)))
    print(to)


def _write(card: Path, text: str) -> None:
    """Write a card, whole or not at all."""
    from pactl_cli.runs.directory import replace_file

    try:
        replace_file(card, text.encode())
    except OSError as error:
        raise PactlError(f"--card {card} cannot be written: {reason(error)}", exit_code=FAILED) from error
