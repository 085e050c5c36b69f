"""Places that may not be read or written: one line, exit code 2, nothing written, as for any other bad input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("_ordinary_user")


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    """A directory with three: `shut` is read-only, `dark` neither read nor entered, `blind` entered and not listed."""
    modes = {"shut": 0o555, "dark": 0o000, "blind": 0o300}
    for name, mode in modes.items():
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    yield tmp_path
    for name in modes:
        (tmp_path / name).chmod(0o755)
        assert not [*(tmp_path / name).iterdir()], "nothing was written"


@pytest.mark.parametrize("force", [(), ("--force",), ("--resume",)], ids=str)
@pytest.mark.parametrize("place", ["shut", "shut/new", "shut/new/below", "dark", "dark/new", "blind"])
def test_an_output_directory_that_cannot_be(
    pactl: Call, npz: Path, places: Path, place: str, force: tuple[str, ...]
) -> None:
    line = pactl("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--out", places / place, *force).complaint(2)
    assert str(places / place) in line


def test_a_working_directory_that_is_read_only(
    pactl: Call, npz: Path, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(places / "shut")
    assert "runs" in pactl("train", "--dataset", f"npz:{npz}", "--epochs", 1).complaint(2)


@pytest.mark.parametrize("command", ["bound", "verify"])
@pytest.mark.parametrize("place", ["dark", "dark/run", "blind"])
def test_a_run_directory_that_is_out_of_sight(pactl: Call, places: Path, command: str, place: str) -> None:
    assert place in pactl(command, places / place).complaint(2)


@pytest.mark.parametrize(
    "options",
    [
        ("--config", "dark/c.yml"),
        ("--indices-path", "dark/order.npy"),
        ("--dataset", "npz:dark/x.npz"),
        ("--dataset", "folder:dark"),
        ("--dataset", "folder:dark/pictures"),
        ("--dataset", "mnist", "--data-dir", "dark"),
        ("--dataset", "mnist", "--data-dir", "dark/data"),
        ("--dataset", "mnist", "--data-dir", "shut"),
    ],
    ids=" ".join,
)
def test_inputs_that_cannot_be_read(pactl: Call, npz: Path, places: Path, options: tuple[str, ...]) -> None:
    dataset = () if "--dataset" in options else ("--dataset", f"npz:{npz}")
    assert options[-1].removeprefix("npz:").removeprefix("folder:") in pactl("train", *dataset, *options).complaint(2)


@pytest.mark.parametrize(
    "name", ["manifest.json", "config.yml", "checkpoint.safetensors", "indices.npz", "metrics.jsonl"]
)
def test_a_file_of_a_run_that_cannot_be_read(pactl: Call, certified: Path, name: str) -> None:
    (certified / name).chmod(0o000)
    assert name in pactl("bound", certified).complaint(2)
    assert name in pactl("verify", certified).complaint(2 if name == "manifest.json" else 1)


def test_a_run_in_a_read_only_place_can_be_verified_but_not_certified(pactl: Call, certified: Path, tree: Call) -> None:
    certified.chmod(0o555)
    before = tree(certified)
    assert str(certified) in pactl("bound", certified, "--quant-epochs", 1).complaint(2)
    assert tree(certified) == before
    assert pactl("verify", certified).code == 0
    certified.chmod(0o755)
