"""A run that has a certificate is certified again: the better one stays, unless another question is asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pactl_cli.certificate.percent import percent
from tests.cli.test_forgery import follow

Call = Callable[..., Any]

WORSE = ("--quant-epochs", 0, "--codebook", "kmeans", "--levels", 200)
"""With these settings the message is far longer."""


def document(run: Path) -> dict[str, Any]:
    """The certificate in a run."""
    return dict(json.loads((run / "bound.json").read_text()))


def test_the_better_one_stays_and_is_printed(pactl: Call, certified: Path, tree: Call) -> None:
    before, good = tree(certified), document(certified)
    done = pactl("bound", certified, *WORSE)
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert done.json() == good
    assert f"{certified} keeps its certificate" in done.err
    assert "--force" in done.err
    assert tree(certified) == before
    elsewhere = pactl("bound", certified, *WORSE, "--out", "worse").json()
    for error in (good["error_bound"], elsewhere["error_bound"]):
        assert percent(error) in done.err, "both numbers are named"


def test_force_replaces_it(pactl: Call, certified: Path) -> None:
    good = document(certified)
    worse = pactl("bound", certified, *WORSE, "--force").json()
    assert worse["error_bound"] > good["error_bound"]
    assert document(certified) == worse
    assert pactl("verify", certified).code == 0


def test_a_better_one_replaces_it_without_a_word(pactl: Call, certified: Path) -> None:
    assert pactl("bound", certified, *WORSE, "--force").code == 0
    done = pactl("bound", certified, "--quant-epochs", 5)
    assert done.err == ""
    assert document(certified) == done.json()


def test_one_that_is_as_good_is_replaced(pactl: Call, certified: Path) -> None:
    """The same message, with more said of it."""
    done = pactl("bound", certified, "--quant-epochs", 5, "--compare-posthoc")
    assert done.err == ""
    assert document(certified)["posthoc"] is not None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--delta", 0.01), ("--delta 0.05", "--delta 0.01")),
        (("--misc-extra-bits", 3), ("--misc-extra-bits 0", "--misc-extra-bits 3")),
        (("--delta", ".1,.05"), ("--delta 0.05", "--delta 0.1")),
    ],
)
def test_another_question_has_no_better_answer(
    pactl: Call, certified: Path, trained: Path, tree: Call, options: Any, says: Any
) -> None:
    before = tree(certified), tree(trained)
    line = pactl("bound", trained, certified, "--quant-epochs", 5, *options).complaint(2)
    assert all(words in line for words in (str(certified), "another question", "--force", "--out", *says))
    assert (tree(certified), tree(trained)) == before, "nothing was begun"
    assert pactl("bound", certified, "--quant-epochs", 0, *options, "--force").code == 0
    assert pactl("verify", certified).code == 0


def test_a_better_one_that_is_false_is_not_kept(pactl: Call, certified: Path, agree: Call) -> None:
    """Everything in it follows from a number of errors that the classifier does not make."""
    forged = document(certified)
    forged["errors"] -= 5
    follow(forged)
    agree(certified, "bound.json", forged)
    done = pactl("bound", certified, *WORSE)
    assert done.code == 0
    assert "is not kept" in done.err
    assert "says errors is" in done.err
    assert document(certified) == done.json()
    assert done.json()["error_bound"] > forged["error_bound"]
    assert pactl("verify", certified).code == 0


@pytest.mark.parametrize("name", ["bound.json", "message.bin"])
@pytest.mark.parametrize("content", [b"", b"{}", None])
def test_one_whose_files_were_altered_is_not_kept(
    pactl: Call, certified: Path, name: str, content: bytes | None
) -> None:
    if content is None:
        (certified / name).unlink()
    else:
        (certified / name).write_bytes(content)
    done = pactl("bound", certified, *WORSE)
    assert done.code == 0
    assert f"{name} is truncated, altered or missing" in done.err
    assert pactl("verify", certified).code == 0


def test_what_cannot_be_read_though_the_manifest_vouches_for_it_is_not_kept(
    pactl: Call, certified: Path, agree: Call
) -> None:
    agree(certified, "bound.json", "{}")
    done = pactl("bound", certified, *WORSE)
    assert done.code == 0
    assert "is not a certificate" in done.err
    assert pactl("verify", certified).code == 0


def test_of_several_runs_each_keeps_the_better(pactl: Call, certified: Path, trained: Path) -> None:
    good = document(certified)
    done = pactl("bound", trained, certified, *WORSE, "--all")
    assert document(certified) == good
    assert document(trained)["error_bound"] > good["error_bound"]
    assert [row["error_bound"] for row in done.json()] == [good["error_bound"], document(trained)["error_bound"]]


def test_processes_agree_on_what_stays(start: Call, certified: Path) -> None:
    good = document(certified)
    done = start("launch", "--cpus", 2, "bound", certified, *WORSE).end(120)
    assert (done.code, done.json()) == (0, good)
    assert done.err.count("keeps its certificate") == 1


# --- Several deltas ---------------------------------------------------------------------------------------------------


def test_several_deltas_at_once(pactl: Call, trained: Path) -> None:
    from pactl_cli.certificate.risk_bounds import binomial_bound

    found = pactl("bound", trained, "--quant-epochs", 2, "--delta", ".05,.01,0.2").json()
    assert found["delta"] == 0.05
    counts = {"errors": found["errors"], "examples": found["bound_examples"], "bits": found["message_bits"]}
    assert found["at_other_deltas"] == [
        {"delta": delta, "error_bound": binomial_bound(**counts, delta=delta)} for delta in (0.01, 0.2)
    ]
    assert pactl("verify", trained).code == 0
    alone = pactl("bound", trained, "--quant-epochs", 2, "--delta", 0.05, "--force").json()
    assert alone["message_sha256"] == found["message_sha256"], "the first chooses the message"
    assert alone["at_other_deltas"] == []


@pytest.mark.parametrize("field", ["delta", "error_bound"])
def test_a_forged_bound_at_another_delta_is_noticed(pactl: Call, trained: Path, agree: Call, field: str) -> None:
    good = pactl("bound", trained, "--quant-epochs", 0, "--delta", ".05,.01").json()
    good["at_other_deltas"][0][field] *= 0.99
    agree(trained, "bound.json", good)
    assert "at_other_deltas" in pactl("verify", trained).complaint(1)
    assert "at_other_deltas" in pactl("report", trained).complaint(2)


def test_a_kept_one_says_the_same_at_other_deltas(pactl: Call, certified: Path, tree: Call) -> None:
    good, before = document(certified), tree(certified)
    done = pactl("bound", certified, *WORSE, "--delta", ".05,.001")
    assert "keeps its certificate" in done.err
    [other] = done.json()["at_other_deltas"]
    assert other["delta"] == 0.001
    assert other["error_bound"] > good["error_bound"]
    assert document(certified) == good | {"at_other_deltas": [other]}
    changed = {name for name, content in tree(certified).items() if content != before[name]}
    assert changed == {"bound.json", "manifest.json"}
    before = tree(certified)
    assert pactl("bound", certified, *WORSE).json()["at_other_deltas"] == [other], "nor is that lost"
    assert tree(certified) == before
    assert pactl("verify", certified).code == 0


@pytest.mark.parametrize("deltas", ["", ",", ".05,", ".05,.05", ".05,.6", ".05;.01", "0,.1", "nan", ",".join(
    f"0.{place:03}" for place in range(1, 30)
)])  # fmt: skip
def test_deltas_that_are_none(pactl: Call, trained: Path, deltas: str) -> None:
    assert "--delta" in pactl("bound", trained, "--delta", deltas).complaint(2)


# --- What it was told -------------------------------------------------------------------------------------------------


def test_what_bound_was_told_stands_in_it(pactl: Call, trained: Path) -> None:
    told = ("--codebook", "kmeans", "--levels", "3,5", "--quant-epochs", 2, "--lr", 0.1, "--rate-weight", 2)
    assert pactl("bound", trained, *told).json()["made_with"] == {
        **{"codebook": "kmeans", "levels": "3,5", "quant_epochs": 2, "lr": 0.1, "rate_weight": 2.0, "batch_size": None}
    }
    plain = pactl("bound", trained, "--quant-epochs", 0, "--force").json()["made_with"]
    assert (plain["codebook"], plain["levels"], plain["rate_weight"]) == ("grid", None, "auto")


def test_it_is_a_note_without_room_for_sentences(pactl: Call, certified: Path, agree: Call) -> None:
    good = document(certified)
    agree(certified, "bound.json", good | {"made_with": {"codebook": "bins", "epochs": 7}})
    done = pactl("verify", certified, "--json").json()
    assert "program_version and made_with in bound.json" in done["not_looked_at"]
    odd: list[Any] = [{"codebook": "trust me"}, {"x": "\x1b[31m"}, {"x": "a" * 2001}, {"a b": 1}, [], {"x": [1]}]
    for words in odd:
        agree(certified, "bound.json", good | {"made_with": words})
        assert "made_with" in pactl("verify", certified).complaint(1)
        assert "made_with" in pactl("report", certified).complaint(2)


def test_curves_are_labelled_by_try(pactl: Call, trained: Path) -> None:
    assert (
        pactl(
            "bound", trained, "--codebook", "kmeans", "--levels", "3,5", "--quant-epochs", 2, "--rate-weight", "auto:1"
        ).code
        == 0
    )
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    tries = [line["attempt"] for line in lines if line["stage"] == "bound" and "epoch" in line]
    assert tries == [{"codebook": "kmeans", "levels": levels, "price": "auto"} for levels in (3, 5) for _ in range(2)]
    assert pactl("report", trained, "--html", "page.html").code == 0
    page = Path("page.html").read_text()
    for place, levels in enumerate((3, 5)):
        assert f"trained: kmeans of {levels} levels, price auto" in page
        assert page.count(f"run-0 dash-0 try-{place}") >= 4, "a line and a name, of errors and of bits"


# --- Elsewhere --------------------------------------------------------------------------------------------------------


def test_out_makes_a_run_of_its_own(pactl: Call, certified: Path, tree: Call, tmp_path: Path) -> None:
    before = tree(certified)
    done = pactl("bound", certified, "--quant-epochs", 2, "--delta", 0.01, "--out", "new/place")
    assert done.json() == document(tmp_path / "new" / "place")
    assert tree(certified) == before
    shutil.rmtree(certified)
    assert pactl("verify", "new/place").code == 0
    assert pactl("report", "new/place").json()[0]["delta"] == 0.01
    lines = [json.loads(line) for line in Path("new/place/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["stage"] == "bound" and "epoch" in line] == [1, 2] * 2
    assert any(line["stage"] == "train" for line in lines)
    assert pactl("bound", "new/place", "--quant-epochs", 0, "--delta", 0.01).code == 0
    assert not [name for name in tree(tmp_path / "new" / "place") if name.startswith(".")]


def test_a_prior_goes_elsewhere_with_its_weights_and_is_a_source(
    pactl: Call, quiet: Call, npz: Path, quick: Any, digits_like: Path
) -> None:
    quiet("prior", "--dataset", f"npz:{npz}", *quick, "--out", "prior")
    quiet("bound", "prior", "--quant-epochs", 0, "--out", "copy")
    shutil.rmtree("prior")
    assert pactl("verify", "copy").code == 0
    options = ("--dataset", f"npz:{digits_like}", "--epochs", 1, "--intrinsic-dim", 5, "--out", "after")
    assert pactl("transfer", "copy", *options).code == 0


@pytest.fixture
def digits_like(tmp_path: Path, arrays: dict[str, Any]) -> Path:
    """Other data of the same form."""
    import numpy as np

    path, random = tmp_path / "other.npz", np.random.default_rng(3)
    other = {name: random.integers(0, 256, a.shape).astype(a.dtype) for name, a in arrays.items() if name[0] == "x"}
    np.savez(path, **arrays | other)
    return path


def test_out_is_refused_where_something_is(pactl: Call, certified: Path, trained: Path, tree: Call) -> None:
    Path("taken").mkdir()
    Path("taken/notes.txt").write_text("mine")
    Path("file").write_text("mine")
    before = tree(Path())
    for out in ("taken", trained, "file"):
        assert f"--out {out}" in pactl("bound", certified, "--quant-epochs", 0, "--out", out).complaint(2)
    for out in (certified, certified / "inside", f"{certified}/../certified"):
        assert f"--out {out} lies in" in pactl("bound", certified, "--out", out, "--force").complaint(2)
    assert "no run" in pactl("bound", certified, "--out", "taken", "--force").complaint(2)
    assert "one run" in pactl("bound", certified, trained, "--out", "two").complaint(2)
    assert tree(Path()) == before
    assert pactl("bound", certified, "--quant-epochs", 0, "--out", trained, "--force").code == 0
    assert pactl("verify", trained).code == 0


@pytest.mark.usefixtures("_ordinary_user")
def test_a_run_that_may_only_be_read_is_certified_elsewhere(pactl: Call, certified: Path, tmp_path: Path) -> None:
    certified.chmod(0o555)
    try:
        assert pactl("bound", certified, "--quant-epochs", 0, "--out", tmp_path / "mine").code == 0
    finally:
        certified.chmod(0o755)
    assert pactl("verify", tmp_path / "mine").code == 0
