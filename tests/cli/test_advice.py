"""What is said of a certificate that promises no less error than an answer that looks at nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.risk_bounds import binomial_bound
from pactl_cli.runs.settings import PriorSettings, TrainSettings, TransferSettings
from pactl_cli.stages.advice import advice, free_bits

Call = Callable[..., Any]

TRAIN = TrainSettings(dataset="npz:/my data.npz", epochs=4, intrinsic_dim=400)
PRIOR = PriorSettings(dataset="digits", epochs=4, intrinsic_dim=400)


@pytest.fixture
def made(certified: Path) -> Callable[..., Certificate]:
    """`made(errors=, symbols=, ...)`: a certificate that its own numbers bear out."""
    good = Certificate.model_validate_json((certified / "bound.json").read_bytes())

    def make(*, errors: int = 300, symbols: int = 500, examples: int = 1000, **changes: Any) -> Certificate:
        parts = good.bits.model_copy(update={"configuration": 10, "codebook": 20, "symbols": symbols})
        told = {"quant_epochs": 30, "rate_weight": "auto"}
        facts = {"errors": errors, "bound_examples": examples, "message_bits": 30 + symbols, "bits": parts}
        bound = binomial_bound(errors=errors, examples=examples, bits=30 + symbols, delta=0.05)
        known: dict[str, Any] = {
            "error_bound": bound,
            "quantised_train_error": errors / examples,
            "train_error": errors / examples,
        }
        known |= {"majority_error": 0.5, "intrinsic_dim": 400, "made_with": told}
        return good.model_copy(update={**facts, **known, **changes})

    return make


def command(certificate: Certificate, settings: TrainSettings, named: dict[str, Any] | None = None) -> str:
    """The next thing to try."""
    said = advice(certificate, Path("runs/my run"), settings, named)
    assert said
    return said.command


def test_a_certificate_that_says_something_needs_no_advice(made: Any) -> None:
    certificate = made(errors=100, symbols=100)
    assert certificate.error_bound < 0.5
    assert advice(certificate, Path("run"), TRAIN) is None
    assert advice(made(errors=100, symbols=100, majority_error=0.1), Path("run"), TRAIN)


def test_the_reasons_are_numbers(made: Any) -> None:
    certificate = made(errors=300, symbols=600)
    silent = binomial_bound(errors=300, examples=1000, bits=0, delta=0.05)
    said = advice(certificate, Path("run"), TRAIN)
    assert said
    assert f"Its 630 bits cost {100 * (certificate.error_bound - silent):.1f} points." in said.reason
    assert "The training error is 30.00 %" in said.reason
    assert "not below 66.67 %, that of guessing, nor below 50.00 %" in said.reason
    [bits] = re.findall(r"With the same errors, a message of ([0-9]+) bits would be enough", said.reason)
    for more, does in ((0, True), (1, False)):
        assert (binomial_bound(errors=300, examples=1000, bits=int(bits) + more, delta=0.05) < 0.5) is does
    hopeless = advice(made(errors=490), Path("run"), TRAIN)
    assert hopeless
    assert "With the same errors and no bits at all, the bound would be" in hopeless.reason


def test_free_bits_of_what_can_never_do(made: Any) -> None:
    assert free_bits(made(), 500) < 0
    assert free_bits(made(majority_error=0.0), 0) < 0
    assert free_bits(made(), 0) == pytest.approx(1000 - np.log2(20))


def test_without_fine_tuning_comes_fine_tuning(made: Any) -> None:
    certificate = made(made_with={"quant_epochs": 0})
    assert command(certificate, TRAIN) == "pactl bound 'runs/my run' --quant-epochs 30"
    named = {"dataset": "npz:here"}
    assert command(certificate, TRAIN, named) == "pactl bound 'runs/my run' --quant-epochs 30 --dataset npz:here"


def test_a_fixed_price_becomes_automatic(made: Any) -> None:
    certificate = made(made_with={"quant_epochs": 9, "rate_weight": 0.0})
    assert command(certificate, TRAIN) == "pactl bound 'runs/my run'"


def test_what_was_not_worth_its_bits_is_trained_for_longer(made: Any) -> None:
    certificate = made(errors=490, symbols=0, train_error=0.3)
    assert command(certificate, TRAIN) == "pactl train --config 'runs/my run/config.yml' --epochs 12 | pactl bound -"


@pytest.mark.parametrize("symbols", [500, 900, 4000])
def test_too_many_bits_are_paid_for_fewer_coordinates(made: Any, symbols: int) -> None:
    """Half of what the errors leave room for, at the same bits a coordinate."""
    found = command(made(symbols=symbols), TRAIN)
    begins = "pactl train --config 'runs/my run/config.yml' --intrinsic-dim "
    assert found.startswith(begins)
    assert found.endswith(" | pactl bound -")
    dim = int(found.removeprefix(begins).split()[0])
    room = free_bits(made(symbols=symbols), 300)
    assert dim == pytest.approx((room - 30) / (2 * symbols / 400), abs=1.01)
    assert 2 * dim * symbols / 400 <= room


def test_where_no_message_is_short_enough_comes_a_prior(made: Any) -> None:
    found = command(made(intrinsic_dim=1, symbols=900), TRAIN)
    assert found == "pactl prior --dataset 'npz:/my data.npz' --train-subset 0.5 | pactl bound -"


def test_few_examples_want_a_prior(made: Any) -> None:
    few = made(errors=5, examples=40)
    assert command(few, TRAIN).startswith("pactl prior --dataset 'npz:/my data.npz' --train-subset 0.5 ")
    noisy = TRAIN.model_copy(update={"label_noise": 0.1, "duplicates": "drop", "calibration_examples": 3})
    options = " --label-noise 0.1 --duplicates drop --model-name lenet --train-subset 0.5 "
    assert options in command(few, noisy.model_copy(update={"model_name": "lenet"}))
    for dim in (400, 0):  # the prior itself has been tried
        assert " --train-subset 0.75 " in command(made(errors=5, examples=40, intrinsic_dim=dim), PRIOR)


def test_a_high_training_error_wants_more_training(made: Any) -> None:
    bad = made(errors=480, symbols=100)
    assert " --epochs 12 | pactl bound -" in command(bad, TRAIN)
    small = TRAIN.model_copy(update={"intrinsic_dim": 20})
    assert " --epochs 12 --intrinsic-dim 80 | pactl bound -" in command(bad, small)
    assert " --epochs 12 --intrinsic-dim 100 |" in command(bad, TRAIN.model_copy(update={"intrinsic_dim": 60}))
    assert command(bad, PRIOR).startswith("pactl prior --config 'runs/my run/config.yml' --prior-epochs 12 ")


def test_a_short_training_wants_a_thousand_steps(made: Any) -> None:
    bad = made(errors=480, symbols=100, examples=1000)
    assert " --epochs 130 | pactl bound -" in command(bad, TRAIN.model_copy(update={"batch_size": 128}))
    assert " --epochs 600 |" in command(bad, TRAIN.model_copy(update={"batch_size": 128, "epochs": 200}))


def test_bytes_of_texts_want_words(made: Any) -> None:
    texts = TRAIN.model_copy(update={"dataset": "folder:reviews"})
    of_bytes = made(side_information={"inputs": {"kind": "tokens", "vocabulary": 257}})
    assert command(of_bytes, texts).startswith("pactl train --config 'runs/my run/config.yml' --tokenizer words |")
    assert "--tokenizer" not in command(of_bytes, texts.model_copy(update={"tokenizer": "words"}))
    assert "--tokenizer" not in command(made(side_information={"inputs": {"vocabulary": 300}}), texts)


def test_a_source_and_own_code_are_named_again(made: Any) -> None:
    own = TRAIN.as_dict() | {"model_name": "nets:small", "normalise": "source", "source": "runs/first"}
    settings = TransferSettings.parse(own)
    found = command(made(), settings, {"model_name": "nets:small"})
    assert found.startswith("pactl transfer runs/first --config 'runs/my run/config.yml' --intrinsic-dim 35 ")
    assert found.count("--model-name nets:small") == 2
    few = command(made(errors=5, examples=40), settings, {"model_name": "nets:small"})
    begun = "--model-name nets:small --source runs/first --train-subset 0.5 | "
    assert few.startswith(f"pactl prior --dataset 'npz:/my data.npz' {begun}")


def test_what_was_begun_with_is_named_again(made: Any) -> None:
    """A prior of the same source; and, as a run's file says what it continues, the training of both as one."""
    transfer = TransferSettings(source="my source", dataset="digits", intrinsic_dim=400, weights=Path("w.pth"))
    few = made(errors=10, symbols=100, examples=20)
    said = command(few, transfer)
    assert said.startswith("pactl prior --source 'my source' --weights w.pth --train-subset 0.5 |")
    more = TRAIN.model_copy(update={"continued": Path("first"), "epochs_before": 10, "train_subset": 0.9})
    said = command(made(errors=480, symbols=100), more)
    assert said.startswith("pactl train --dataset 'npz:/my data.npz' --train-subset 0.9 --epochs 42")
    again = PriorSettings(dataset="digits", source="s", intrinsic_dim=400)
    assert command(few, again).startswith("pactl prior --config 'runs/my run/config.yml' --train-subset 0.75 |")


