"""A run directory in which anything may be anything: one clear line, or an answer that is true."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import strategies as st

Draw = Callable[[Any], Any]
Document = dict[str, Any]

# --- Any byte ---------------------------------------------------------------------------------------------------------

FILES = (
    *(("train", name) for name in ("manifest.json", "config.yml", "checkpoint.safetensors", "indices.npz")),
    *(("train", name) for name in ("metrics.jsonl", "message.bin", "bound.json")),
    *((kind, "init.safetensors") for kind in ("prior", "transfer")),
)


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_any_bytes_in_any_file(search: Any, fuzz: Any, attempt: Any, reconcile: Any, kind: str, name: str) -> None:
    def case(draw: Draw) -> None:
        def change(run: Path) -> None:
            (run / name).write_bytes(draw(fuzz.spoilt((run / name).read_bytes())))
            if name != "manifest.json":
                reconcile(draw, run)

        attempt(draw, kind, change)

    search(0.18 / len(FILES), case)


def test_any_file_that_is_none(search: Any, attempt: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"secret")

    def case(draw: Draw) -> None:
        def change(run: Path) -> None:
            path = run / draw(st.sampled_from([name for _, name in FILES[:7]]))
            path.unlink()
            kind = draw(st.sampled_from(["absent", "folder", "pipe", "link", "device", "sparse"]))
            if kind == "folder":
                path.mkdir()
            elif kind == "pipe":
                os.mkfifo(path)
            elif kind in ("link", "device"):
                path.symlink_to(tmp_path / "elsewhere" if kind == "link" else "/dev/zero")
            elif kind == "sparse":
                with path.open("wb") as file:
                    file.truncate(1 << 40)
            if draw(st.booleans()):
                manifest = run / "manifest.json"
                if kind != "link" and manifest.is_file() and manifest.stat().st_size < 1 << 20:
                    content = json.loads(manifest.read_bytes())
                    content["files"].pop(path.name, None)
                    manifest.write_text(json.dumps(content))

        attempt(draw, "train", change)

    search(0.03, case)


# --- Documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["train", "prior", "transfer"])
def test_any_value_in_the_manifest(search: Any, fuzz: Any, attempt: Any, kind: str) -> None:
    def case(draw: Draw) -> None:
        def change(run: Path) -> None:
            document = json.loads((run / "manifest.json").read_bytes())
            marks = draw(fuzz.changed(document))
            (run / "manifest.json").write_bytes(fuzz.marked(json.dumps(document), marks))

        attempt(draw, kind, change)

    search(0.02, case)


@pytest.mark.parametrize("kind", ["train", "prior", "transfer"])
def test_any_value_in_the_settings_of_a_run(search: Any, fuzz: Any, attempt: Any, reconcile: Any, kind: str) -> None:
    def case(draw: Draw) -> None:
        def change(run: Path) -> None:
            document = yaml.safe_load((run / "config.yml").read_text())
            marks = draw(fuzz.changed(document, fuzz.tagged))
            text = yaml.safe_dump(document, allow_unicode=draw(st.booleans()))
            (run / "config.yml").write_bytes(fuzz.marked(text, marks))
            reconcile(draw, run)

        attempt(draw, kind, change)

    search(0.03, case)


IDENTITIES: dict[str, tuple[str, ...]] = {
    "manifest.json": ("data_sha256", "train_sha256", "test_sha256", "parent"),
    "config.yml": ("duplicates", "label_noise", "indices_path", "dataset", "train_subset", "model_name"),
    "bound.json": (
        *("network", "theta0_sha256", "train_sha256", "test_sha256", "excluded_examples", "copies_left_out", "source"),
        *("repetitions_dropped", "repetitions_counted", "indices_sha256", "task", "program_version", "kind", "format"),
    ),
    "init.safetensors": ("lineage", "origin", "seen_is_complete", "spec", "statistics", "classes", "head"),
}


@pytest.mark.parametrize("kind", ["train", "prior", "transfer", "permuted"])
def test_any_value_in_what_identifies_data_and_network(
    search: Any, fuzz: Any, attempt: Any, reconcile: Any, agree_in_form: Any, kind: str
) -> None:
    """Of what a run says of its data, its network and its ancestors: one field, whole or in part."""

    def field_changed(draw: Draw, document: Document, names: tuple[str, ...]) -> Document:
        name = draw(st.sampled_from([name for name in names if name in document]))
        part = {name: document[name]}
        draw(fuzz.changed(part, ("null",), 1))
        return document | part

    def case(draw: Draw) -> None:
        def change(run: Path) -> None:
            file = draw(st.sampled_from([name for name in IDENTITIES if (run / name).exists()]))
            names, path = IDENTITIES[file], run / file
            if file == "bound.json":
                document = json.loads(path.read_bytes())
                document["side_information"] = field_changed(draw, document["side_information"], names)
                agree_in_form(run, document)
                return
            if file == "init.safetensors":
                data = path.read_bytes()
                size = int.from_bytes(data[:8], "little")
                header = json.loads(data[8 : 8 + size])
                facts = field_changed(draw, json.loads(header["__metadata__"]["start"]), names)
                header["__metadata__"]["start"] = json.dumps(facts)
                text = json.dumps(header).encode()
                path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
            elif file == "config.yml":
                document = field_changed(draw, yaml.safe_load(path.read_text()), names)
                path.write_bytes(yaml.safe_dump(document).encode("utf-8", "surrogatepass"))
            else:
                document = field_changed(draw, json.loads(path.read_bytes()), names)
                path.write_text(json.dumps(document))
                return
            reconcile(draw, run)

        attempt(draw, kind, change)

    search(0.03, case)


def test_any_line_among_the_metrics(search: Any, fuzz: Any, attempt: Any, reconcile: Any) -> None:
    def case(draw: Draw) -> None:
        def change(run: Path) -> None:
            lines = (run / "metrics.jsonl").read_bytes().splitlines()
            place = draw(st.integers(0, len(lines) - 1))
            records = [json.loads(lines[place])]
            marks = draw(fuzz.changed(records))
            lines[place : place + 1] = [fuzz.marked(json.dumps(record), marks) for record in records]
            (run / "metrics.jsonl").write_bytes(draw(st.sampled_from([b"\n", b"\r", b"\n\n", b"\xc2\x85"])).join(lines))
            reconcile(draw, run)

        attempt(draw, "train", change)

    search(0.02, case)


def test_any_value_in_a_certificate(search: Any, fuzz: Any, attempt: Any, reconcile: Any, agree_in_form: Any) -> None:
    def case(draw: Draw) -> None:
        def change(run: Path) -> None:
            document = json.loads((run / "bound.json").read_bytes())
            marks = draw(fuzz.changed(document))
            if marks or draw(st.booleans()):
                (run / "bound.json").write_bytes(fuzz.marked(json.dumps(document, indent=2) + "\n", marks))
                reconcile(draw, run)
            else:
                agree_in_form(run, document)

        attempt(draw, "train", change)

    search(0.09, case)


# --- Tensors and arrays -----------------------------------------------------------------------------------------------


def reshaped_header(draw: Draw, fuzz: Any, data: bytes) -> bytes:
    """A safetensors file with something else in its header, or in the facts that its metadata hold."""
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    facts = header.get("__metadata__", {})
    if "start" in facts and draw(st.booleans()):
        document = json.loads(facts["start"])
        marks = draw(fuzz.changed(document))
        facts["start"] = fuzz.marked(json.dumps(document), marks).decode("utf-8", "replace")
        marks = {}
    else:
        marks = draw(
            fuzz.changed(header, (*("1e400", "1" + "0" * 40, "18446744073709551615"), '"F64"', '"I4"', '"BOOL"'))
        )
    text = fuzz.marked(json.dumps(header), marks)
    claimed = draw(st.sampled_from([len(text)] * 8 + [2**63, 2**40, 2, 0, len(text) - 1]))
    return claimed.to_bytes(8, "little") + text + body + draw(st.sampled_from([b""] * 5 + [bytes(4)]))


TENSORS = (
    *(("train", "checkpoint.safetensors"), ("prior", "checkpoint.safetensors")),
    *(("prior", "init.safetensors"), ("transfer", "init.safetensors")),
)


@pytest.mark.parametrize(("kind", "name"), TENSORS)
def test_any_header_of_tensors(search: Any, fuzz: Any, attempt: Any, reconcile: Any, kind: str, name: str) -> None:
    def case(draw: Draw) -> None:
        def change(run: Path) -> None:
            (run / name).write_bytes(reshaped_header(draw, fuzz, (run / name).read_bytes()))
            reconcile(draw, run)

        attempt(draw, kind, change)

    search(0.02, case)


@st.composite
def arrays(draw: Any, array: Any) -> bytes:
    """The bytes of an `.npy` file that has something of an array."""
    action = draw(st.sampled_from(["type", "shape", "values", "header"]))
    if action == "type":
        array = array.astype(draw(st.sampled_from(["O", "U9", "f8", "i4", ">i8", "u8", "?", "M8[s]", "c16", "V8"])))
    elif action == "shape":
        array = np.resize(array, draw(st.sampled_from([(), (0,), (5, 3), (1, 1, 1), (9,), (1, 270)])))
    elif action == "values" and array.size:
        array = array.copy()
        array.flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from([-1, 0, 1, 300, 2**62]))
    out = BytesIO()
    np.save(out, array, allow_pickle=True)
    data = out.getvalue()
    if action == "header":
        shape = draw(
            st.sampled_from(["(10**9,)", "(9999999999999,)", "(-1,)", "(2**62, 2**62)", "()", "(1.5,)", "[3]"])
        )
        body = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape.replace('10**9', '1000000000')}, }}".ljust(
            117
        )
        data = b"\x93NUMPY\x01\x00v\x00" + body.encode() + b"\n" + data[128:]
    return data


@pytest.mark.parametrize("kind", ["train", "permuted"])
def test_any_archive_of_indices(search: Any, attempt: Any, reconcile: Any, kind: str) -> None:
    from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

    def case(draw: Draw) -> None:
        def change(run: Path) -> None:
            with np.load(run / "indices.npz") as archive:
                parts = dict(archive)
            members = {f"{name}.npy": draw(arrays(part)) for name, part in parts.items() if draw(st.booleans())}
            with ZipFile(run / "indices.npz", "w", draw(st.sampled_from([ZIP_STORED, ZIP_DEFLATED]))) as archive:
                for name in draw(st.permutations(sorted(parts))):
                    out = BytesIO()
                    np.save(out, parts[name])
                    archive.writestr(f"{name}.npy", members.get(f"{name}.npy", out.getvalue()))
                if draw(st.booleans()):
                    archive.writestr(draw(st.sampled_from(["../x.npy", "x", "a/b.npy", "x\0.npy"])), b"x")
            reconcile(draw, run)

        attempt(draw, kind, change)

    search(0.02, case)


def test_any_permutation_that_a_run_records(search: Any, attempt: Any, reconcile: Any) -> None:
    """S follows it, and what is recorded of S."""

    def case(draw: Draw) -> None:
        def change(run: Path) -> None:
            with np.load(run / "indices.npz") as archive:
                parts = dict(archive)
            order = parts["permutation"].copy()
            action = draw(st.sampled_from(["swap", "repeat", "outside", "cut", "extend", "all", "reverse"]))
            places = draw(st.lists(st.integers(0, len(order) - 1), min_size=2, max_size=2))
            if action == "swap":
                order[places] = order[places[::-1]]
            elif action == "repeat":
                order[places[0]] = order[places[1]]
            elif action == "outside":
                order[places[0]] = draw(st.sampled_from([-1, 300, 2**62, -(2**63)]))
            elif action == "cut":
                order = order[: draw(st.sampled_from([0, 1, 240, 299]))]
            elif action == "extend":
                order = np.concatenate([order, order[: places[0]]])
            elif action == "all":
                order[:] = order[places[0]]
            else:
                order = order[::-1]
            parts["permutation"] = order
            if draw(st.booleans()):
                parts["bound"] = order[:240]
            np.savez(run / "indices.npz", **parts)
            reconcile(draw, run)

        attempt(draw, "permuted", change)

    search(0.02, case)
