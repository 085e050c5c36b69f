"""`pactl report`: a table, JSON and a page, made only from the files of run directories."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from html.parser import HTMLParser
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pactl_cli.certificate.certificate import SCHEMA_VERSION, Certificate, all_bounds, sentence
from pactl_cli.certificate.codebook import Grid
from pactl_cli.certificate.codes import BitWriter, write_delta, write_gamma
from pactl_cli.certificate.configuration import complete
from pactl_cli.certificate.format import FORMAT
from pactl_cli.certificate.message import Message, encode
from pactl_cli.certificate.task import Task
from pactl_cli.runs.directory import Manifest

HOSTILE = 'npz:/x</title><script src="//evil">alert(1)</script><img onerror=x>&"\'\x1b[31m\u202e'


class Page(HTMLParser):
    """A parsed page: elements, attributes and text; it fails unless every element is closed where it belongs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attributes]
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def require_alone(text: str) -> Page:
    """Return the parsed page, after checks that it loads nothing, runs nothing, and that each id is unique."""
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "img", "image", "a", "form", "base"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in {"src", "href", "xlink:href"}]
    assert not re.search(r"https?:|url\(|@import|//evil(?!&)", text.replace("//evil&quot;", ""))
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    named = [value.split() for name, value in page.attributes if name == "aria-labelledby"]
    assert all(set(names) <= set(ids) for names in named)
    assert page.tags.count("svg") >= page.tags.count("desc") == len(named)
    return page


def page_of(pactl: Callable[..., Any], *runs: object) -> Page:
    outcome = pactl("report", *runs, "--html", "page.html")
    assert (outcome.code, outcome.out, outcome.err) == (0, "page.html\n", "")
    return require_alone(Path("page.html").read_text("utf-8"))


def forged(path: Path, *, dataset: str = "npz:/data", dim: int = 12, **changes: Any) -> Path:
    """Write and return a certified run that nobody has trained but whose files agree."""
    path.mkdir()
    task = Task(dataset, 1000, 1)
    configuration = complete({"intrinsic_dim": dim, "model_name": "fc"}, task)
    symbols = np.arange(dim) % 3
    encoded = encode(Message(configuration, Grid(0.5, 1), symbols), task)
    facts: dict[str, Any] = {"errors": 100, "examples": 1000, "bits": encoded.bits, "delta": 0.05}
    bounds = all_bounds(**facts)
    certificate = {
        **{"schema_version": SCHEMA_VERSION, "format": FORMAT, "kind": "subspace", "program_version": "0.2.0"},
        "statement": sentence(bounds["binomial"], 0.05, 1000, dataset),
        "error_bound": bounds["binomial"],
        "delta": 0.05,
        "bound_examples": 1000,
        "errors": 100,
        "quantised_train_error": 0.1,
        **{"train_error": 0.09, "majority_error": 0.8, "at_other_deltas": [], "made_with": {}},
        "test_error": None,
        "test_examples": 0,
        "train_nll_bits": 400.0,
        "message_bits": encoded.bits,
        "ledger_bits": 0.0,
        "bits": {
            "configuration": encoded.configuration_bits,
            "codebook": encoded.codebook_bits,
            "symbols": encoded.symbols_bits,
            **{"threshold": 0, "ledger": 0.0},
        },
        **{"ledger": [], "headline": "error", "guarantees": []},
        "bounds": bounds,
        "published": {"bits": 99.0, "bound": 0.5, "fine_tuned": True},
        "posthoc": None,
        "holdout_bound": None,
        "dataset": dataset,
        "hypothesis": "subspace",
        "intrinsic_dim": dim,
        "levels": 3,
        "configuration": configuration.as_dict(),
        "numerical_margin": 1e-4,
        "data_sha256": "0" * 64,
        **{"message_sha256": sha256(encoded.data).hexdigest(), "classifier_sha256": "0" * 64},
        "side_information": {"task": task.as_dict()},
        "assumptions": [f"assumed of {dataset}"],
    }
    (path / "message.bin").write_bytes(encoded.data)
    (path / "bound.json").write_bytes(Certificate.model_validate_json(json.dumps(certificate | changes)).to_bytes())
    manifest = Manifest(kind="train", stages={"train": "complete", "bound": "complete"})
    (path / "manifest.json").write_text(manifest.model_dump_json())
    return path


