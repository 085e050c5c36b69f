"""`pactl certify`: a hold-out certificate of an existing network, by `transfer --intrinsic-dim 0` and `bound`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pactl_cli.commands import completion
from pactl_cli.commands.next_steps import advising
from pactl_cli.commands.option_groups import RUN, ForceOption, JsonOption, RunOptions
from pactl_cli.commands.options import with_options, with_settings
from pactl_cli.commands.piped import with_named_runs
from pactl_cli.commands.results import print_certified
from pactl_cli.commands.terminal import Terminal, starting
from pactl_cli.errors import shell_command
from pactl_cli.runs.fields import CERTIFICATE, DATA, SUBSPACE, TRAINING
from pactl_cli.runs.kinds import KINDS
from pactl_cli.runs.settings import BoundSettings, TrainSettings, TransferSettings
from pactl_cli.stages.order import named_code

if TYPE_CHECKING:
    from pactl_cli.certificate.certificate import Certificate

_TRAINING_ONLY = (SUBSPACE, TRAINING, "base_width", "freeze", "lora_rank", "label_noise", "precision", "compile")


@dataclass(frozen=True)
class CertifyOptions:
    """The options of `certify` about the certificate and the run directory."""

    delta: Annotated[
        str,
        typer.Option(
            help="Probability that the certificate fails, or several.", metavar="FLOAT", rich_help_panel=CERTIFICATE
        ),
    ] = "0.05"
    misc_extra_bits: Annotated[
        float, typer.Option(help="Bits for choices made by looking at the examples.", rich_help_panel=CERTIFICATE)
    ] = 0.0
    as_json: JsonOption = False
    out: Annotated[
        Path | None, typer.Option(help="Where to write the run.", show_default="below runs/", rich_help_panel=RUN)
    ] = None
    force: ForceOption = False


@with_settings(TransferSettings, without=_TRAINING_ONLY)
@with_options(CertifyOptions)
def certify(
    given: dict[str, Any],
    options: CertifyOptions,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="MODULE:FUNCTION, a run directory, torchvision:NAME or timm:NAME.",
            autocompletion=completion.source,
        ),
    ],
    dataset: Annotated[
        str,
        typer.Option(
            help="The examples: npz:, folder:, csv: or parquet:PATH, or a name.",
            rich_help_panel=DATA,
            autocompletion=completion.NAMES["--dataset"],
        ),
    ],
) -> None:
    """Certify your own network by a hold-out bound on examples it has not seen. Prints the certificate."""
    given |= {"dataset": dataset}
    named, place = with_named_runs(given | {"source": source}), RunOptions(out=options.out, force=options.force)
    settings = place.settings("transfer", named | {"intrinsic_dim": 0})
    code = settings.model_name if named_code(named) else None
    asked = {"delta": options.delta, "misc_extra_bits": options.misc_extra_bits, "device": settings.device}
    claim = BoundSettings.parse(asked | {"data_dir": settings.data_dir, "model_name": code}, "certify")
    said = given | {"delta": options.delta, "misc_extra_bits": options.misc_extra_bits, "out": options.out}
    again = shell_command("certify", source, **said, force=True if options.out else None)
    with place.target(settings) as target, advising(lambda: f"begin again: {again}"):
        certificate = _certified(settings, claim, target, force=options.force)
        print_certified((target, certificate), claim, Terminal(), as_json=options.as_json)


def _certified(settings: TrainSettings, claim: BoundSettings, target: Path, *, force: bool) -> Certificate:
    """Write a run and the certificate of its starting weights; note where it is and what it assumes; return it."""
    with starting():
        from pactl_cli.stages.assumptions import NOT_SEEN
        from pactl_cli.stages.bound import bound
        from pactl_cli.stages.train import Destination

    display = Terminal()
    KINDS["transfer"].maker()(settings, Destination(target, force=force, model_name=claim.model_name), display)
    [(_, certificate)] = bound([target], claim, display)
    is_open = any(sentence.startswith(NOT_SEEN) for sentence in certificate.assumptions)
    seen = " It holds only if the network was made and chosen without these examples, which nobody can check."
    display.warn(f"a hold-out bound, kept in {target}.{seen if is_open else ''}")
    return certificate