def test_nobody_is_told_to_run_code_because_a_file_names_it(made: Any) -> None:
    settings = TRAIN.model_copy(update={"model_name": "evil:net"})
    said = advice(made(), Path("run"), settings)
    assert said
    assert (said.command, "evil" in said.in_words()) == ("", False)


# --- From the shell ---------------------------------------------------------------------------------------------------


@pytest.fixture
def vacuous(quiet: Call, npz: Path, tmp_path: Path) -> Path:
    """A run that has learned hardly anything, in a place with a space."""
    place = tmp_path / "my run"
    options = ("--dataset", f"npz:{npz}", "--epochs", 1, "--lr", 0.02, "--intrinsic-dim", 10, "--base-width", 16)
    quiet("train", *options, "--out", place)
    return place


def test_json_has_the_note_on_stderr(pactl: Call, vacuous: Path) -> None:
    done = pactl("bound", vacuous, "--quant-epochs", 0)
    assert done.code == 0
    assert done.json()["error_bound"] >= done.json()["majority_error"] == pytest.approx(2 / 3)
    assert done.err.startswith("pactl: note: This certificate says nothing: ")
    assert done.err.count("\n") == 1
    [report] = pactl("report", vacuous).json()
    assert report["advice"] in done.err
    assert report["chance_error"] == pytest.approx(2 / 3)


