"""Which version reads what: another program of the same format does, another format is refused in a line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pactl_cli.certificate.certificate import SCHEMA_VERSION
from pactl_cli.certificate.format import FORMAT
from pactl_cli.certificate.message import encode, read_message
from pactl_cli.certificate.task import Task

Call = Callable[..., Any]

GOLDEN = Path(__file__).parent / "golden" / f"format-{FORMAT}"

WITH_VERSION = """
import sys
import pactl_cli
pactl_cli.__version__ = sys.argv.pop(1)
from pactl_cli.commands.app import main
main()
"""


def document(run: Path) -> dict[str, Any]:
    """The certificate."""
    content: dict[str, Any] = json.loads((run / "bound.json").read_text())
    return content


# --- The same format --------------------------------------------------------------------------------------------------


def test_a_run_of_this_format_that_was_kept_verifies(pactl: Call, tmp_path: Path) -> None:
    run = Path(shutil.copytree(GOLDEN, tmp_path / "run"))
    claimed = document(run)
    assert (claimed["format"], claimed["kind"], claimed["schema_version"]) == (FORMAT, "subspace", SCHEMA_VERSION)
    assert pactl("verify", run, "--json").json()["error_bound"] == claimed["error_bound"]
    (line,) = pactl("report", run, "--json").json()
    assert (line["errors"], line["message_bits"]) == (claimed["errors"], claimed["message_bits"])


def test_a_kept_run_that_was_altered_is_noticed(pactl: Call, tmp_path: Path, agree: Call) -> None:
    run = Path(shutil.copytree(GOLDEN, tmp_path / "run"))
    agree(run, "bound.json", document(run) | {"message_bits": document(run)["message_bits"] - 1})
    assert "message_bits" in pactl("verify", run).complaint(1)


@pytest.mark.parametrize("version", ["0.2.0", "9.9.9rc1"])
def test_a_program_of_another_version_verifies_it(certified: Path, version: str) -> None:
    def pactl_of(*arguments: object) -> subprocess.CompletedProcess[str]:
        code = [sys.executable, "-c", WITH_VERSION, version, *map(str, arguments)]
        return subprocess.run(code, capture_output=True, text=True, env=os.environ.copy(), timeout=120)

    assert pactl_of("--version").stdout.split()[-1] == version
    done = pactl_of("verify", certified)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_is_a_note(pactl: Call, certified: Path, agree: Call) -> None:
    good = document(certified)
    network = good["side_information"]["network"] | {"defined_by": "pactl 3.1"}
    agree(certified, "bound.json", good | {"program_version": "3.1"})
    assert pactl("verify", certified).code == 0
    other = good["side_information"] | {"network": network}
    agree(certified, "bound.json", good | {"program_version": "3.1", "side_information": other})
    assert pactl("verify", certified).code == 0


@pytest.mark.parametrize(
    "words", ["", "trust me", "1.0 trust me", "1.0\n", "1" * 61, "\u0663.\u0661", 3, None, ["1.0"]]
)
def test_a_note_has_no_words(pactl: Call, certified: Path, agree: Call, words: Any) -> None:
    agree(certified, "bound.json", document(certified) | {"program_version": words})
    assert "program_version" in pactl("verify", certified).complaint(1)


# --- Other formats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": FORMAT + 1}, f"format {FORMAT + 1}, and this version of pactl reads format {FORMAT}"),
        ({"format": 1}, f"format 1, and this version of pactl reads format {FORMAT}"),
        ({"format": 10**400}, f"reads format {FORMAT}"),
        ({"format": True}, "format"),
        ({"format": None}, "format"),
        ({"kind": "finite set"}, "a kind that this version of pactl does not know: 'finite set'"),
        ({"kind": ["subspace"]}, "kind"),
        ({"schema_version": 1}, "was written by pactl 0.1.0, and only that version reads it"),
        ({"schema_version": 2}, "was written by a development version before 0.2.0"),
        ({"schema_version": SCHEMA_VERSION + 1}, "was written by a newer version of pactl"),
        ({"schema_version": 0}, "schema_version"),
    ],
    ids=str,
)
def test_a_certificate_of_another_form_is_refused(
    pactl: Call, certified: Path, agree: Call, changes: dict[str, Any], says: str
) -> None:
    agree(certified, "bound.json", document(certified) | changes)
    for command, code in (("verify", 1), ("report", 2)):
        line = pactl(command, certified).complaint(code)
        assert "bound.json" in line
        assert says in line


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"3", b"null", b"\xff", b"[" * 10**5, b'{"format": 2', b'{"format": ' + b"9" * 5000 + b"}"]
)
def test_what_is_no_certificate_is_refused(pactl: Call, certified: Path, agree: Call, content: bytes) -> None:
    agree(certified, "bound.json", content)
    for command, code in (("verify", 1), ("report", 2)):
        assert "bound.json is not a certificate" in pactl(command, certified).complaint(code)


@pytest.mark.parametrize("schema", [1, 2])
@pytest.mark.parametrize("command", ["verify", "bound", "report", "transfer"])
def test_an_older_run_is_refused(pactl: Call, certified: Path, command: str, schema: int) -> None:
    manifest = json.loads((certified / "manifest.json").read_text())
    (certified / "manifest.json").write_text(json.dumps(manifest | {"schema_version": schema}))
    line = pactl(command, certified).complaint(2)
    assert ("written by pactl 0.1.0" if schema == 1 else "development version before 0.2.0") in line


# --- Fields that the run has otherwise -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field", [{"image_size": 16}, {"freeze": "^0"}, {"lora_rank": 2}, {"view": "crop-mirror"}], ids=str
)
def test_a_message_of_a_field_that_the_run_has_otherwise(
    pactl: Call, certified: Path, agree: Call, field: dict[str, Any]
) -> None:
    """It is decoded, and is not about this run; the certificate agrees with it in all."""
    claimed = document(certified)
    task = Task.from_dict(claimed["side_information"]["task"])
    message, _ = read_message((certified / "message.bin").read_bytes(), task)
    forged = encode(replace(message, configuration=replace(message.configuration, **field)), task)
    claimed["configuration"] |= field
    claimed["bits"]["configuration"] = forged.configuration_bits
    claimed |= {"message_bits": forged.bits, "message_sha256": sha256(forged.data).hexdigest()}
    agree(certified, "message.bin", forged.data)
    agree(certified, "bound.json", claimed)
    assert "message.bin and config.yml name different configurations" in pactl("verify", certified).complaint(1)


def test_a_certificate_may_lack_no_bound_of_its_format_and_have_no_other(
    pactl: Call, certified: Path, agree: Call
) -> None:
    good = document(certified)
    changed = [{name: value for name, value in good["bounds"].items() if name != lacking} for lacking in good["bounds"]]
    for bounds in [*changed, good["bounds"] | {"mine": 0.01}]:
        agree(certified, "bound.json", good | {"bounds": bounds})
        assert "bounds" in pactl("verify", certified).complaint(1)


def test_a_bound_that_was_appended_since_is_not_missed(
    pactl: Call, certified: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pactl_cli import catalogue

    row = replace(catalogue.BOUNDS["kl"], name="new")
    monkeypatch.setitem(catalogue.BOUNDS, "new", row)
    assert pactl("verify", certified).code == 0
    (facts,) = pactl("report", certified, "--json").json()
    assert "new" not in facts["bounds"]
