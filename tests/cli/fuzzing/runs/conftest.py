"""Certified runs of every kind to spoil, and what is true of them whatever anybody makes of their files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from scipy.special import gammaln, logsumexp

from pactl_cli.certificate.message import read_message
from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Silence
from pactl_cli.problem.reloading import reload_problem
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.runs.start import Start

Draw = Callable[[Any], Any]
Document = dict[str, Any]

COMMANDS = ("verify", "verify", "verify", "bound", "report", "report", "page", "resume")


# --- What is true -----------------------------------------------------------------------------------------------------


def least_bound(errors: int, examples: int, bits: float, delta: float) -> float:
    """The largest p with P[Binomial(n, p) <= k] >= delta 2^-bits, from below: by bisection on the sum itself."""
    if errors >= examples:
        return 1.0
    k = np.arange(errors + 1)
    choices = gammaln(examples + 1) - gammaln(k + 1) - gammaln(examples - k + 1)
    low, high = errors / examples, 1.0
    for _ in range(100):
        p = (low + high) / 2
        if not low < p < high:
            break
        fits = logsumexp(choices + k * np.log(p) + (examples - k) * np.log1p(-p)) >= np.log(delta) - bits * np.log(2)
        low, high = (p, high) if fits else (low, p)
    return low


@dataclass(frozen=True)
class Original:
    """A certified run as the program wrote it, and what is true of it."""

    path: Path
    kind: str
    options: tuple[object, ...]
    certificate: Document
    message: bytes

    def require_true(self, run: Path) -> None:
        """What `verify` has found right must be."""
        claimed, message = json.loads((run / "bound.json").read_bytes()), (run / "message.bin").read_bytes()
        examples, bits = self.certificate["bound_examples"], claimed["message_bits"]
        least = least_bound(claimed["errors"], examples, bits + max(0, claimed["ledger_bits"]), claimed["delta"])
        assert claimed["error_bound"] >= least * (1 - 1e-9)
        assert claimed["bound_examples"] == examples
        assert 8 * (len(message) - 1) < bits <= 8 * len(message)
        if message == self.message:
            assert bits == self.certificate["message_bits"]
            assert claimed["errors"] >= self.certificate["errors"]
            assert claimed["test_error"] == self.certificate["test_error"]
        else:
            assert claimed["errors"] >= plain_errors(run, message)


def plain_errors(run: Path, message: bytes) -> int:
    """How often the classifier of a message errs, counted anew."""
    problem = reload_problem(RunDirectory.open(run), Named(), "cpu", Silence())
    decoded, _ = read_message(message, problem.task)
    network = problem.classifier(problem.build_module(), torch.from_numpy(decoded.coordinates()))
    sample = problem.sample.resident()
    with torch.no_grad():
        logits = network(sample.images)
    return int((logits.argmax(1) != sample.labels).sum())


def require_sober(text: str) -> None:
    """What `report` tells is no better than its own numbers."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    for told in json.loads(text, parse_constant=refuse):
        if told["state"] == "certified":
            bits = told["message_bits"] + told["ledger_bits"]
            assert 0 <= told["errors"] <= told["bound_examples"]
            least = least_bound(told["errors"], told["bound_examples"], bits, told["delta"])
            assert least * (1 - 1e-9) <= told["error_bound"] <= 1


