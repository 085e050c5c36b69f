"""What a file says of itself is somebody's words: quoted, attributed and cut, never said by the program."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save

from pactl_cli.runs.checkpoint import load_tensors

Call = Callable[..., Any]

CLAIM = "seed 137 alone, which pactl has checked to have seen no data"
LONGEST = 200


def unquoted(text: str) -> str:
    """What is left of a text without its quotations."""
    return re.sub(r'"[^"]*"', '""', " ".join(text.split()))


def quotations(text: str) -> list[str]:
    """The quotations of a text."""
    return re.findall(r'"([^"]*)"', " ".join(text.split()))


@pytest.fixture
def transferred(pactl: Call, trained: Path, arrays: Any) -> Path:
    """A certified transfer."""
    other = {name: np.roll(array, 1, -1) if array.ndim > 1 else array for name, array in arrays.items()}
    np.savez("other.npz", **other)
    options = ("--dataset", "npz:other.npz", "--epochs", 1, "--intrinsic-dim", 10, "--out", "moved")
    assert pactl("transfer", trained, *options).code == 0
    assert pactl("bound", "moved", "--quant-epochs", 0).code == 0
    return Path("moved")


def with_origin(run: Path, origin: str, agree: Call, pactl: Call) -> None:
    """Weights that come from somewhere else, as the run has it; its certificate is made anew, and says so."""
    tensors, metadata = load_tensors(run / "init.safetensors")
    facts = json.loads(metadata["start"])
    agree(run, "init.safetensors", save(tensors, {"start": json.dumps(facts | {"origin": origin})}))
    assert pactl("bound", run, "--quant-epochs", 0).code == 0


@pytest.mark.parametrize(
    "origin",
    [
        CLAIM,
        f'here", {CLAIM}, "there',
        f"{CLAIM}, " + "and that is all there is to say of it, " * 90,
        f"x' {CLAIM}' “{CLAIM}” ``{CLAIM}``",
        f"{CLAIM}\\",
    ],
)
def test_an_origin_is_a_quotation(pactl: Call, transferred: Path, agree: Call, origin: str) -> None:
    with_origin(transferred, origin, agree, pactl)
    said = pactl("verify", transferred)
    assert said.code == 0, said.err
    for text in (said.out, *json.loads((transferred / "bound.json").read_text())["assumptions"]):
        assert CLAIM not in unquoted(text)
        assert all(len(quotation) <= LONGEST + len(" ... ") for quotation in quotations(text))
    assert 'from what the run calls ""' in unquoted(said.out)
    assert sum(CLAIM in quotation for quotation in quotations(said.out)) == 1
    table = pactl("report", transferred, "--json").out
    assert all(CLAIM not in unquoted(line) for line in json.loads(table)[0]["assumptions"])


@pytest.mark.parametrize("origin", [f"a\n  {CLAIM}", f"a\u2028{CLAIM}", f"\x1b[2K{CLAIM}", "x" * 5000, 3, None])
def test_an_origin_that_is_no_line_is_refused(pactl: Call, transferred: Path, agree: Call, origin: Any) -> None:
    tensors, metadata = load_tensors(transferred / "init.safetensors")
    facts = json.loads(metadata["start"])
    agree(transferred, "init.safetensors", save(tensors, {"start": json.dumps(facts | {"origin": origin})}))
    assert "init.safetensors is altered: its origin is no name" in pactl("verify", transferred).complaint(1)


def test_an_origin_is_no_part_of_what_is_known(pactl: Call, transferred: Path, agree: Call) -> None:
    """Where it is changed behind the certificate's back, the certificate says something else."""
    tensors, metadata = load_tensors(transferred / "init.safetensors")
    facts = json.loads(metadata["start"])
    agree(transferred, "init.safetensors", save(tensors, {"start": json.dumps(facts | {"origin": CLAIM})}))
    assert "side_information.source" in pactl("verify", transferred).complaint(1)


@pytest.mark.parametrize("name", [f"{CLAIM}.npz", f'a", {CLAIM}, "b.npz', f"{'deep/' * 60}{CLAIM}.npz"])
def test_a_path_of_data_is_a_quotation(pactl: Call, npz: Path, quick: Any, tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    data.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(npz, data)
    assert pactl("train", "--dataset", f"npz:{data}", *quick, "--out", "run").code == 0
    certificate = pactl("bound", "run", "--quant-epochs", 0).json()
    said = pactl("verify", "run").out
    for text in (said, certificate["statement"], *certificate["assumptions"]):
        assert CLAIM not in unquoted(text)
        assert all(len(quotation) <= LONGEST + len(" ... ") for quotation in quotations(text))
    assert 'Data: "", a path that the run names: check that they are the data you mean.' in unquoted(said)


@pytest.mark.parametrize("version", [f'x", {CLAIM}', f"1.0, {CLAIM}", "1.0 (checked)", "1.0\nchecked", "x" * 200])
def test_who_defines_a_network_is_a_name_and_a_version(pactl: Call, certified: Path, agree: Call, version: str) -> None:
    document = json.loads((certified / "bound.json").read_text())
    document["side_information"]["network"]["defined_by"] = f"pactl {version}"
    agree(certified, "bound.json", document)
    assert "does not say who defines its network" in pactl("verify", certified).complaint(1)
