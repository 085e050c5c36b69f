"""`bound --certify`: what is guaranteed beside the error, from the command line to the verdict of a stranger."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from pactl_cli.certificate.certificate import SubspaceCertificate

Call = Callable[..., Any]
Document = dict[str, Any]

CHECK: Callable[[Path], int] = run_path(str(Path(__file__).parents[2] / "docs" / "reference_decoder.py"))["main"]
EXAMPLES, CLASSES = 1437, 10
EVERYTHING = (
    *("--certify", "class", "--certify", "top-3,abstain", "--certify", "calibration"),
    *("--groups", "groups.npy", "--cost", "costs.csv", "--abstain-error", 0.3),
)


def write_files() -> None:
    """Groups of the examples of digits, and the cost of each answer, in the working directory."""
    np.save("groups.npy", np.arange(EXAMPLES) % 3 - 1)
    costs = 0.5 * (1 - np.eye(CLASSES))
    np.savetxt("costs.csv", costs, fmt="%g", delimiter=",")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits that is not certified yet."""
    from tests.cli.conftest import quietly

    path = tmp_path_factory.mktemp("made") / "run"
    quietly("train", "--dataset", "digits", "--epochs", 8, "--intrinsic-dim", 60, "--out", path)
    return path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    write_files()
    return Path(shutil.copytree(made, tmp_path / "run")).relative_to(tmp_path)


@pytest.fixture
def certified(pactl: Call, run: Path) -> Path:
    done = pactl("bound", run, "--quant-epochs", 1, *EVERYTHING, "--json")
    assert done.code == 0, done
    return run


def document(run: Path) -> Document:
    found: Document = json.loads((run / "bound.json").read_text())
    return found


def guarantee(said: Document, what: str) -> Document:
    return next(each for each in said["guarantees"] if each["what"] == what)


def test_every_guarantee_is_what_its_counts_say(certified: Path) -> None:
    """Against Clopper and Pearson's limit at the share of delta, without the program's arithmetic."""
    said = document(certified)
    names = [each["what"] for each in said["guarantees"]]
    assert names == ["class", "top-3", "abstain", "calibration", "groups", "cost"]
    shared = {"class": 10, "top-3": 1, "abstain": 2, "calibration": 24, "groups": 3}
    for what, events in shared.items():
        each = guarantee(said, what)
        assert each["price_bits"] == pytest.approx(np.log2(7 * events))
        for event in each["events"]:
            k, n = event["errors"], event["examples"]
            level = said["delta"] / 7 / events * 2.0 ** -said["message_bits"]
            expected = 1.0 if k == n else float(beta.isf(level, k + 1, n - k))
            assert event["bound"] == pytest.approx(expected, rel=1e-6)
    for what in ("class", "groups"):
        events = guarantee(said, what)["events"]
        assert sum(event["errors"] for event in events) == said["errors"]
        assert sum(event["examples"] for event in events) == EXAMPLES
    assert guarantee(said, "groups")["events"][0]["name"] == "group -1"
    halves = guarantee(said, "cost")["events"][0]
    assert 0.5e6 * said["errors"] == halves["errors"]
    assert said["ledger"] == [{"bits": pytest.approx(np.log2(7)), "reason": "the share of delta of the error"}]
    assert said["bits"]["threshold"] == 6
    assert said["headline"] == "error"


def test_verify_and_the_reference_decoder_agree(pactl: Call, certified: Path) -> None:
    assert pactl("verify", certified, "--groups", "groups.npy").code == 0
    assert CHECK(certified) == 0
    assert "--groups FILE" in pactl("verify", certified).complaint(2)
    np.save("others.npy", np.arange(EXAMPLES) % 2)
    assert "other groups" in pactl("verify", certified, "--groups", "others.npy").complaint(1)


def test_nothing_else_changes_without_guarantees(pactl: Call, run: Path) -> None:
    assert pactl("bound", run, "--quant-epochs", 1).code == 0
    said = document(run)
    assert said["guarantees"] == said["ledger"] == []
    assert said["bits"]["threshold"] == 0
    assert not said["side_information"]["task"]["abstains"]


def test_the_headline_chooses_and_is_said(pactl: Call, run: Path) -> None:
    assert pactl("bound", run, "--quant-epochs", 1, "--headline", "top-2").code == 0
    said = document(run)
    assert [each["what"] for each in said["guarantees"]] == ["top-2"]
    assert said["statement"].startswith(f"With 95 % confidence, {said['guarantees'][0]['claim']}: computed from")
    assert CHECK(run) == 0


