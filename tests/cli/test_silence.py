"""The empty message is always tried, several prices of a bit are, and theta0 as it came costs one bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_sample_images, load_wine

from pactl_cli.certificate.message import decode, encode
from pactl_cli.certificate.risk_bounds import binomial_bound
from pactl_cli.certificate.task import Task
from pactl_cli.training.price import next_price

Call = Callable[..., Any]


def bag_of_words() -> tuple[Any, Any]:
    """How often each of sixty words occurs in short texts of two kinds."""
    random, labels = np.random.default_rng(2), np.arange(300) % 2
    rates = random.gamma(0.3, 1, size=(2, 60))
    return random.poisson(rates[labels]).astype(np.float32), labels


def photographs() -> tuple[Any, Any]:
    """Pieces of 8 x 8 of scikit-learn's two photographs."""
    random, labels = np.random.default_rng(3), np.arange(240) % 2
    rows, columns = random.integers(400, size=240), random.integers(600, size=240)
    images = load_sample_images().images
    pieces = [images[k][r : r + 8, c : c + 8] for k, r, c in zip(labels, rows, columns, strict=True)]
    return np.stack(pieces), labels


SETS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "cancer": lambda: load_breast_cancer(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "words": bag_of_words,
    "photographs": photographs,
}


def stored(name: str, inputs: Any, labels: Any) -> str:
    """A data set for --dataset, in a fixed random order."""
    order = np.random.default_rng(1).permutation(len(labels))
    inputs = inputs if inputs.dtype == np.uint8 else inputs.astype(np.float32)
    np.savez(f"{name}.npz", x_train=inputs[order], y_train=labels[order].astype(np.int64))
    return f"npz:{name}.npz"


def tried(run: Path | str) -> list[dict[str, Any]]:
    """The lines of metrics that tell of the messages that were tried."""
    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "chosen" in line]


@pytest.mark.parametrize("name", SETS)
def test_bound_after_prior_is_never_worse_than_silence(pactl: Call, name: str) -> None:
    """Whatever `bound` is told; silence is what the prior alone is certified at, for one bit."""
    network = ("--model-name", "layer13s", "--base-width", 1) if name == "photographs" else ("--model-name", "mlp")
    told = ("--dataset", stored(name, *SETS[name]()), *network, "--epochs", 3, "--prior-epochs", 4)
    assert pactl("prior", *told, "--intrinsic-dim", 0, "--out", "alone").code == 0
    assert pactl("prior", *told, "--out", "more").code == 0
    alone = pactl("bound", "alone").json()
    assert alone["bits"] == {"configuration": 1, "codebook": 0, "symbols": 0, "threshold": 0, "ledger": 0}
    counts = {"errors": alone["errors"], "examples": alone["bound_examples"], "delta": 0.05}
    silence = binomial_bound(**counts, bits=1)
    assert alone["error_bound"] == silence
    for options in (("--quant-epochs", 2), ("--quant-epochs", 0), ("--codebook", "kmeans", "--quant-epochs", 0)):
        found = pactl("bound", "more", *options, "--force").json()
        assert found["error_bound"] <= silence
        lines = tried("more")
        assert [line["error_bound"] for line in lines if line["attempt"]["codebook"] == "none"] == [silence]
        assert found["error_bound"] == min(line["error_bound"] for line in lines)
        assert pactl("verify", "more").code == 0


def test_two_processes_try_silence_too(shell: Call, pactl: Call, npz: Path) -> None:
    told = ("--dataset", f"npz:{npz}", "--epochs", 1, "--prior-epochs", 20)
    assert pactl("prior", *told, "--out", "run").code == 0
    alone = pactl("bound", "run", "--quant-epochs", 1).json()
    done = shell("pactl launch --cpus 2 bound run --quant-epochs 1 --force")
    assert done.code == 0, done
    assert json.loads(done.out)["error_bound"] == alone["error_bound"]
    assert pactl("verify", "run").code == 0


@pytest.mark.parametrize(
    ("weight", "prices", "said"),
    [
        ("auto:1", ["auto"], "auto:1"),
        ("2,auto,.5", [2.0, "auto", 0.5], "2,auto,0.5"),
        ("3", [3.0], 3.0),
    ],
)
def test_every_price_is_tried_from_the_trained_w(
    pactl: Call, trained: Path, weight: str, prices: list[Any], said: Any
) -> None:
    found = pactl("bound", trained, "--quant-epochs", 2, "--rate-weight", weight).json()
    assert found["made_with"]["rate_weight"] == said
    lines = tried(trained)
    assert [line["attempt"]["price"] for line in lines] == [*prices, None]
    assert sum(line["chosen"] for line in lines) == 1
    again = pactl("bound", trained, "--quant-epochs", 2, "--rate-weight", prices[-1], "--out", "one")
    assert again.code == 0
    assert tried("one")[0] | {"chosen": 0} == lines[-2] | {"chosen": 0}, "what was tried before changes nothing"


def test_two_prices_by_default_and_the_automatic_one_stays_in_bounds(pactl: Call, trained: Path) -> None:
    assert pactl("bound", trained, "--quant-epochs", 4).code == 0
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["stage"] == "bound" and "epoch" in line]
    assert len(epochs) == 2 * 4
    prices = [line["rate_weight"] for line in epochs if line["attempt"]["price"] == "auto"]
    assert max(prices) <= max(2 * prices[0], 8)
    assert {line["rate_weight"] for line in epochs[4:]} == {float(f"{min(max(prices[0], 2), 16) / 2:.3g}")}


