"""Forgeries that agree with themselves in everything, but not with the truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pactl_cli.certificate.certificate import all_bounds, sentence
from pactl_cli.certificate.risk_bounds import catoni_bound

Call = Callable[..., Any]
Document = dict[str, Any]


@pytest.fixture
def forged(pactl: Call, certified: Path, agree: Call) -> Call:
    """`forged(change)`: what `verify` says of the run once the certificate was changed; None if it believes it."""
    good = json.loads((certified / "bound.json").read_text())

    def check(change: Callable[[Document], object], consistent: bool = True) -> str | None:
        document = json.loads(json.dumps(good))
        change(document)
        if consistent:
            follow(document)
        agree(certified, "bound.json", document)
        done = pactl("verify", certified)
        return done.complaint(1) if done.code else None

    return check


def follow(document: Document) -> None:
    """Make everything that follows from errors, examples, bits and delta agree with them."""
    errors, examples, delta = document["errors"], document["bound_examples"], document["delta"]
    document["bits"]["ledger"] = document["ledger_bits"]
    bits = document["message_bits"] + document["ledger_bits"]
    document["bounds"] = all_bounds(errors=errors, examples=examples, bits=bits, delta=delta)
    document["error_bound"] = document["bounds"]["binomial"]
    document["quantised_train_error"] = errors / examples
    document["statement"] = sentence(document["error_bound"], delta, examples, document["dataset"])
    published = document["published"]
    published["bound"] = catoni_bound(errors=errors, examples=examples, bits=published["bits"], delta=delta)


def test_the_forger_at_work_changes_nothing_that_is_true(forged: Call) -> None:
    assert forged(lambda document: None) is None


@pytest.mark.parametrize("fewer", [1, 5, None])
def test_fewer_errors(forged: Call, fewer: int | None) -> None:
    def change(document: Document) -> None:
        document["errors"] -= document["errors"] if fewer is None else fewer

    assert "errors" in (forged(change) or "")


def test_many_more_errors(forged: Call) -> None:
    assert "errors" in (forged(lambda document: document.update(errors=document["errors"] + 20)) or "")


def test_fewer_bits(forged: Call) -> None:
    def change(document: Document) -> None:
        document["message_bits"] -= 8
        document["bits"]["symbols"] -= 8

    assert "bits" in (forged(change) or "")


def test_more_examples(forged: Call) -> None:
    assert forged(lambda document: document.update(bound_examples=300))


def test_a_smaller_training_error(forged: Call) -> None:
    assert forged(lambda document: document.update(train_error=0.0))
    assert forged(lambda document: document.update(test_error=0.0))


@pytest.mark.parametrize("errors", [0, -1])
def test_a_comparison_that_was_made_up(forged: Call, errors: int) -> None:
    """What the published path would have given stands in the certificate, so it must be true like the rest."""

    def change(document: Document) -> None:
        counts = {"errors": errors % (document["bound_examples"] + 1), "examples": document["bound_examples"]}
        bound = catoni_bound(**counts, bits=1.0, delta=document["delta"])
        document["posthoc"] = {"levels": 5, "errors": counts["errors"], "bits": 1.0, "bound": bound}

    assert forged(change)


def test_a_message_with_something_after_its_end(pactl: Call, certified: Path, agree: Call) -> None:
    good = (certified / "message.bin").read_bytes()
    document = json.loads((certified / "bound.json").read_text())
    unused = 8 * len(good) - document["message_bits"]
    appended = [good + b"\0", good + b"\1"]
    if unused:
        appended.append(good[:-1] + bytes([good[-1] | 1]))
    for message in appended:
        document["message_sha256"] = sha256(message).hexdigest()
        agree(certified, "message.bin", message)
        agree(certified, "bound.json", document)
        assert "message.bin" in pactl("verify", certified).complaint(1)


def test_another_delta_is_another_certificate_and_a_true_one(forged: Call) -> None:
    """Not a lie: the sentence then claims less confidence, or a larger error. Which delta, is an assumption."""
    for delta in (0.01, 0.5):

        def change(document: Document, delta: float = delta) -> None:
            document["delta"] = delta
            holdout = all_bounds(
                errors=round(document["test_error"] * document["test_examples"]),
                examples=document["test_examples"],
                bits=0,
                delta=delta,
            )
            document["holdout_bound"] = holdout["binomial"]

        assert forged(change) is None


def test_bits_that_were_not_declared_are_an_assumption(pactl: Call, trained: Path, agree: Call) -> None:
    """What the user chose by hand cannot be seen in the files; without the charge it is a certificate without it."""
    assert pactl("bound", trained, "--quant-epochs", 0, "--misc-extra-bits", 9).code == 0
    document = json.loads((trained / "bound.json").read_text())
    document["ledger_bits"] = 0.0
    follow(document)
    agree(trained, "bound.json", document)
    pactl("verify", trained).complaint(1)
    document["ledger"] = []
    document["published"]["bits"] -= 9
    follow(document)
    agree(trained, "bound.json", document)
    assert pactl("verify", trained).code == 0
    assert any("fixed before looking" in line for line in document["assumptions"])
