"""Settings and data of every kind but the right one: refused with a reason, or taken for what they are."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from hashlib import md5
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import pytest
import yaml
from hypothesis import strategies as st
from PIL import Image

from pactl_cli.data.files.checked_files import read_checked
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.progress import unheard
from pactl_cli.data.folders import load_folder
from pactl_cli.data.given_arrays import load_npz
from pactl_cli.data.published import idx_files
from pactl_cli.data.reading import Reading
from pactl_cli.data.splits import load_indices
from pactl_cli.data.streaming import FileExamples
from pactl_cli.errors import PactlError
from pactl_cli.runs.config_file import parse_config
from pactl_cli.runs.fields import Settings
from pactl_cli.runs.kinds import KINDS
from pactl_cli.runs.settings import BoundSettings

Draw = Callable[[Any], Any]
MODELS: dict[str, type[Settings]] = {**{name: kind.settings for name, kind in KINDS.items()}, "bound": BoundSettings}


def refused(action: Callable[[], Any]) -> Any:
    """What an action gives, or None if it complains as it should: in one line that is not too long."""
    try:
        return action()
    except PactlError as error:
        complaint = error
    assert complaint.exit_code in (1, 2)
    assert complaint.one_line().isprintable()
    assert len(complaint.one_line()) < 1500
    return None


# --- Settings ---------------------------------------------------------------------------------------------------------


def valid(model: type[Settings]) -> dict[str, Any]:
    """Values that every setting takes."""
    words = {"dataset": "digits", "model_name": "fc", "intrinsic_mode": "dense", "optimizer": "sgd_cos"}
    words |= {"device": "cpu", "codebook": "bins", "levels": "3,5", "precision": "bf16", "num_workers": "auto"}
    return {name: words.get(name, field.default) for name, field in model.model_fields.items()}


@pytest.mark.parametrize("kind", MODELS)
def test_any_value_of_any_setting(search: Any, fuzz: Any, kind: str) -> None:
    """Either all that is wrong is named at once, or the settings are the same after a way through a file."""
    model, good = MODELS[kind], valid(MODELS[kind])

    def case(draw: Draw) -> None:
        given = {name: good[name] for name in draw(st.sets(st.sampled_from(sorted(good)), max_size=4))}
        given |= draw(st.dictionaries(st.sampled_from([*good, "delta", "x\x1b", ""]), fuzz.values, max_size=3))
        with fuzz.watched():
            settings = refused(lambda: model.parse(given))
        if settings is not None:
            kept = settings.model_fields_set if model is BoundSettings else model.model_fields  # the former has no file
            plain = {name: value for name, value in settings.as_dict().items() if name in kept}
            written = yaml.safe_dump(plain, sort_keys=False).encode()
            assert model.parse(parse_config(written, Path("mine.yml"))) == settings

    search(0.03, case)


@pytest.mark.parametrize("kind", KINDS)
def test_any_file_of_settings(search: Any, fuzz: Any, tmp_path: Path, kind: str) -> None:
    """What `--config` takes, `--print-config` prints, and takes again."""
    good, words = valid(KINDS[kind].settings), (kind, *(("digits",) if kind == "transfer" else ()))
    good.pop("source", None)

    def case(draw: Draw) -> None:
        document = dict(good)
        marks = draw(fuzz.changed(document, fuzz.tagged))
        text = fuzz.marked(yaml.safe_dump(document, allow_unicode=True), marks)
        (tmp_path / "mine.yml").write_bytes(draw(fuzz.spoilt(text)) if draw(st.booleans()) else text)
        done = fuzz.call(*words, "--config", "mine.yml", "--print-config")
        if not done.code:
            (tmp_path / "again.yml").write_text(done.out, "utf-8")
            assert fuzz.call(*words, "--config", "again.yml", "--print-config").out == done.out

    search(0.02, case)


# --- Arrays -----------------------------------------------------------------------------------------------------------

HEADERS = (
    *(
        "(1000000000,)",
        "(300, 8, 99999999)",
        "(9999999999999,)",
        "(-1,)",
        "(4611686018427387904, 4)",
        "()",
        "[3]",
        "(((",
    ),
    *("(0, 8, 8)", "(300, 0, 8)", "(1, 300, 8, 8)", "(19200,)", "(300.0,)", "(True, 8)", "(" * 60, "(None,)"),
)
TYPES = ("O", "U3", "S1", "?", "i1", "u8", ">i8", "f2", "f8", ">f4", "c8", "M8[s]", "m8", "V4", "f4", "u1", "i4,f4")


@st.composite
def npy(draw: Any, array: Any) -> bytes:
    """An `.npy` file that has something of an array."""
    action = draw(st.sampled_from(["as it is", "type", "shape", "value", "header"]))
    if action == "type":
        array = array.astype(np.float64).astype(draw(st.sampled_from(["O", "?", "i1", "u8", "f2", "c8", "U5", "f4"])))
    elif action == "shape":
        shapes = [
            (),
            (0,),
            (300,),
            (300, 64),
            (300, 8, 8, 1),
            (300, 1, 8, 8),
            (300, 3, 8, 8),
            (2, 2, 2, 2, 2),
            (299, 8),
        ]
        array = np.resize(array, draw(st.sampled_from(shapes)))
    elif action == "value" and array.size:
        array = array.astype(draw(st.sampled_from([np.float32, np.float64, np.int64, array.dtype])))
        with np.errstate(all="ignore"):
            value = np.float64(draw(st.sampled_from([-1.0, 1e300, np.nan, np.inf, 2.0**62, 99_999.0, 0.0])))
            array.flat[draw(st.integers(0, array.size - 1))] = value if array.dtype.kind == "f" else np.int64(2**40)
    out = BytesIO()
    np.save(out, array, allow_pickle=True)
    data = out.getvalue()
    if action == "header":
        shape, kind = draw(st.sampled_from(HEADERS)), draw(st.sampled_from(TYPES))
        body = f"{{'descr': '{kind}', 'fortran_order': {draw(st.booleans())}, 'shape': {shape}, }}".ljust(245).encode()
        data = b"\x93NUMPY\x01\x00" + (len(body) + 1).to_bytes(2, "little") + body + b"\n" + data[128:]
    return data


def require_dataset(dataset: Any) -> None:
    """Whatever is loaded can be counted on."""
    for part in (dataset.train, dataset.test):
        if part is not None:
            assert part.spec.kind in ("image", "features", "tokens")
            assert len(part) == len(part.labels) > 0
            read = (
                refused(part.resident) if isinstance(part, FileExamples) else part
            )  # a file is decoded when it is wanted
            if read is not None:
                assert len(part) == len(read.inputs)
                assert read.inputs.numel()
                assert read.inputs.isfinite().all()
            assert part.labels.dtype.is_signed
            assert 0 <= part.labels.min() <= part.labels.max() < dataset.classes


def test_any_archive_of_arrays(search: Any, fuzz: Any, tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = tmp_path / "bad.npz"

    def case(draw: Draw) -> None:
        names = draw(st.sets(st.sampled_from(sorted(arrays)), min_size=1, max_size=2))
        with ZipFile(path, "w", draw(st.sampled_from([ZIP_STORED, ZIP_DEFLATED]))) as archive:
            for name, array in arrays.items():
                out = BytesIO()
                np.save(out, array)
                archive.writestr(f"{name}.npy", draw(npy(array)) if name in names else out.getvalue())
        if draw(st.booleans()):
            path.write_bytes(draw(fuzz.spoilt(path.read_bytes())))
        with fuzz.watched():
            dataset = refused(lambda: load_npz(f"npz:{path}", DataDirectory(tmp_path), unheard, reading=Reading()))
        if dataset is not None:
            require_dataset(dataset)

    search(0.05, case)


def test_any_permutation(search: Any, fuzz: Any, tmp_path: Path) -> None:
    path, order = tmp_path / "order.npy", np.random.default_rng(0).permutation(300)

    def case(draw: Draw) -> None:
        data = draw(npy(order))
        path.write_bytes(draw(fuzz.spoilt(data)) if draw(st.booleans()) else data)
        with fuzz.watched():
            indices = refused(lambda: load_indices(path, 300))
        if indices is not None:
            assert indices.dtype == np.int64
            assert sorted(indices.tolist()) == list(range(300))

    search(0.02, case)


# --- Files of images --------------------------------------------------------------------------------------------------


def test_any_idx_file(search: Any, fuzz: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Fashion-MNIST, in which only a file's own form can tell: a smaller one stands for it."""
    names = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    headers = dict(zip(names, [(0x803, 6, 4, 4), (0x801, 6), (0x803, 5, 4, 4), (0x801, 5)], strict=True))
    monkeypatch.setattr(idx_files, "FASHION_HEADERS", headers)
    good = {
        name: b"".join(number.to_bytes(4, "big") for number in header) + bytes(i % 10 for i in range(prod(header[1:])))
        for name, header in headers.items()
    }

    def case(draw: Draw) -> None:
        bad = draw(st.sampled_from(names))
        for name, data in good.items():
            (tmp_path / name).write_bytes(draw(fuzz.spoilt(data)) if name == bad else data)
        archive = tmp_path / f"{bad}.gz"
        archive.unlink(missing_ok=True)
        packed = gzip.compress(good[bad])
        checksum = md5(packed).hexdigest()
        has_archive = draw(st.booleans())
        if has_archive:
            archive.write_bytes(draw(fuzz.spoilt(packed)) if draw(st.booleans()) else packed)

        def read() -> Any:
            files = {name: read_checked(tmp_path / name, "", "") for name in names}
            for name, file in files.items():
                idx_files._check_idx(file, name, checksum)
            return idx_files._dataset("fmnist", files)

        with fuzz.watched():
            dataset = refused(read)
        if dataset is not None:
            require_dataset(dataset)
            assert len(dataset.train) == 6
            assert not has_archive or (tmp_path / bad).read_bytes() == good[bad]

    search(0.02, case)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of small pictures in many formats."""
    place = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0).integers(0, 256, (6, 6), dtype=np.uint8)
    for name in ("cat", "dog"):
        (place / "train" / name).mkdir(parents=True)
        for suffix in ("png", "jpg", "bmp", "ppm", "pgm", "tif", "webp"):
            Image.fromarray(noise).convert("RGB" if suffix == "ppm" else "L").save(
                place / "train" / name / f"0.{suffix}"
            )
    return place


def test_any_picture(search: Any, fuzz: Any, tmp_path: Path, pictures: Path) -> None:
    place = tmp_path / "pictures"
    shutil.copytree(pictures, place)
    good = {path: path.read_bytes() for path in sorted(place.rglob("*.*"))}

    def case(draw: Draw) -> None:
        path = draw(st.sampled_from(list(good)))
        data = draw(fuzz.spoilt(good[path]))
        if path.suffix == ".png" and draw(st.booleans()):
            data = enlarged(good[path], *(draw(st.sampled_from([0, 6, 7, 10_000, 2**31 - 1])) for _ in range(2)))
        path.write_bytes(data)
        try:
            with fuzz.watched():
                cache = DataDirectory(tmp_path / "cache")
                dataset = refused(lambda: load_folder(f"folder:{place}", cache, unheard, reading=Reading()))
        finally:
            path.write_bytes(good[path])
        if dataset is not None:
            require_dataset(dataset)

    search(0.03, case)


def enlarged(png: bytes, width: int, height: int) -> bytes:
    """A picture whose header says that it is of another size; its checksum is right."""
    from zlib import crc32

    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + png[24:29]
    return png[:12] + header + crc32(header).to_bytes(4, "big") + png[33:]