# --- Originals --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def originals(
    tmp_path_factory: pytest.TempPathFactory, quiet: Callable[..., str], npz: Path, quick: tuple[object, ...]
) -> dict[str, Original]:
    """A certified run of every kind."""
    place = tmp_path_factory.mktemp("originals")
    data, few = ("--dataset", f"npz:{npz}"), ("--base-width", 16, "--intrinsic-dim", 10, "--epochs", 3)
    poor = ("--train-subset", -0.9, "--intrinsic-dim", 0, "--epochs", 1, "--lr", 1e-6, "--base-width", 16)
    quiet("train", *data, *poor, "--out", place / "source")
    noisy = ("--train-subset", 0.8, "--label-noise", 0.05, "--duplicates", "drop")
    kinds: dict[str, tuple[object, ...]] = {
        "train": ("train", *data, *quick, "--train-subset", 0.9),
        "prior": ("prior", *data, *quick, "--prior-epochs", 1, "--prior-lr", 1e-6, "--train-subset", 0.1),
        "transfer": ("transfer", place / "source", *data, *quick, "--train-subset", 0.9),
        "silent": ("prior", *data, *few),
        "permuted": ("train", *data, *quick, "--indices-path", place / "order.npy", *noisy),
    }
    np.save(place / "order.npy", np.random.default_rng(0).permutation(300))
    found = {}
    for kind, options in kinds.items():
        run = place / kind
        quiet(*options, "--out", run)
        quiet("bound", run, "--quant-epochs", 2)
        found[kind] = Original(
            run, kind, options, json.loads((run / "bound.json").read_bytes()), (run / "message.bin").read_bytes()
        )
    assert [kind for kind in found if not found[kind].certificate["levels"]] == ["silent"]
    return found


@pytest.fixture
def attempt(fuzz: Any, originals: dict[str, Original], tmp_path: Path, npz: Path) -> Callable[..., None]:
    """`attempt(draw, kind, change)`: what a command makes of a run that `change(run)` has changed."""
    data = f"npz:{npz}"
    named: list[tuple[object, ...]] = [
        (),
        (),
        (),
        ("--dataset", data),
        ("--model-name", "fc"),
        ("--data-dir", tmp_path),
    ]
    named += [("--dataset", data, "--model-name", "fc"), ("--dataset", "digits"), ("--dataset", "npz:/dev/zero")]

    def call(draw: Draw, kind: str, change: Callable[[Path], object]) -> None:
        original, run = originals[kind], tmp_path / "run"
        if os.path.lexists(run):
            shutil.rmtree(run)
        shutil.copytree(original.path, run)
        change(run)
        command = draw(st.sampled_from(COMMANDS))
        said = draw(st.sampled_from(named)) if command in ("verify", "bound") else ()
        if command == "verify":
            if fuzz.call("verify", run, *said).code == 0:
                original.require_true(run)
        elif command == "bound":
            if fuzz.call("bound", run, "--quant-epochs", 0, *said).code == 0:
                assert fuzz.call("verify", run, *said).code == 0
                original.require_true(run)
        elif command == "report":
            done = fuzz.call("report", run, "--json")
            if not done.code:
                require_sober(done.out)
        elif command == "page":
            fuzz.call("report", run, "--html", tmp_path / "page.html")
        else:
            fuzz.call(*original.options, "--resume", "--out", run)

    return call


def _made_to_agree(draw: Draw, run: Path) -> None:
    """Half of the time everything that has a fingerprint of something has the right one."""
    if not draw(st.booleans()):
        return
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        document = json.loads((run / "bound.json").read_bytes())
        now = sha256((run / "message.bin").read_bytes()).hexdigest()
        if document["message_sha256"] != now:
            (run / "bound.json").write_text(json.dumps(document | {"message_sha256": now}, indent=2) + "\n")
    manifest = json.loads((run / "manifest.json").read_bytes())
    for name in manifest["files"]:
        if (run / name).is_file():
            manifest["files"][name] = sha256((run / name).read_bytes()).hexdigest()
    with suppress(Exception):
        opened = RunDirectory.open(run)
        settings = opened.read_settings()
        manifest["parent"] = Start.load(opened, settings).sha256()
    (run / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="session")
def reconcile() -> Callable[[Draw, Path], None]:
    """`reconcile(draw, run)`: half of the time every fingerprint in a run is made right."""
    return _made_to_agree


@pytest.fixture
def agree_in_form(agree: Callable[..., None]) -> Callable[[Path, Document], None]:
    """Writes a certificate as the program would; the manifest agrees with it."""
    return lambda run, document: agree(run, "bound.json", document)


@pytest.fixture(scope="session")
def oracle() -> Callable[[int, int, float, float], float]:
    """`oracle(errors, examples, bits, delta)`: the least bound that is one."""
    return least_bound