def test_a_terminal_shows_it_under_the_certificate(start: Call, terminal: Any, vacuous: Path) -> None:
    assert start("bound", vacuous, "--quant-epochs", 0, stdout=terminal.path).end().err == ""
    text = re.sub(r" \\\n +", " ", terminal.close())  # as a shell joins lines
    assert text.index("This certificate says nothing") < text.index("It assumes:")
    assert f"\n  pactl bound '{vacuous}' --quant-epochs 30\n" in text
    assert "most frequent class" in text


def test_what_is_printed_works(pactl: Call, shell: Call, vacuous: Path) -> None:
    """The command of the note, and of the note after it, until a certificate says something."""
    line, tried = pactl("bound", vacuous, "--quant-epochs", 0).err, []
    while line:
        tried.append(re.sub(r".*? (pactl (?:bound|train|prior).*)\n", r"\1", line))
        done = shell(tried[-1])
        assert done.code == 0, done
        line = done.err
        assert len(tried) < 6, tried
    assert [words.split()[1] for words in tried[:2]] == ["bound", "train"]
    assert json.loads(done.out)["error_bound"] < 2 / 3


def test_a_prior_of_what_was_trained_works_as_printed(shell: Call, npz: Path, arrays: dict[str, Any]) -> None:
    """With calibration examples, and so few examples that no message is short enough."""
    np.savez("few.npz", **{name: array[:40] for name, array in arrays.items()})
    options = "--epochs 1 --model-name resnet20 --base-width 2 --intrinsic-dim 5 --out run"
    assert shell(f"pactl train --dataset npz:few.npz {options}").code == 0
    line = shell("pactl bound run --quant-epochs 1").err
    found = re.sub(r".*? (pactl prior.*)\n", r"\1", line)
    assert found.startswith("pactl prior --dataset npz:")
    done = shell(found)
    assert done.code == 0, done
    assert json.loads(done.out)["bound_examples"] == 20
