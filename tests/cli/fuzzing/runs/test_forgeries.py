"""Certificates that claim too much, and all else in agreement with them: never believed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from pactl_cli import catalogue
from pactl_cli.certificate.certificate import all_bounds, sentence
from pactl_cli.certificate.codebook import FreeLevels, Grid
from pactl_cli.certificate.message import Message, encode, read_message
from pactl_cli.certificate.risk_bounds import catoni_bound
from pactl_cli.certificate.task import Task

Draw = Callable[[Any], Any]
Document = dict[str, Any]

# --- Forgeries --------------------------------------------------------------------------------------------------------


def follow(document: Document) -> None:
    """Makes all that is computed from errors, examples, bits and delta agree with them, where anything does."""
    parts, published = document["bits"], document["published"]
    with suppress(TypeError, ValueError, OverflowError, ZeroDivisionError):
        parts["ledger"] = document["ledger_bits"]
        parts["symbols"] = document["message_bits"] - parts["configuration"] - parts["codebook"]
        counts = {"errors": document["errors"], "examples": document["bound_examples"], "delta": document["delta"]}
        document["bounds"] = all_bounds(**counts, bits=document["message_bits"] + document["ledger_bits"])
        document["error_bound"] = document["bounds"]["binomial"]
        document["quantised_train_error"] = document["errors"] / document["bound_examples"]
        published["bound"] = catoni_bound(**counts, bits=published["bits"])
    restate(document)


def restate(document: Document) -> None:
    """Makes the sentence say what the numbers do, if they can be said."""
    with suppress(TypeError, ValueError, ArithmeticError):
        facts = document["error_bound"], document["delta"], document["bound_examples"], document["dataset"]
        document["statement"] = sentence(*facts)


FORGED = ("errors", "bound_examples", "message_bits", "ledger_bits", "delta", "train_error", "test_error", "levels")


def test_a_forger_who_can_compute(search: Any, fuzz: Any, attempt: Any, agree_in_form: Any) -> None:
    """He lowers what he likes, and everything else follows."""

    def case(draw: Draw) -> None:
        def change(run: Path) -> None:
            document = json.loads((run / "bound.json").read_bytes())
            for name in draw(st.lists(st.sampled_from(FORGED), max_size=2, unique=True)):
                kind, value = type(document[name]), document[name]
                steps = st.integers(-3, 3).map(lambda step, kind=kind, value=value: kind(value + step))  # type: ignore[misc]
                parts = st.floats(0, 2).map(lambda part, kind=kind, value=value: kind(value * part))  # type: ignore[misc]
                document[name] = draw(st.one_of(steps, steps, parts, parts, fuzz.values))
            follow(document)
            if draw(st.booleans()):
                document["error_bound"] *= draw(st.sampled_from([1 - 1e-6, 0.5, 0.0]))
                restate(document)
            agree_in_form(run, document)

        attempt(draw, "train", change)

    search(0.07, case)


@pytest.mark.parametrize("kind", ["train", "prior", "transfer", "silent"])
def test_another_message_that_is_one(search: Any, attempt: Any, agree_in_form: Any, kind: str) -> None:
    """Other symbols, other levels, or another configuration, well coded, with a certificate that has their bits."""

    def case(draw: Draw) -> None:
        def change(run: Path) -> None:
            document = json.loads((run / "bound.json").read_bytes())
            task = Task.from_dict(document["side_information"]["task"])
            message, _ = read_message((run / "message.bin").read_bytes(), task)
            other = draw(messages(message))
            with suppress(ValueError, KeyError):
                encoded = encode(other, task)
                (run / "message.bin").write_bytes(encoded.data)
                document |= {"message_bits": encoded.bits, "message_sha256": sha256(encoded.data).hexdigest()}
                document |= {"intrinsic_dim": len(other.symbols), "configuration": other.configuration.as_dict()}
                document["bits"]["configuration"] = encoded.configuration_bits
                document["bits"]["codebook"] = encoded.codebook_bits
                document["levels"] = other.codebook.size if other.codebook else 0
            follow(document)
            agree_in_form(run, document)

        attempt(draw, kind, change)

    search(0.02, case)


@st.composite
def messages(draw: Any, message: Message) -> Message:
    """Messages near a given one."""
    symbols, codebook = message.symbols.copy(), message.codebook
    actions = ["symbols", "symbols", "levels", "configuration", "long"]
    action = draw(st.sampled_from(actions if codebook else actions[3:]))
    codebook, symbols = (codebook, symbols) if codebook else (Grid(0.5, 1), np.array([1]))  # what "long" makes longer
    if action == "symbols":
        for place in draw(st.lists(st.integers(0, len(symbols) - 1), min_size=1, max_size=4)):
            symbols[place] = draw(st.integers(0, codebook.size - 1))
    elif action == "levels":
        codebook = draw(
            st.builds(Grid, st.sampled_from([6e-8, 0.5, codebook.values()[-1].item(), 65504.0]), st.integers(0, 9))
            | st.just(FreeLevels((0.0,)))
        )
        symbols %= codebook.size
    elif action == "configuration":
        changes: Document = {"seed": st.integers(0, 2**63 - 1), "calibration_examples": st.integers(0, 300)}
        changes |= {"intrinsic_mode": st.sampled_from(["dense", "sparse"]), "base_width": st.integers(1, 4096)}
        changes |= {"image_size": st.integers(1, 64), "lora_rank": st.integers(1, 8), "freeze": st.text(max_size=9)}
        changes |= {"view": st.sampled_from(list(catalogue.VIEWS))}
        name = draw(st.sampled_from(sorted(changes)))
        return replace(message, configuration=replace(message.configuration, **{name: draw(changes[name])}))
    else:
        dim = draw(st.sampled_from([1, 19, 21, 500, 5000]))
        symbols = np.resize(symbols, dim)
        return Message(replace(message.configuration, intrinsic_dim=dim), codebook, symbols)
    return Message(message.configuration, codebook, symbols)


# --- The watch itself -------------------------------------------------------------------------------------------------


def test_the_oracle_is_the_tail(oracle: Any) -> None:
    """Against exact rational arithmetic, and it refuses what is a hair too low."""
    from fractions import Fraction
    from math import comb

    for errors, examples, bits in ((0, 10, 3), (7, 40, 12), (39, 40, 0)):
        p = Fraction(oracle(errors, examples, bits, 0.05))
        for shift, fits in ((Fraction(-1, 10**9), True), (Fraction(1, 10**9), False)):
            q = p + shift
            tail = sum(comb(examples, k) * q**k * (1 - q) ** (examples - k) for k in range(errors + 1))
            assert (tail >= Fraction(0.05) / 2**bits) is fits


def test_a_false_certificate_would_be_noticed(originals: Any, tmp_path: Path) -> None:
    run = shutil.copytree(originals["train"].path, tmp_path / "run")
    originals["train"].require_true(run)
    for name, value in (("errors", 0), ("message_bits", 8), ("bound_examples", 300), ("error_bound", 0.01)):
        (run / "bound.json").write_text(json.dumps(originals["train"].certificate | {name: value}))
        with pytest.raises(AssertionError):
            originals["train"].require_true(run)


@pytest.mark.parametrize("harm", ["memory", "time", "process", "pickle"])
def test_harm_would_be_noticed(fuzz: Any, harm: str) -> None:
    import pickle
    import subprocess
    import time

    deeds: dict[str, Callable[[], object]] = {
        "memory": lambda: np.ones(40 << 20).sum(),
        "time": lambda: time.sleep(60),
        "process": lambda: subprocess.run(["true"]),
        "pickle": lambda: pickle.loads(pickle.dumps(os.getpid)),
    }
    with pytest.raises((AssertionError, fuzz.TooLongError)), fuzz.watched(seconds=1):
        deeds[harm]()