# --- What it says -----------------------------------------------------------------------------------------------------


def test_json_has_the_facts_of_certified_and_other_runs(pactl, certified, trained):
    first, second = pactl("report", certified, trained).json()
    certificate = json.loads((certified / "bound.json").read_text())
    shared = first.keys() & certificate.keys() - {"kind"}  # of a run, and of a hypothesis
    assert {"error_bound", "bits", "bounds", "published", "holdout_bound", "test_error", "statement"} <= shared
    assert {name: first[name] for name in shared} == {name: certificate[name] for name in shared}
    assert (first["state"], second["state"]) == ("certified", "trained")
    assert first["run_dir"] == str(certified)
    for name in ("dataset", "model_name", "intrinsic_mode", "intrinsic_dim", "seed", "kind"):
        assert first[name] == second[name] is not None
    assert second["error_bound"] is second["bits"] is None


def test_runs_come_through_a_pipe(pactl, certified, trained):
    reports = pactl("report", "-", "--json", stdin=f"{trained}\n{certified}\n").json()
    assert [report["run_dir"] for report in reports] == [str(trained), str(certified)]


def test_a_terminal_gets_a_table(start, terminal, certified, trained):
    assert start("report", certified, trained, stdout=terminal.path).end().code == 0
    text = terminal.close()
    certificate = json.loads((certified / "bound.json").read_text())
    for name in ("error_bound", "quantised_train_error", "test_error", "holdout_bound"):
        assert f"{ceil(certificate[name] * 1e4 - 1e-9) / 100:.2f} %" in text
    bits = certificate["bits"]
    assert f"{bits['configuration']}+{bits['codebook']}+{bits['symbols']}+0" in text
    assert str(certified) in text
    assert "pactl verify" in text
    lines = text.splitlines()
    assert lines[next(place for place, line in enumerate(lines) if str(trained) in line) + 1].split()[4] == "trained"
    assert max(len(line) for line in lines if " %" in line) < 100


def test_the_page_says_what_the_files_say(pactl, certified, trained):
    page = page_of(pactl, certified, trained)
    certificate = json.loads((certified / "bound.json").read_text())
    percent = f"{ceil(certificate['error_bound'] * 1e4) / 100:.2f} %"
    assert f"errs on at most {percent} of new examples." in page.text
    assert page.text.index("With 95 % confidence") < page.text.index("The runs")
    assert f"Nothing was verified here: pactl verify {certified}" in page.text
    assert certificate["statement"] in page.text
    for line in certificate["assumptions"]:
        assert line in page.text
    for title in (
        "The bound against the test error",
        "Where the bits go",
        "The symbols and the code's model",
        "Learning curves",
        "Fine-tuning through the quantiser",
        "The bound as a function of n and delta",
    ):
        assert title in page.text
    assert f"{certificate['intrinsic_dim']} symbols, {certificate['levels']} levels" in page.text
    assert f"{certificate['bits']['symbols']} bits" in page.text
    assert "not certified" in page.text
    assert "could not be read" not in page.text


def test_without_a_certificate_there_is_a_page_that_says_so(pactl, trained):
    page = page_of(pactl, trained)
    assert "No certificate yet." in page.text
    assert "Training in the subspace" in page.text
    assert "The bound as a function" not in page.text


def test_every_kind_of_certificate_is_drawn(pactl, quiet, trained, npz, quick, tmp_path):
    quiet("bound", trained, "--codebook", "kmeans", "--levels", 4, "--quant-epochs", 2, "--misc-extra-bits", 3)
    prior = ("prior", "--dataset", f"npz:{npz}", "--base-width", 16, "--epochs", 2, "--lr", 0.1)
    quiet(*prior, "--intrinsic-dim", 0, "--out", "hold-out")
    quiet("bound", "hold-out")
    quiet(*prior, "--intrinsic-dim", 5, "--out", "with-prior")
    quiet("bound", "with-prior", "--quant-epochs", 1)
    page = page_of(pactl, trained, "hold-out", "with-prior")
    levels = json.loads((trained / "bound.json").read_text())["levels"]  # of the four, those in use
    assert f"20 symbols, {levels} levels" in page.text
    for name in ("hold-out", "with-prior"):  # which is no better with five coordinates
        assert f"{name}: the message has no symbols." in page.text
    assert page.text.count("the message has no symbols") == 2
    assert "cannot be decoded" not in page.text
    assert "not all about the same examples" in page.text
    assert "Training of the prior" in page.text
    assert page_of(pactl, "hold-out").text.count("Hold-out bound of the weights that training started from") == 2


