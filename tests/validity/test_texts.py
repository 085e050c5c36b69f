"""A source recognises the texts that it has seen, however they are split or cut; and the tokenizer is no free choice.

Labels are fair coins, so every classifier errs on half of new examples.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.data import recognition
from pactl_cli.data.dataset import Examples
from pactl_cli.errors import PactlError
from pactl_cli.problem.display import Silence
from pactl_cli.runs.settings import BoundSettings, TrainSettings, TransferSettings
from pactl_cli.stages.bound import bound
from pactl_cli.stages.train import Destination, train

WORDS = 300
QUICK = {"label": "y", "text": "text", "device": "cpu"}
CERTIFY = BoundSettings(quant_epochs=0, codebook="kmeans", levels="1", device="cpu")


def coins(place: Path, seeds: tuple[int, ...]) -> str:
    """Write a table of texts of eight words with random labels, 150 for each seed."""
    rows = ["text,y"]
    for seed in seeds:
        random = np.random.default_rng(seed)
        rows += [
            " ".join(f"w{word}" for word in random.integers(WORDS, size=8)) + f",{random.integers(2)}"
            for _ in range(150)
        ]
    path = place / f"{'-'.join(map(str, seeds))}.csv"
    path.write_text("\n".join(rows))
    return f"csv:{path}"


def tokenizer(place: Path, *unused: str) -> str:
    """Write a tokenizer for these words, and for some that no text has."""
    words = ["[UNK]", *(f"w{place}" for place in range(WORDS)), *unused]
    content: dict[str, Any] = {
        "version": "1.0",
        **dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder")),
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": "[UNK]"},
    }
    path = place / f"{len(words)}.json"
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture
def memorised(tmp_path: Path) -> dict[str, Any]:
    """Train a source that has memorised the labels of its texts, and return its tokenizer options."""
    options = {**QUICK, "tokenizer": tokenizer(tmp_path)}
    settings = {"dataset": coins(tmp_path, (1,)), "intrinsic_dim": 0, "epochs": 60, "sequence_length": 8}
    train(TrainSettings.parse(settings | options), Destination(tmp_path / "source"), Silence())
    return options


def transferred(place: Path, dataset: str, options: dict[str, Any]) -> Certificate:
    """Return the certificate of a transfer that learns nothing more, on texts that are cut elsewhere."""
    settings = {"source": str(place / "source"), "dataset": dataset, "intrinsic_dim": 1, "epochs": 1, "lr": 1e-9}
    settings |= options | {"sequence_length": 7}
    train(TransferSettings.parse(settings), Destination(place / "run", force=True), Silence())
    return bound([place / "run"], CERTIFY, Silence())[0][1]


@pytest.mark.usefixtures("_no_fsync")
def test_memorised_texts_that_are_cut_elsewhere(
    tmp_path: Path, memorised: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PactlError, match="none left to count"):
        transferred(tmp_path, coins(tmp_path, (1,)), memorised)
    certificate = transferred(tmp_path, coins(tmp_path, (1, 2)), memorised)
    assert certificate.bound_examples == certificate.side_information["excluded_examples"] == 150
    assert certificate.error_bound >= 0.5
    assert any("texts are recognised if they have the same words" in line for line in certificate.assumptions)
    random = np.random.default_rng(0)
    monkeypatch.setattr(
        "pactl_cli.data.texts.text_fingerprints", lambda texts: random.integers(2**60, size=len(texts), dtype=np.uint64)
    )
    assert transferred(tmp_path, coins(tmp_path, (1,)), memorised).error_bound < 0.5, "a false certificate"


def test_a_text_is_known_by_its_words() -> None:
    one, same, other = recognition.text_fingerprints(["good  film\n", " good film", "good Film"])
    assert one == same != other


@pytest.mark.usefixtures("_no_fsync")
def test_no_tokenizer_is_chosen_for_nothing(tmp_path: Path) -> None:
    """Unused tokens change no token of a text, but they change all random weights."""
    dataset, runs = coins(tmp_path, (1,)), [tmp_path / name for name in ("one", "two", "three")]
    for run, unused in zip(runs, [(), ("never",), ()], strict=True):
        settings = {"dataset": dataset, "intrinsic_dim": 2, "epochs": 1, "tokenizer": tokenizer(tmp_path, *unused)}
        train(TrainSettings.parse(settings | QUICK), Destination(run), Silence())
    assert len(bound([runs[0], runs[2]], CERTIFY, Silence())) == 2
    with pytest.raises(PactlError, match="which their messages do not encode"):
        bound(runs[:2], CERTIFY, Silence())


@pytest.mark.usefixtures("_no_fsync")
@pytest.mark.parametrize("pad", [(0, 3), (3, 0)], ids=["at the end", "before"])
def test_memorised_tokens_that_are_padded_to_another_length(tmp_path: Path, pad: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    tokens, labels = random.integers(1, 400, size=(200, 12)), random.integers(2, size=200)
    tokens[::2, -1] = tokens[::3, 0] = 0
    place = tmp_path / "tokens.npz"
    np.savez(place, x_train=tokens, y_train=labels)
    settings = {"dataset": f"npz:{place}", "intrinsic_dim": 0, "epochs": 1, "device": "cpu"}
    train(TrainSettings.parse(settings), Destination(tmp_path / "source"), Silence())
    others = random.integers(1, 400, size=(200, 15))
    padded = np.concatenate([np.pad(tokens, ((0, 0), pad)), others])
    np.savez(place.with_stem("padded"), x_train=padded, y_train=np.r_[labels, labels])
    settings |= {"dataset": f"npz:{place.with_stem('padded')}", "source": str(tmp_path / "source"), "intrinsic_dim": 1}
    train(TransferSettings.parse(settings), Destination(tmp_path / "run"), Silence())
    certificate = bound([tmp_path / "run"], CERTIFY, Silence())[0][1]
    assert certificate.bound_examples == certificate.side_information["excluded_examples"] == 200


def test_rows_of_one_length_are_told_apart_by_their_zeros() -> None:
    """This is needed for integers that are features."""
    forms = recognition.image_fingerprints(Examples(torch.eye(6, dtype=torch.int64), torch.zeros(6, dtype=torch.int64)))
    assert not any(np.isin(forms[place], np.delete(forms, place, 0)).any() for place in range(6))
