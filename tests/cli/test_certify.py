"""`pactl certify`: a network that one has, on examples that it has not seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pactl_cli.certificate.risk_bounds import binomial_bound

Call = Callable[..., Any]
Arrays = dict[str, np.ndarray[Any, Any]]

NETWORK = """
from torch import nn

def small(classes, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, classes))
"""


@pytest.fixture
def mine(tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """A network of one's own that has learned half of the data, and `unseen.npz`, the other half: the arguments."""
    (tmp_path / "mynets.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    half = len(arrays["x_train"]) // 2
    inputs = torch.from_numpy(arrays["x_train"][:half]).flatten(1).float() / 127.5 - 1
    labels = nn.functional.one_hot(torch.from_numpy(arrays["y_train"][:half])).float()
    solution = torch.linalg.lstsq(torch.cat([inputs, torch.ones(half, 1)], 1), labels).solution
    torch.save({"1.weight": solution[:-1].T.contiguous(), "1.bias": solution[-1]}, tmp_path / "mine.pth")
    unseen = arrays["y_train"][half:].copy()
    unseen[:7] = (unseen[:7] + 1) % 3  # which are its errors
    np.savez(tmp_path / "unseen.npz", x_train=arrays["x_train"][half:], y_train=unseen)
    return "certify", "mynets:small", "--weights", "mine.pth", "--dataset", "npz:unseen.npz"


def test_one_command_certifies_it_and_says_what_that_is(pactl: Call, mine: tuple[object, ...]) -> None:
    done = pactl(*mine, "--delta", ".05,.01", "--out", "run")
    assert done.code == 0
    assert done.err == (
        "pactl: note: a hold-out bound, kept in run. It holds only if the network was made and chosen without these "
        "examples, which nobody can check.\n"
    )
    said = done.json()
    assert said == json.loads(Path("run/bound.json").read_text())
    assert said["statement"].startswith("Hold-out bound of the weights that training started from")
    assert (said["hypothesis"], said["message_bits"], said["bound_examples"]) == ("d=0 hold-out", 1, 150)
    assert 7 <= said["errors"] < 20
    clopper_pearson = binomial_bound(errors=said["errors"], examples=150, bits=0, delta=0.05 / 2)
    assert said["error_bound"] == pytest.approx(clopper_pearson, rel=1e-9)
    assert [each["delta"] for each in said["at_other_deltas"]] == [0.01]
    assert any("not trained on any of them" in sentence for sentence in said["assumptions"])
    assert any("were not chosen by looking" in sentence for sentence in said["assumptions"])
    assert pactl("verify", "run", "--model-name", "mynets:small").code == 0


def test_it_is_what_two_commands_would_say(pactl: Call, mine: tuple[object, ...]) -> None:
    one = pactl(*mine).json()
    assert pactl("transfer", *mine[1:], "--intrinsic-dim", 0, "--out", "two").code == 0
    two = pactl("bound", "two", "--model-name", "mynets:small").json()
    assert one | {"made_with": None} == two | {"made_with": None}


def test_a_prior_of_no_epochs_is_the_same_on_its_half(pactl: Call, mine: tuple[object, ...]) -> None:
    words = ("prior", "--source", *mine[1:], "--prior-epochs", 0, "--intrinsic-dim", 0, "--out", "run")
    assert pactl(*words).code == 0
    said = pactl("bound", "run", "--model-name", "mynets:small").json()
    assert (said["bound_examples"], said["message_bits"], said["hypothesis"]) == (75, 1, "d=0 hold-out")
    assert said["statement"].startswith("Hold-out bound")


def test_what_a_run_has_seen_is_left_out_and_needs_no_assumption(pactl: Call, trained: Path, npz: Path) -> None:
    done = pactl("certify", trained, "--dataset", f"npz:{npz}", "--out", "run")
    assert done.err.splitlines()[0] == "pactl: note: a hold-out bound, kept in run."
    said = done.json()
    assert (said["bound_examples"], said["side_information"]["excluded_examples"]) == (30, 270)
    assert "other than those left out" in said["statement"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("certify", "mynets:small", "--weights", "mine.pth"), "--dataset"),
        (("certify", "mynets:small", "--dataset", "npz:unseen.npz"), "--weights FILE"),
        (("certify", "absent", "--dataset", "npz:unseen.npz"), "absent"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_left(
    pactl: Call, mine: tuple[object, ...], words: tuple[str, ...], says: str
) -> None:
    assert says in pactl(*words).complaint(2)
    assert not Path("runs").exists()


def test_a_certificate_that_says_nothing_says_so(pactl: Call, mine: tuple[object, ...]) -> None:
    torch.save({"1.weight": torch.zeros(3, 64), "1.bias": torch.zeros(3)}, "mine.pth")
    done = pactl(*mine, "--out", "run")
    assert done.json()["error_bound"] == 1
    assert len(done.err.splitlines()) == 2


def test_help_says_hold_out_and_offers_nothing_that_trains(pactl: Call) -> None:
    text = pactl("certify", "--help").out
    assert "a hold-out bound" in text
    training = ("--intrinsic-dim", "--epochs", "--lora-rank", "--optimizer", "--compile")
    assert not [name for name in training if name in text]


def test_an_earlier_run_is_replaced_only_where_that_is_asked(pactl: Call, mine: tuple[object, ...]) -> None:
    assert pactl(*mine, "--out", "run").code == 0
    before = Path("run/bound.json").read_bytes()
    assert "run" in pactl(*mine, "--out", "run", "--delta", 0.1).complaint(2)
    assert Path("run/bound.json").read_bytes() == before
    assert pactl(*mine, "--out", "run", "--delta", 0.1, "--force").json()["delta"] == 0.1
