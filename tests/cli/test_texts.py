"""Reviews in text files, from the files to a verified certificate, without a line of Python."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

Call = Callable[..., Any]

WORDS = ["[UNK]", *(f"{kind}{place}" for kind in ("good", "bad", "so") for place in range(4))]
QUICK = ("--intrinsic-dim", 20, "--epochs", 15, "--lr", 0.1, "--sequence-length", 32)
NETS = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.embedding = nn.Embedding(256, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, classes)

    def forward(self, inputs):
        mask = inputs["attention_mask"].bool()
        seen = self.layer(self.embedding(inputs["input_ids"]), src_key_padding_mask=~mask & mask.any(1, keepdim=True))
        return self.head((seen * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1))

def small(classes, channels):
    assert channels == 1
    return Small(classes)
"""


@pytest.fixture
def reviews(tmp_path: Path) -> str:
    """A folder of reviews: five words, most of them of the class's own, in train/ and test/; one is empty."""
    random = np.random.default_rng(0)
    for part, count in (("train", 400), ("test", 60)):
        for place in range(count):
            kind = ("bad", "good")[place % 2]
            own = [f"{kind if random.random() < 0.85 else 'so'}{random.integers(4)}" for _ in range(5)]
            path = tmp_path / "reviews" / part / kind / f"{place}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("" if place == 3 else " ".join(own))
    return "folder:reviews"


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    content: dict[str, Any] = {
        "version": "1.0",
        **dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder")),
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(WORDS)}, "unk_token": "[UNK]"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    return "tokenizer.json"


@pytest.mark.parametrize(
    ("form", "split_by", "network", "inputs"),
    [
        ("padded", "bytes", "bag", {"kind": "tokens", "vocabulary": 257}),
        ("padded", "words", "bag", {"kind": "tokens", "vocabulary": 8193}),
        ("padded", "file", "bag", {"kind": "tokens", "vocabulary": len(WORDS) + 1}),
        ("bagged", "bytes", None, {"kind": "features"}),
        ("bagged", "file", None, {"kind": "features"}),
    ],
)
def test_reviews_are_certified_and_verified(
    pactl: Call, reviews: str, tokenizer: str, form: str, split_by: str, network: str | None, inputs: dict[str, Any]
) -> None:
    by_file = split_by == "file"
    more = ["--tokenizer", tokenizer if by_file else split_by]
    if split_by == "words":  # of 8,193 vectors each is met rarely
        more += ["--intrinsic-dim", "60", "--epochs", "40", "--lr", "0.5"]
    trained = pactl("train", "--dataset", reviews, "--text-form", form, *QUICK, *more, "--out", "run")
    assert trained.code == 0, trained.err
    assert "of 460 texts are empty: they are kept" in trained.err
    certificate = pactl("bound", "run", "--quant-epochs", 3).json()
    assert certificate["train_error"] < 0.35  # a half is by chance
    assert form == "bagged" or certificate["error_bound"] < 0.5
    assert network in (None, certificate["configuration"]["model_name"])
    side = certificate["side_information"]
    assert side["class_names"] == ["bad", "good"]
    assert {name: side["inputs"].get(name) for name in inputs} == inputs
    assert (side["tokenizer_sha256"] is not None) == by_file
    said = " ".join(certificate["assumptions"])
    assert ("was not made or chosen by looking at the examples" in said) == by_file
    assert ("The number of tokens" in said) == (form == "padded")
    verified = pactl("verify", "run")
    assert verified.out.startswith("verified: run\n")
    assert ('tokenizer.json", a path that the run names' in verified.out) == by_file


def test_a_column_of_reviews_is_certified_and_verified(pactl: Call, reviews: str) -> None:
    files = sorted(Path("reviews/train").rglob("*.txt"))
    lines = [f"{path.read_text() or 'so0'},{path.parent.name}" for path in files]
    Path("reviews.csv").write_text("\n".join(["review,verdict", *lines]))
    columns = ("--label", "verdict", "--text", "review")
    trained = pactl("train", "--dataset", "csv:reviews.csv", *columns, *QUICK, "--out", "run")
    assert trained.code == 0, trained.err
    certificate = pactl("bound", "run", "--quant-epochs", 3).json()
    assert certificate["error_bound"] < 0.5
    assert certificate["configuration"]["model_name"] == "bag"
    assert certificate["side_information"]["class_names"] == ["bad", "good"]
    assert pactl("verify", "run").code == 0


def test_a_transformer_of_ones_own_gets_ids_and_a_mask(pactl: Call, reviews: str, tmp_path: Path) -> None:
    name = f"masked_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(NETS)
    network = ("--model-name", f"{name}:small")
    trained = pactl("train", "--dataset", reviews, "--text-form", "masked", *QUICK, *network, "--out", "run")
    assert trained.code == 0, trained.err
    certificate = pactl("bound", "run", "--quant-epochs", 1, *network).json()
    assert certificate["side_information"]["inputs"]["tensors"].keys() == {"input_ids", "attention_mask"}
    assert pactl("verify", "run", *network).code == 0
    sys.modules.pop(name, None)


