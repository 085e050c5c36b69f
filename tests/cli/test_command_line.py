"""Help, names, spellings and defaults: what the program says before it computes anything."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

import pactl_cli
from pactl_cli import catalogue
from pactl_cli.commands import published
from pactl_cli.commands.app import app
from pactl_cli.commands.layout import command_lines, definitions, help_of, wrapped
from pactl_cli.runs.kinds import KINDS

Call = Callable[..., Any]
COMMANDS: dict[str, Any] = dict(get_command(app).commands)  # type: ignore[attr-defined]


# --- Help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_80_columns_and_every_word_and_default_whole(pactl: Call, command: str) -> None:
    text = pactl(*command.split(), "--help").out
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.partition("Commands:")[2], "the first sentence of each command is whole"
    flowing = " ".join(text.split())
    for parameter in COMMANDS[command].params if command else ():
        said = help_of(parameter).replace("\N{NO-BREAK SPACE}", " ")
        assert said in flowing, parameter.name
        assert (
            parameter.param_type_name == "argument" or parameter.opts[0] in flowing or f"--[no-]{parameter.opts[0][2:]}"
        )


def test_a_word_is_never_broken_but_may_be_too_long() -> None:
    lines = list(definitions([("--name", f"{'x' * 100} state-of-the-art"), ("--" + "n" * 40, "below")], 40))
    assert lines == [
        f"  --name{' ' * 26}{'x' * 100}",
        f"{' ' * 34}state-of-the-art",
        f"  --{'n' * 40}",
        f"{' ' * 34}below",
    ]


@pytest.mark.parametrize("command", KINDS)
def test_help_of_training_is_a_screen_and_a_half(pactl: Call, command: str) -> None:
    assert pactl(command, "--help").out.count("\n") <= 84


# --- Names ------------------------------------------------------------------------------------------------------------


def test_names_without_a_kind_counts_them(pactl: Call) -> None:
    lines = pactl("names").out.splitlines()
    assert [line.split()[:2] for line in lines] == [[table.kind, str(len(table))] for table in catalogue.TABLES]


def test_names_as_json_have_facts(pactl: Call) -> None:
    every = pactl("names", "--json").json()
    assert list(every) == [table.kind for table in catalogue.TABLES]
    assert pactl("names", "networks", "--json").json() == every["networks"]
    resnet = next(row for row in every["networks"] if row["name"] == "resnet18k")
    assert (resnet["base_width"], resnet["batch_norm"]) == (64, True)
    digits = next(row for row in every["data"] if row["name"] == "digits")
    assert digits["defaults"]["intrinsic_dim"] == 100


def test_names_on_a_terminal_fit_its_columns(start: Call, terminal: Any) -> None:
    assert start("names", "networks", stdout=terminal.path).end().code == 0
    lines = terminal.close().splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) > len(catalogue.MODELS), "the long ones take two lines"


def test_a_kind_that_is_none_is_refused(pactl: Call) -> None:
    assert "data, networks, projectors" in pactl("names", "nets").complaint(2)


# --- Spellings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [(), ("launch", "--cpus", 2)], ids=["alone", "launched"])
@pytest.mark.parametrize("words", [("--intrinsic_dim", "50"), ("--intrinsic_dim=50",), ("--intrinsic-dim", "50")])
def test_underscores_are_dashes_in_names_of_options(pactl: Call, before: Any, words: Any) -> None:
    done = pactl(*before, "train", *words, "--print_config", "--weight_decay=1e-3")
    settings = yaml.safe_load(done.out)
    assert (settings["intrinsic_dim"], settings["weight_decay"]) == (50, 0.001)


def test_underscores_in_values_stay(pactl: Call) -> None:
    assert (
        yaml.safe_load(pactl("train", "--model_name", "my_nets:a_b", "--print-config").out)["model_name"]
        == "my_nets:a_b"
    )
    assert yaml.safe_load(pactl("train", "--optimizer=sgd_only", "--print-config").out)["optimizer"] == "sgd_only"


@pytest.mark.parametrize(
    ("there", "here", "changed"),
    [(flag, *row[1:]) for row in published.OPTIONS for flag in re.findall("`(-[^`]+)`", row[0])],
)
def test_a_published_option_is_taken_or_told_what_it_is_here(pactl: Call, there: str, here: str, changed: str) -> None:
    option = there.replace("_", "-")
    takers = [name for name, command in COMMANDS.items() if any(option in p.opts for p in command.params)]
    for command in ("train", "bound"):
        if command not in takers:
            line = pactl(command, f"{there}=1").complaint(2)
            assert line.startswith(f"pactl: No such option: {option} (of the published scripts; here: ")
            assert re.sub(r"\[(.*?)\]\(.*?\)", r"\1", changed).replace("`", "") in line
    assert takers or here in ("`--out`", "gone") or "argument" in here or "--device" in here


def test_an_option_that_nobody_had_gets_no_such_line(pactl: Call) -> None:
    assert pactl("train", "--prenet", 1).complaint(2).endswith("(see pactl train --help)\n")


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("train", "--epochs", 0), "train"),
        (("prior", "--prior-lr", 0), "prior"),
        (("transfer", "x", "--lr", 0), "transfer"),
        (("bound", "x", "--delta", 2), "bound"),
        (("verify", "x", "--device", "tpu"), "verify"),
        (("verify", "x", "--nothing"), "verify"),
        (("launch", "--cpus", 2, "train", "--nothing"), "train"),
        (("nothing",), ""),
    ],
)
def test_every_complaint_about_words_names_the_same_help(pactl: Call, arguments: Any, command: str) -> None:
    assert pactl(*arguments).complaint(2).endswith(f"(see pactl {command and f'{command} '}--help)\n")


# --- A file in a run stands for the run -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.yml", "bound.json", "checkpoint.safetensors", "manifest.json", "message.bin"])
def test_a_file_in_a_run_means_the_run(pactl: Call, certified: Path, name: str) -> None:
    file = certified / name
    assert pactl("verify", file, "--json").json()["run_dir"] == str(certified)
    assert pactl("verify", "-", "--json", stdin=f"{file}\n").json()["run_dir"] == str(certified)
    assert pactl("report", file).json()[0]["run_dir"] == str(certified)
    assert pactl("bound", file, "--quant-epochs", 0, "--all").json()[0]["run_dir"] == str(certified)


@pytest.mark.parametrize("piped", [False, True])
def test_a_source_by_one_of_its_files(pactl: Call, trained: Path, npz: Path, tmp_path: Path, piped: bool) -> None:
    source, stdin = ("-", f"{trained}/config.yml\n") if piped else (f"{trained}/config.yml", "")
    done = pactl("transfer", source, "--dataset", f"npz:{npz}", "--print-config", stdin=stdin)
    assert yaml.safe_load(done.out)["source"] == str(trained)


def test_a_file_beside_no_run_is_named_as_it_is(pactl: Call, tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("epochs: 1\n")
    assert f"{tmp_path}/config.yml is not a run directory" in pactl("bound", tmp_path / "config.yml").complaint(2)


# --- Defaults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("train",),
        ("train", "--train-subset", -0.3, "--model-name", "layer13s", "--calibration-examples", 20),
        ("prior", "--train-subset", 0.4),
        ("train", "--model-name", "resnet20", "--base-width", 2),
    ],
    ids=str,
)
def test_defaults_that_print_config_knows_are_those_of_the_run(pactl: Call, words: Any, tmp_path: Path) -> None:
    short = (*words, "--dataset", "digits", "--epochs", 1)
    shown = yaml.safe_load(pactl(*short, "--print-config").out)
    assert pactl(*short, "--out", tmp_path / "run").code == 0
    resolved = yaml.safe_load((tmp_path / "run" / "config.yml").read_text())
    unknown = {name for name, value in shown.items() if value is None and resolved[name] is not None}
    assert unknown - {"data_dir"} == ({"intrinsic_dim"} if words[0] == "prior" else set())
    assert {name: resolved[name] for name in shown.keys() - unknown} == {n: shown[n] for n in shown.keys() - unknown}


def test_what_is_not_known_is_null_with_a_reason(pactl: Call) -> None:
    lines = pactl("train", "--dataset", "npz:mine.npz", "--print-config").out.splitlines()
    assert "intrinsic_dim: null  # one for ten examples" in lines
    of_source = pactl("transfer", "somewhere", "--print-config").out.splitlines()
    assert "model_name: null  # the source's" in of_source


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("augment: true", ", ".join(catalogue.VIEWS)),
        ("normalise: no", "fixed, calibration, published"),
        ("model_name: yes", "networks"),
    ],
)
def test_a_truth_value_from_an_old_file_is_told_the_names(pactl: Call, tmp_path: Path, line: str, names: str) -> None:
    (tmp_path / "old.yml").write_text(f"{line}\n")
    said = pactl("train", "--config", tmp_path / "old.yml").complaint(2)
    assert "must not be true or false: choose from" in said
    assert names in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --num-workers x", "--num-workers 'x': must be a whole number or 'auto' (see"),
        ("train --num-workers -1", "--num-workers -1: must be 0 or more or 'auto' (see"),
        ("train --epochs 0 --lr 0", "--epochs 0: must be 1 or more; --lr 0: must be above 0 (see"),
        ("train --label-noise 2", "--label-noise 2: must be at most 1 (see"),
        ("train --momentum 1", "--momentum 1: must be below 1 (see"),
        ("train --seed 9223372036854775808", "must be at most 9223372036854775807 (see"),
        ("train --missing no", "--missing 'no': must be 'refuse' or 'constant' (see"),
        ("train --device tpu", "--device 'tpu': must be auto, cpu, cuda, cuda:1 or mps (see"),
    ],
)
def test_a_wrong_value_is_told_once_in_plain_words(pactl: Call, words: str, said: str) -> None:
    line = pactl(*words.split()).complaint(2)
    assert said in line
    assert line.count(words.split()[1]) == 1


# --- Sentences on a terminal ------------------------------------------------------------------------------------------


def test_words_numbers_and_commands_stay_whole_on_a_terminal() -> None:
    text = "half of them, 50.00 %, are wrong (go on with: pactl train --out 'my (own) run' --resume); or stop"
    assert wrapped(text, 21, "- ") == [
        "- half of them,",
        "  50.00 %, are wrong",
        "  (go on with:",
        "  pactl train --out 'my (own) run' --resume);",
        "  or stop",
    ]
    assert wrapped(text, None, "- ") == [f"- {text}"], "elsewhere a sentence is a line"


@pytest.mark.parametrize("width", [None, *range(8, 90, 9)])
def test_a_shell_makes_one_command_of_its_lines(width: int | None) -> None:
    words = ["my  run", "it's (a path) ", '"', "--epochs", "1280", "--tokenizer", "t.json"]
    lines = command_lines(shlex.join(["printf", "%s\\n", *words]), width)
    assert subprocess.run(["bash", "-c", lines], capture_output=True, text=True).stdout.splitlines() == words
    assert width is None or width < 20 or max(map(len, lines.splitlines())) <= width


def words_on(terminal: Any) -> list[str]:
    """Return the words on a terminal, after a check that no line is wider than it."""
    lines = terminal.close().splitlines()
    assert max(map(len, lines)) <= 80
    return " ".join(lines).split()


def test_a_complaint_breaks_no_word_on_a_terminal(start: Call, pactl: Call, terminal: Any) -> None:
    arguments = "train", "--optimizer", "none", "--model-name", "x"
    said = pactl(*arguments).complaint(2)
    assert len(said) > 160
    assert start(*arguments, stderr=terminal.path).end().code == 2
    assert words_on(terminal) == said.split()


def test_a_verdict_breaks_no_word_on_a_terminal(start: Call, pactl: Call, certified: Path, terminal: Any) -> None:
    elsewhere = pactl("verify", certified.name).out
    assert max(map(len, elsewhere.splitlines())) > 80, "a line for each assumption"
    assert start("verify", certified.name, stdout=terminal.path).end().code == 0
    assert words_on(terminal) == elsewhere.split()


def test_one_level_is_no_levels(start: Call, npz: Path, terminal: Any) -> None:
    """A run with a single coordinate is one of few for which a message with one level is better than none."""
    options = ("--base-width", 16, "--intrinsic-dim", 1, "--seed", 5, "--epochs", 20, "--lr", 1)
    assert start("train", "--dataset", f"npz:{npz}", *options, "--out", "run").end().code == 0
    words = ("--codebook", "kmeans", "--levels", 1, "--quant-epochs", 0)
    assert start("bound", "run", *words, stdout=terminal.path).end().code == 0
    assert re.search(r"  1 symbol, 1 level ", terminal.close())


# --- Progress ---------------------------------------------------------------------------------------------------------


def test_the_bar_says_epoch_loss_and_error_in_80_columns(start: Call, npz: Path, terminal: Any) -> None:
    done = start("train", "--dataset", f"npz:{npz}", "--epochs", 12, "--out", "run", stderr=terminal.path).end()
    assert (done.code, done.out) == (0, "run\n")
    drawn = re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.close()))
    assert drawn[0].endswith("loading PyTorch"), "before the libraries are loaded"
    assert any(re.search(r"training .* epoch \d+/12  loss \d\.\d{3}  error \d+\.\d %", line) for line in drawn)
    assert not [line for line in drawn if "?" in line or len(line) > 80]


def test_a_terminal_is_told_before_torch_is_loaded(tmp_path: Path, certified: Path, terminal: Any) -> None:
    """A module in torch's place fails as soon as it is loaded, which would take seconds."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise MemoryError")
    path = os.pathsep.join([str(tmp_path), str(Path(pactl_cli.__file__).parents[1])])
    seen = []
    for words in (["train"], ["bound", certified], ["verify", certified]):
        with open(terminal.path, "w") as stream:
            command = [sys.executable, "-m", "pactl_cli", *words]
            code = subprocess.run(command, stderr=stream, env=os.environ | {"PYTHONPATH": path}).returncode
        seen.append(code)
    text = terminal.close()
    assert (seen, text.count("out of memory")) == ([1, 1, 1], 3)
    assert all("loading PyTorch" in part for part in text.split("out of memory")[:3])


def test_off_a_terminal_nothing_is_drawn(start: Call, npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = start("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--out", "run").end()
    assert (done.code, done.err) == (0, "")


def test_a_copy_of_a_run_elsewhere_is_found_by_its_files(pactl: Call, certified: Path, tmp_path: Path) -> None:
    shutil.copytree(certified, tmp_path / "a copy")
    assert json.loads(pactl("verify", tmp_path / "a copy" / "bound.json", "--json").out)["verified"]
