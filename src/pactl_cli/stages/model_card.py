"""A model card in Hugging Face's format; the run may be a stranger's, so none of its words becomes markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from pactl_cli import __version__
from pactl_cli.catalogue import dataset_in_words
from pactl_cli.certificate.percent import in_bits, percent
from pactl_cli.errors import on_one_line, shell_command
from pactl_cli.models.inputs import IMAGE, TOKENS
from pactl_cli.stages.classifier import Classifier

_TASKS = {IMAGE: "image-classification", TOKENS: "text-classification"}
_TABLE_TASK = "tabular-classification"
_MARKUP = re.compile(r"([\\`*_\[\]<>&|#~$@]|(?<=:)//|(?<=www)\.)")
_LONGEST, _MOST_CLASSES = 2000, 100


def model_card(classifier: Classifier, file: Path, license_name: str, verify: dict[str, Any]) -> str:
    """Return the card of an exported classifier.

    Args:
        file: the exported file.
        license_name: an identifier that Hugging Face knows.
        verify: options, by name, with which `pactl verify` finds data and network.
    """
    facts = yaml.safe_dump(_facts(classifier, license_name), sort_keys=False, allow_unicode=True)
    return f"---\n{facts}---\n\n" + "\n".join(_lines(classifier, file, verify)) + "\n"


def _facts(classifier: Classifier, license_name: str) -> dict[str, Any]:
    """Return the metadata before the text, for programs."""
    certificate, settings = classifier.certificate, classifier.settings
    is_text = settings.text is not None or classifier.spec.kind == TOKENS
    task = _TASKS[TOKENS] if is_text else _TASKS.get(classifier.spec.kind, _TABLE_TASK)
    dataset = on_one_line(certificate.dataset)[:_LONGEST]
    confidence = f"{1 - certificate.delta:.10g}"
    metrics = [{"type": "error_bound", "value": certificate.error_bound, "name": f"Certified error, at {confidence}"}]
    if certificate.test_error is not None:
        metrics.append({"type": "accuracy", "value": 1 - certificate.test_error, "name": "Test accuracy"})
    return {
        "license": license_name,
        "library_name": "pactl",
        "pipeline_tag": task,
        "tags": ["pactl", "pac-bayes", "generalization-bound", "certified"],
        "model-index": [
            {
                "name": on_one_line(str(certificate.configuration["model_name"])),
                "results": [
                    {"task": {"type": task}, "dataset": {"type": dataset, "name": dataset}, "metrics": metrics}
                ],
            }
        ],
    }


def _lines(classifier: Classifier, file: Path, verify: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the card's text."""
    certificate, spec = classifier.certificate, classifier.spec
    side, dataset = certificate.side_information, dataset_in_words(certificate.dataset)
    names = ", ".join(map(_plain, classifier.class_names[:_MOST_CLASSES]))
    more = ", ..." if len(classifier.class_names) > _MOST_CLASSES else ""
    model = _plain(str(certificate.configuration["model_name"]))
    yield from (f"# {model}, certified", "", f"**{_plain(certificate.statement)}**", "")
    yield from ("## What it is", "", f"- File: {_plain(file.name)}", f"- Network: {model}")
    yield f"- Inputs: {_plain(str(spec))}; how they are prepared is in the file's metadata"
    yield from (f"- Classes: {names}{more}", "", "## Data", "")
    yield f"- Data set: {_plain(dataset)}"
    yield f"- Examples that were counted: {certificate.bound_examples:,}, sha256 {_plain(certificate.data_sha256)}"
    if source := side.get("source"):
        yield f"- Training started from what the run calls: {_plain(str(source))}"
    yield from ("", "## Certificate", "", "| what | value |", "|---|---|")
    counted = f"{certificate.errors:,} of {certificate.bound_examples:,}"
    for what, value in (
        ("certified error", f"{percent(certificate.error_bound)}, with probability {1 - certificate.delta:.10g}"),
        ("errors on the counted examples", counted),
        ("test error (a check, not used)", percent(certificate.test_error)),
        ("message", f"{in_bits(certificate.message_bits)}, and {in_bits(certificate.ledger_bits)} for other choices"),
        ("sha256 of bound.json", sha256(certificate.to_bytes()).hexdigest()),
        ("sha256 of message.bin", _plain(certificate.message_sha256)),
    ):
        yield f"| {what} | {value} |"
    if certificate.guarantees:
        yield from ("", f"With probability {1 - certificate.delta:.10g}, all of this holds at once:", "")
        yield from (f"- {_plain(claim)}" for claim in certificate.claims.values())
    yield from ("", "It assumes what no program can check:", "")
    yield from (f"- {_plain(sentence)}" for sentence in certificate.assumptions)
    yield from ("", "## How to verify it", "", "With the run directory and the data:", "", "```")
    yield from (on_one_line(shell_command("verify", "RUN_DIR", **verify)), "```", "")
    yield (
        "This decodes the message, rebuilds the classifier, counts its errors again and recomputes the bound. The "
        f"certificate is about the classifier in single precision. Made by pactl {__version__}."
    )


def _plain(text: str) -> str:
    """Return a text on one line, cut to a readable length, with all markup and links escaped."""
    return _MARKUP.sub(r"\\\1", on_one_line(text)[:_LONGEST])
