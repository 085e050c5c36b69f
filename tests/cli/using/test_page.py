"""The examples of the page "Use a certified classifier", run as printed, in their order, in one directory."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pactl_cli

PAGE = (Path(__file__).parents[3] / "docs" / "using.md").read_text(encoding="utf-8")


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_page_runs_as_printed(shell: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    assert len(examples("sh")) == 4
    for script in examples("sh"):
        done = shell(f'set -e\npython() {{ "{sys.executable}" "$@"; }}\n{script}')
        assert done.code == 0, done.err
    labels = [line.split("\t")[0] for line in Path("labels.tsv").read_text().splitlines()]
    counted = [line.split() for line in Path("counts.txt").read_text().splitlines()]
    assert {label: int(count) for count, label in counted} == Counter(labels)
    assert {json.loads(line)["class"] for line in Path("answers.jsonl").read_text().splitlines()} == set(labels)
    assert len(Path("all.txt").read_text().split()) == 1797
    loading, exported = examples("python")
    codes = [exported, *([loading] if hasattr(pactl_cli, "load") else [])]
    for number, code in enumerate(codes):
        (tmp_path / f"{number}.py").write_text(code)
        done = shell(f'"{sys.executable}" {number}.py')
        assert done.code == 0, done.err