def test_choosing_among_runs_on_the_same_examples_is_no_matter(pactl, tmp_path):
    page = page_of(pactl, forged(tmp_path / "a"), forged(tmp_path / "b", dim=13))
    assert "not all about the same examples" not in page.text
    assert "The lowest certificate of 2 runs: a" in page.text


def test_many_runs_with_the_same_name_are_told_apart(pactl, tmp_path):
    runs = []
    for number in range(14):
        (tmp_path / str(number)).mkdir()
        runs.append(forged(tmp_path / str(number) / "run", dim=number + 3))
    page = page_of(pactl, *runs)
    assert all(f"{number}/run" in page.text for number in range(14))
    assert page.text.count("left out of a long page") == 2


def test_nothing_heavy_is_loaded(certified):
    code = (
        "import sys; sys.argv = ['pactl', 'report', *sys.argv[1:], '--html', 'page.html']\n"
        "from pactl_cli.commands.app import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'torchvision', 'sklearn', 'matplotlib', 'safetensors'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(certified)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "page.html\n"), done.stderr


# --- A stranger's run -------------------------------------------------------------------------------------------------


def test_a_hostile_name_stays_text(pactl, tmp_path):
    run = forged(tmp_path / 'a<b>"&', dataset=HOSTILE)
    page = page_of(pactl, run)
    assert "<script" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", page.text)
    assert "12 symbols, 3 levels" in page.text
    assert "\x1b" not in pactl("report", run).out


def test_a_hostile_name_does_not_reach_the_terminal(start, terminal, tmp_path):
    run = forged(tmp_path / "run", dataset="npz:/[bold]x\x1b]0;owned\x07")
    assert start("report", run, stdout=terminal.path).end().code == 0
    text = terminal.close()
    assert "owned" in text
    assert "\x1b]0" not in text
    assert "[bold]x" in text.replace("\n", "")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"error_bound": 0.01}, "error_bound"),
        ({"statement": "With 100 % confidence, it never errs."}, "statement"),
        ({"errors": 3}, "bounds.binomial"),
        ({"errors": 10**400}, "bounds"),
        ({"bound_examples": 10**30}, "bounds"),
        ({"message_bits": 1}, "message_bits"),
        ({"test_error": 7.0}, "test_error"),
        ({"intrinsic_dim": 10**12}, "intrinsic_dim"),
        ({"levels": 10**9}, "levels"),
        ({"hypothesis": "d=0 hold-out"}, "hypothesis"),
        ({"quantised_train_error": 0.0}, "quantised_train_error"),
        ({"published": {"bits": 9.0, "bound": -1.0, "fine_tuned": True}}, "published"),
    ],
)
def test_a_certificate_that_contradicts_itself_is_refused(pactl, tmp_path, changes, named):
    complaint = pactl("report", forged(tmp_path / "run", **changes), "--html", "page.html").complaint(2)
    assert f"contradicts itself: {named} " in complaint
    assert not Path("page.html").exists()


def test_a_header_does_not_decide_how_much_memory_is_taken(pactl, tmp_path):
    """A few bytes announce 2**26 symbols, which would take half a gigabyte; the certificate agrees with them."""
    import tracemalloc

    dim = 1 << 26
    writer = BitWriter()
    writer.write(0b0_10_0_0_1_1, 7)  # not the default; the network, its width and mode are; d: coded in full
    write_delta(writer, dim + 1)
    writer.write(0, 4)
    write_gamma(writer, 1)
    run = forged(tmp_path / "run", intrinsic_dim=dim, levels=1, message_sha256=sha256(writer.to_bytes()).hexdigest())
    (run / "message.bin").write_bytes(writer.to_bytes())
    tracemalloc.start()
    page = page_of(pactl, run)
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()
    assert "67,108,864 symbols are more than a report decodes" in page.text