def test_a_mapping_without_a_network_of_ones_own_says_so(pactl: Call, reviews: str) -> None:
    line = pactl("train", "--dataset", reviews, "--text-form", "masked", "--out", "no").complaint(2)
    assert "attention_mask, input_ids (bring a network of your own: MODULE:FUNCTION)" in line


def test_the_default_directory_does_not_name_a_network_that_is_not_known_yet(pactl: Call, reviews: str) -> None:
    trained = pactl("train", "--dataset", reviews, *QUICK, "--epochs", 1)
    assert trained.out.strip().endswith("-folder-rdkronqr-d20")


@pytest.fixture
def run(pactl: Call, reviews: str, tokenizer: str) -> Path:
    """A certified run of texts that a tokenizer's file splits."""
    done = pactl("train", "--dataset", reviews, "--tokenizer", tokenizer, *QUICK, "--epochs", 1, "--out", "run")
    assert done.code == 0, done.err
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0
    return Path("run")


def test_a_tokenizer_that_lies_elsewhere_is_named_anew(pactl: Call, run: Path) -> None:
    assert yaml.safe_load((run / "config.yml").read_text())["tokenizer"] == str(Path("tokenizer.json").resolve())
    Path("tokenizer.json").rename("moved.json")
    for command in ("verify", "bound"):
        line = pactl(command, run).complaint(2)
        assert 'tokenizer.json" (name it: --tokenizer PATH)' in line
    bound = pactl("bound", run, "--quant-epochs", 0, "--tokenizer", "moved.json")
    assert bound.code == 0, bound.err
    verified = pactl("verify", run, "--tokenizer", "moved.json")
    assert 'texts split by "moved.json".' in verified.out


def test_another_tokenizer_is_other_data(pactl: Call, run: Path) -> None:
    content = json.loads(Path("tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["good1"], vocabulary["good2"] = vocabulary["good2"], vocabulary["good1"]
    Path("other.json").write_text(json.dumps(content))
    assert "S differs" in pactl("verify", run, "--tokenizer", "other.json").complaint(1)
    assert "S differs" in pactl("bound", run, "--tokenizer", "other.json").complaint(2)


def test_a_tokenizer_that_differs_elsewhere_is_another_one(pactl: Call, run: Path) -> None:
    """It splits all the examples alike, but new ones otherwise: the classifier is another."""
    content = json.loads(Path("tokenizer.json").read_text())
    content["normalizer"] = {"type": "Lowercase"}
    Path("other.json").write_text(json.dumps(content))
    assert "says tokenizer_sha256 is" in pactl("verify", run, "--tokenizer", "other.json").complaint(1)


@pytest.mark.parametrize("command", ["verify", "bound"])
def test_a_tokenizer_in_the_run_itself_is_not_read_unasked(pactl: Call, run: Path, agree: Call, command: str) -> None:
    shutil.copy("tokenizer.json", run / "tokenizer.json")
    settings = (run / "config.yml").read_text()
    agree(run, "config.yml", settings.replace("/tokenizer.json", "/run/tokenizer.json"))
    assert "run has its tokenizer inside itself" in pactl(command, run).complaint(2)
    assert pactl(command, run, "--tokenizer", "run/tokenizer.json").code == 0


def test_a_run_is_resumed_where_its_tokenizer_lies_now(pactl: Call, run: Path, reviews: str) -> None:
    Path("tokenizer.json").rename("moved.json")
    words = ("train", "--dataset", reviews, *QUICK, "--epochs", 1, "--out", run, "--resume")
    assert pactl(*words, "--tokenizer", "moved.json").code == 0


@pytest.mark.parametrize("command", ["verify", "bound"])
def test_bytes_and_files_are_not_exchanged(pactl: Call, run: Path, reviews: str, command: str) -> None:
    assert "--tokenizer bytes: the texts of run are split by" in pactl(command, run, "--tokenizer", "bytes").complaint(
        2
    )
    assert pactl("train", "--dataset", reviews, *QUICK, "--epochs", 1, "--out", "plain").code == 0
    assert pactl("bound", "plain", "--quant-epochs", 0).code == 0
    line = pactl(command, "plain", "--tokenizer", "tokenizer.json").complaint(2)
    assert 'the texts of plain are split by "bytes" (leave it out)' in line


@pytest.mark.parametrize("option", [("--tokenizer", "x.json"), ("--text-form", "bagged"), ("--sequence-length", 8)])
def test_options_for_texts_are_for_texts_alone(pactl: Call, option: tuple[object, ...]) -> None:
    line = pactl("train", "--dataset", "digits", *option, "--out", "no").complaint(2)
    assert f"{option[0]} {option[1]}: it has no meaning for --dataset digits" in line