def test_prices_are_looked_for_with_what_was_found(pactl: Call, trained: Path) -> None:
    assert pactl("bound", trained, "--quant-epochs", 2, "--rate-weight", "auto:6").code == 0
    automatic, *constant, silence = tried(trained)
    assert (automatic["attempt"]["price"], silence["attempt"]["price"]) == ("auto", None)
    first, found = 2 * constant[0]["attempt"]["price"], dict[float, float]()
    for line in constant:
        assert line["attempt"]["price"] == pytest.approx(next_price(first, found), rel=0.01)
        found[line["attempt"]["price"]] = line["error_bound"]
    assert len(found) == 5


@pytest.mark.parametrize("weight", ["auto:0", "auto:9", "auto:x", "-1", "1,-1", "", ",", "nan", "inf", "1;2", "1," * 9])
def test_prices_that_are_none(pactl: Call, trained: Path, weight: str) -> None:
    assert "--rate-weight" in pactl("bound", trained, "--rate-weight", weight).complaint(2)


def test_only_the_runs_own_silence_is_believed(pactl: Call, npz: Path, agree: Call) -> None:
    """A message that says w = 0 of another configuration is about another classifier."""
    told = ("--dataset", f"npz:{npz}", "--epochs", 1, "--prior-epochs", 20, "--intrinsic-mode", "sparse")
    assert pactl("prior", *told, "--out", "run").code == 0
    document = pactl("bound", "run", "--rate-weight", 1000, "--quant-epochs", 1).json()
    assert (document["intrinsic_dim"], document["message_bits"]) == (0, 1)
    assert document["configuration"]["intrinsic_mode"] == "rdkronqr", "of which nothing is said"
    assert pactl("verify", "run").code == 0
    task = Task.from_dict(document["side_information"]["task"])
    message, _ = decode(Path("run/message.bin").read_bytes(), task)
    for change in ({"seed": 3}, {"label_noise": 0.1}, {"intrinsic_mode": "dense"}, {"freeze": "x"}):
        other = encode(replace(message, configuration=replace(message.configuration, **change)), task)
        agree(Path("run"), "message.bin", other.data)
        known = {"message_bits": other.bits, "message_sha256": sha256(other.data).hexdigest()}
        known |= {"bits": document["bits"] | {"configuration": other.bits}}
        agree(Path("run"), "bound.json", document | known)
        assert "different configurations" in pactl("verify", "run").complaint(1)


# --- A source as it is ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["fc", "layer13s"])
def source(request: pytest.FixtureRequest, pactl: Call, npz: Path) -> str:
    """A trained network, without and with BatchNorm."""
    told = ("--model-name", request.param, "--base-width", 2, "--intrinsic-dim", 0, "--epochs", 3)
    assert pactl("train", "--dataset", f"npz:{npz}", *told, "--out", "source").code == 0
    return "source"


def test_a_source_is_certified_as_it_is_for_one_bit(
    pactl: Call, shell: Call, arrays: dict[str, Any], source: str
) -> None:
    """On one process or two, and without a look at any label."""
    random = np.random.default_rng(5)
    seen = arrays["x_train"][..., ::-1].copy()  # which no fingerprint recognises
    for name, labels in (("true", arrays["y_train"]), ("false", random.integers(3, size=len(seen)))):
        np.savez(f"{name}.npz", x_train=seen, y_train=labels)
        told = ("transfer", source, "--dataset", f"npz:{name}.npz", "--intrinsic-dim", 0)
        assert pactl(*told, "--out", name).code == 0
    starts = {(Path(run) / "init.safetensors").read_bytes() for run in ("true", "false")}
    assert len(starts) == 1
    found = pactl("bound", "true").json()
    assert (found["message_bits"], found["hypothesis"], found["configuration"]["calibration_examples"]) == (
        *(1, "d=0 hold-out"),
        0,
    )
    assert found["bound_examples"] == len(seen)
    assert found["statement"].startswith("Hold-out bound of the weights that training started from")
    assert any("were not chosen by looking at" in line for line in found["assumptions"])
    assert pactl("verify", "true").code == 0
    assert pactl("report", "true").json()[0]["intrinsic_dim"] == 0
    done = shell("pactl launch --cpus 2 bound true --force")
    assert json.loads(done.out)["errors"] == found["errors"]
    assert pactl("verify", "true").code == 0


def test_statistics_may_come_from_the_target_and_the_usual_d_is_cheap(
    pactl: Call, arrays: dict[str, Any], source: str
) -> None:
    np.savez("new.npz", x_train=arrays["x_train"][..., ::-1], y_train=arrays["y_train"])
    told = ("transfer", source, "--dataset", "npz:new.npz", "--epochs", 1)
    assert pactl(*told, "--intrinsic-dim", 0, "--calibration-examples", 30, "--out", "calibrated").code == 0
    found = pactl("bound", "calibrated").json()
    assert (found["bound_examples"], found["configuration"]["calibration_examples"]) == (270, 30)
    assert found["message_bits"] > 1
    assert pactl("verify", "calibrated").code == 0
    assert pactl(*told, "--out", "usual").code == 0
    found = pactl("bound", "usual", "--quant-epochs", 0).json()
    silence = 8 if found["configuration"]["calibration_examples"] else 1
    assert found["bits"]["configuration"] == (4 if found["intrinsic_dim"] else silence)


def test_a_head_that_would_guess_is_no_source_as_it_is(pactl: Call, arrays: dict[str, Any], source: str) -> None:
    np.savez("five.npz", x_train=arrays["x_train"], y_train=np.arange(len(arrays["y_train"])) % 5)
    done = pactl("transfer", source, "--dataset", "npz:five.npz", "--intrinsic-dim", 0, "--out", "run")
    assert "has 3 classes, and --dataset" in (complaint := done.complaint(2))
    assert "has 5" in complaint
    assert not Path("run").exists()