def test_another_question_is_another_question(pactl: Call, certified: Path) -> None:
    line = pactl("bound", certified, "--quant-epochs", 1, "--certify", "class").complaint(2)
    assert "asks another question" in line
    assert "--certify class,error" in line
    assert pactl("bound", certified, "--quant-epochs", 0, *EVERYTHING).code == 0
    before = (certified / "bound.json").read_bytes()
    np.savetxt("costs.csv", 0.9 * (1 - np.eye(CLASSES)))
    assert "other cost, and this --cost file" in pactl("bound", certified, *EVERYTHING).complaint(2)
    write_files()
    np.save("groups.npy", np.arange(EXAMPLES) % 2)
    assert "other groups, and this --groups file" in pactl("bound", certified, *EVERYTHING).complaint(2)
    write_files()
    line = pactl("bound", certified, *EVERYTHING, "--certify", "class@0.01", "--certify", "top-3@0.2").complaint(2)
    assert "asks another question" in line
    assert (certified / "bound.json").read_bytes() == before


def test_the_better_of_two_is_kept_by_its_headline(pactl: Call, run: Path) -> None:
    ask = ("--certify", "abstain", "--abstain-error", 0.3, "--headline", "abstain")
    assert pactl("bound", run, "--quant-epochs", 3, *ask).code == 0
    before = (run / "bound.json").read_bytes()
    accepted = document(run)["guarantees"][0]["accepted"]
    assert pactl("bound", run, "--quant-epochs", 0, *ask).code == 0
    assert document(run)["guarantees"][0]["accepted"] >= accepted
    assert (run / "bound.json").read_bytes() == before or document(run)["guarantees"][0]["accepted"] > accepted


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--certify", "top-11"), "--certify top-11: there are only 10 classes"),
        (("--certify", "tops"), "choose from error, top-K, class"),
        (("--certify", "groups"), "--groups FILE"),
        (("--certify", "cost"), "--cost FILE"),
        (("--certify", "class@0.6", "--certify", "top-2@0.6"), "more than 1"),
        (("--headline", "calibration"), "choose another headline"),
        (("--abstain-error", "1.5"), "must be below 1"),
        (("--groups", "absent.npy"), "there is no such file"),
        (("--groups", "short.txt"), "1,436 groups, and there are 1,437 training examples"),
        (("--groups", "halves.txt"), "values that are not integers"),
        (("--groups", "words.txt"), "not rows of numbers"),
        (("--groups", "huge.txt"), "not rows of numbers"),
        (("--cost", "huge.txt"), "not rows of numbers"),
        (("--certify", ",".join(f"top-{rank}" for rank in range(1, 18))), "17 guarantees"),
        (("--cost", "dear.csv"), "not in [0, 1]"),
        (("--cost", "small.csv"), "2 x 2, and there are 10 classes"),
        (("--certify", "cost:ragged.csv"), "all of one length"),
    ],
)
def test_what_makes_no_sense_is_one_line(pactl: Call, run: Path, words: tuple[str, ...], reason: str) -> None:
    Path("short.txt").write_text("1\n" * (EXAMPLES - 1))
    Path("halves.txt").write_text("1.5\n" * EXAMPLES)
    Path("huge.txt").write_text(f"{10**400}\n" * EXAMPLES)
    Path("words.txt").write_text("one\n" * EXAMPLES)
    np.savetxt("dear.csv", np.full((CLASSES, CLASSES), 1.5), delimiter=",")
    np.savetxt("small.csv", np.zeros((2, 2)), delimiter=",")
    Path("ragged.csv").write_text("0,1\n1\n")
    assert reason in pactl("bound", run, "--quant-epochs", 0, *words).complaint(2)