@pytest.mark.parametrize("name", ["manifest.json", "bound.json", "config.yml"])
def test_a_file_that_is_no_plain_file_is_an_error(pactl, certified, tmp_path, name):
    (tmp_path / "secret").write_text("password: 1234\n")
    (certified / name).unlink()
    (certified / name).symlink_to(tmp_path / "secret")
    complaint = pactl("report", certified).complaint(2)
    assert "it is a link" in complaint
    assert "1234" not in complaint
    (certified / name).unlink()
    os.mkfifo(certified / name)
    assert "not a plain file" in pactl("report", certified).complaint(2)
    (certified / name).unlink()
    with (certified / name).open("wb") as file:
        file.truncate(1 << 40)
    assert "larger than any" in pactl("report", certified).complaint(2)


@pytest.mark.parametrize("content", [b"", b"\x00" * 10, None, b"\xff" * 6_000_000])
def test_a_message_that_cannot_be_read_is_said_not_drawn(pactl, certified, content):
    (certified / "message.bin").unlink()
    if content is not None:
        (certified / "message.bin").write_bytes(content)
    page = page_of(pactl, certified)
    assert "certified: " in page.text
    assert re.search(r"is not the message that|cannot be read", page.text)
    assert "20 symbols, " not in page.text


@pytest.mark.parametrize(
    "task",
    [
        None,
        {},
        [],
        "x",
        {"dataset": "nothing", "train_examples": 1, "channels": 1, "brought": None, "calibration_pool": 1},
        Task("digits", 1437, 1, defaults={"model_name": "x"}).as_dict(),
        Task("digits", 1437, 1, defaults={"base_width": 7}).as_dict(),
        Task("mnist", 60_000, 1).as_dict(),
    ],
)
def test_a_message_about_something_else_is_said_not_drawn(pactl, tmp_path, task):
    page = page_of(pactl, forged(tmp_path / "run", side_information={"task": task}))
    assert re.search(r"cannot be decoded with the facts in bound.json|does not say what bound.json says", page.text)


def test_garbage_among_the_metrics_is_counted(pactl, certified):
    garbage = [b"\xff\xfe", b"[" * 9000, b"{}", b'{"stage": "train", "epoch": 1, "error": NaN}', b'{"stage": 3}', b"1"]
    with (certified / "metrics.jsonl").open("ab") as file:
        file.write(b"\n".join([*garbage, b'{"stage": "train", "epoch": 1e400, "error": 0.5}']))
    page = page_of(pactl, certified)
    assert "7 lines of metrics could not be read." in page.text
    assert "Training in the subspace" in page.text


def test_a_run_without_metrics_has_no_curves(pactl, certified):
    (certified / "metrics.jsonl").unlink()
    assert "Learning curves" not in page_of(pactl, certified).text


# --- Wrong input ------------------------------------------------------------------------------------------------------


def test_what_is_no_run_is_an_error(pactl, certified, tmp_path):
    assert "not a run directory" in pactl("report", tmp_path, "--html", "page.html").complaint(2)
    assert "not a run directory" in pactl("report", "nowhere").complaint(2)
    assert "no run directory came through the pipe" in pactl("report", "-").complaint(2)
    (certified / "bound.json").write_text("{}")
    assert "bound.json is not a certificate" in pactl("report", certified).complaint(2)
    assert not Path("page.html").exists()


def test_a_page_that_cannot_be_written_is_an_error(pactl, certified, tree):
    before = tree(certified)
    assert "--html nowhere/page.html" in pactl("report", certified, "--html", "nowhere/page.html").complaint(2)
    assert f"--html {certified}" in pactl("report", certified, "--html", certified).complaint(2)
    assert "--html" in pactl("report", certified, "--html", certified / "bound.json").complaint(2)
    assert "--json" in pactl("report", certified, "--html", "page.html", "--json").complaint(2)
    assert tree(certified) == before


def test_a_run_that_has_only_begun_is_shown_with_dashes(pactl, trained):
    manifest = json.loads((trained / "manifest.json").read_text()) | {"stages": {"train": "running"}, "files": {}}
    (trained / "manifest.json").write_text(json.dumps(manifest))
    for name in ("config.yml", "metrics.jsonl", "checkpoint.safetensors"):
        (trained / name).unlink()
    [report] = pactl("report", trained).json()
    assert report["state"] == "unfinished"
    assert report["dataset"] is report["error_bound"] is None
    assert "unfinished" in page_of(pactl, trained).text
