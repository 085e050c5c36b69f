"""`pactl export`: a certified classifier as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pactl_cli import catalogue
from pactl_cli.commands.next_steps import location_options
from pactl_cli.commands.option_groups import CertifiedRun, DataOptions
from pactl_cli.commands.options import with_options
from pactl_cli.commands.piped import run_directories
from pactl_cli.commands.terminal import Terminal, starting
from pactl_cli.errors import PactlError, not_written


@with_options(DataOptions)
def export(
    run_dir: CertifiedRun,
    options: DataOptions,
    to: Annotated[Path, typer.Option(help="The file: NAME.safetensors, NAME.pt2 or NAME.onnx.", show_default=False)],
    card: Annotated[
        Path | None, typer.Option(help="Also write a model card, such as README.md.", show_default=False)
    ] = None,
    license_name: Annotated[
        str, typer.Option("--license", help="License that the card names, as Hugging Face spells it.")
    ] = "other",
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Write a run's certified classifier as a file that takes raw inputs. Prints the file's path."""
    settings = options.settings("export")
    if not all(letter.isascii() and (letter.isalnum() or letter in ".-") for letter in license_name):
        raise PactlError(f"--license {license_name} is no identifier", "name one such as apache-2.0 or cc-by-4.0")
    [directory] = run_directories([run_dir])[-1:]
    with starting():
        from pactl_cli.problem.consent import Named
        from pactl_cli.runs.directory import replace_file
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
        found_with = location_options(directory, classifier.certificate, settings)
        try:
            replace_file(card, model_card(classifier, to, license_name, found_with).encode())
        except OSError as error:
            raise not_written(f"--card {card}", error) from error
    print(to)