def test_groups_are_of_the_whole_training_set(pactl: Call, run: Path, tmp_path: Path) -> None:
    """Of a run on a part of it each counted example has the group of its own place."""
    assert pactl("train", "--dataset", "digits", "--epochs", 1, "--train-subset", 0.5, "--out", "half").code == 0
    Path("numbers.txt").write_text("".join(f"{place}\n" for place in np.arange(EXAMPLES) // 1000))
    assert pactl("bound", "half", "--quant-epochs", 0, "--groups", "numbers.txt").code == 0
    counted = np.load("half/indices.npz")["bound"]
    events = guarantee(document(Path("half")), "groups")["events"]
    assert [event["examples"] for event in events] == [int((counted < 1000).sum()), int((counted >= 1000).sum())]


def test_a_group_without_counted_examples_is_said(pactl: Call, tmp_path: Path) -> None:
    """No group has an error above a bound: that is about all in the file, not about those that S happens to have."""
    assert pactl("train", "--dataset", "digits", "--epochs", 1, "--train-subset", 0.5, "--out", "half").code == 0
    groups = np.full(EXAMPLES, 9)
    groups[np.load("half/indices.npz")["bound"]] = 4
    np.save("groups.npy", groups)
    done = pactl("bound", "half", "--quant-epochs", 0, "--groups", "groups.npy")
    assert "no counted example belongs to group 9" in done.err
    found = guarantee(document(Path("half")), "groups")
    assert [event["name"] for event in found["events"]] == ["group 4", "group 9"]
    assert found["bound"] == 1.0
    assert pactl("verify", "half", "--groups", "groups.npy").code == 0
    assert CHECK(Path("half")) == 0


def test_a_class_without_examples_is_said(pactl: Call, tmp_path: Path) -> None:
    random, labels = np.random.default_rng(0), {"y_train": np.array([0, 2] * 150), "y_test": np.array([0, 1, 2] * 2)}
    arrays: dict[str, Any] = {f"x{name[1:]}": random.random((len(known), 4)) for name, known in labels.items()}
    np.savez("data.npz", **arrays, **labels)  # type: ignore[arg-type]
    assert pactl("train", "--dataset", "npz:data.npz", "--epochs", 1, "--out", "run").code == 0
    done = pactl("bound", "run", "--quant-epochs", 0, "--certify", "class")
    assert done.code == 0
    assert "no counted example belongs to class 1" in done.err
    assert "no class has an error above 100.00 %" in document(Path("run"))["guarantees"][0]["claim"]
    assert CHECK(Path("run")) == 0


# --- Forgery ----------------------------------------------------------------------------------------------------------


def forgeries() -> dict[str, Callable[[Document], None]]:
    def event(what: str, place: int, **changes: Any) -> Callable[[Document], None]:
        return lambda said: guarantee(said, what)["events"][place].update(changes)

    def cheaper(said: Document) -> None:
        guarantee(said, "class")["price_bits"] -= 3

    def fewer(said: Document) -> None:
        first, second = guarantee(said, "class")["events"][:2]
        first["errors"], second["errors"] = first["errors"] - 1, second["errors"] + 1

    return {
        "a lower bound": event("top-3", 0, bound=0.01),
        "fewer errors": event("top-3", 0, errors=0),
        "other examples": event("top-3", 0, examples=10),
        "errors of another class": fewer,
        "a lower price": cheaper,
        "more examples than there are": event("abstain", 5, errors=EXAMPLES + 1, examples=EXAMPLES + 1, bound=1.0),
        "no share of the error": lambda said: said.update(ledger=[], ledger_bits=0.0),
        "another threshold": lambda said: guarantee(said, "abstain").update(threshold=63),
        "other costs": lambda said: guarantee(said, "cost")["costs"][0].__setitem__(0, 0.25),
        "a larger acceptance": lambda said: guarantee(said, "abstain").update(accepted=0.99),
        "a claim": lambda said: guarantee(said, "class").update(claim="no class has an error"),
        "twice the same": lambda said: said["guarantees"].append(said["guarantees"][0]),
        "a name": event("class", 0, name="class 10"),
        "another headline": lambda said: said.update(headline="class"),
    }


@pytest.mark.parametrize("name", forgeries())
def test_a_forged_guarantee_does_not_verify(pactl: Call, agree: Call, certified: Path, name: str) -> None:
    said = document(certified)
    forgeries()[name](said)
    agree(certified, "bound.json", said)
    assert pactl("verify", certified, "--groups", "groups.npy").code == 1
    if name not in ("fewer errors", "errors of another class", "other costs"):  # which need the data
        assert CHECK(certified) == 1 or name in ("a claim", "a name")
    done = pactl("predict", certified, "absent.npz")
    assert done.code != 0


def test_guarantees_that_share_more_than_delta_do_not_verify(pactl: Call, agree: Call, certified: Path) -> None:
    """All that follows from the prices agrees with them; only the prices are none."""
    honest = SubspaceCertificate.model_validate_json((certified / "bound.json").read_bytes())
    free = [
        each.model_copy(update={"price_bits": 0.0}).derived(honest.message_bits, honest.delta)
        for each in honest.guarantees
    ]
    agree(certified, "bound.json", honest.model_copy(update={"guarantees": tuple(free)}).to_bytes())
    assert "guarantees" in pactl("verify", certified, "--groups", "groups.npy").complaint(1)


def test_a_share_that_is_one_s_own(pactl: Call, run: Path) -> None:
    assert pactl("bound", run, "--quant-epochs", 0, "--certify", "class@0.99").code == 0
    said = document(run)
    assert said["ledger"][0]["bits"] == pytest.approx(np.log2(100))
    assert guarantee(said, "class")["price_bits"] == pytest.approx(np.log2(10 / 0.99))


def test_a_share_of_the_headline(pactl: Call, run: Path) -> None:
    assert pactl("bound", run, "--quant-epochs", 0, "--headline", "class@0.99").code == 0
    assert document(run)["headline"] == "class"
    assert pactl("verify", run).code == 0
