"""ImageNet: its image files, or, if only the archives are there, as torchvision unpacks them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image
from torchvision.datasets import imagenet as torchvisions

from pactl_cli import catalogue
from pactl_cli.data.files.decoding import Frame
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.reading import Reading
from pactl_cli.errors import PactlError
from pactl_cli.models.inputs import InputSpec

pytestmark = pytest.mark.usefixtures("_warm_workers")

WNIDS = ("n01440764", "n02123045")


def jpeg(number: int) -> bytes:
    """Return a photograph of noise, whose size depends on the number."""
    random = np.random.default_rng(number)
    out = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (30 + number, 40, 3), dtype=np.uint8)).save(out, "jpeg")
    return out.getvalue()


def write(place: Path, train: int = 3, val: int = 2) -> None:
    """Write a tree of two classes."""
    for part, count in (("train", train), ("val", val)):
        for label, wnid in enumerate(WNIDS):
            (place / "imagenet" / part / wnid).mkdir(parents=True)
            for number in range(count):
                path = place / "imagenet" / part / wnid / f"{wnid}_{number}.JPEG"
                path.write_bytes(jpeg(100 * label + number + 10 * (part == "val")))


def test_images_as_they_lie_there(tmp_path: Path) -> None:
    write(tmp_path)
    data = load_dataset("imagenet", tmp_path).with_workers(0)
    assert (data.classes, data.spec, len(data.train)) == (2, InputSpec.image(3, 224, 224), 6)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test is not None
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.train.resident().images.shape == (6, 3, 224, 224)


def test_another_size_takes_the_place_of_the_frame(tmp_path: Path) -> None:
    write(tmp_path)
    plain: Any = load_dataset("imagenet", tmp_path)
    sized: Any = load_dataset("imagenet", tmp_path, reading=Reading(image_size=16))
    frame = Frame.square(3, 16)
    expected = [frame.fit(Image.open(io.BytesIO(jpeg(100 * label + n)))) for label in (0, 1) for n in range(3)]
    np.testing.assert_array_equal(sized.train.images.permute(0, 2, 3, 1).numpy(), np.stack(expected))
    assert (sized.train.labels.tolist(), len(sized.test)) == (plain.train.labels.tolist(), 4)


def test_the_catalogue_knows_it() -> None:
    entry = catalogue.dataset_entry("imagenet")
    assert entry.train_examples == 1_281_167
    assert entry.published == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: root.rename(root.with_name("other")), "imagenet is not in"),
        (lambda root: (root / "train").rename(root / "other"), "imagenet is not in"),
        (lambda root: (root / "val" / WNIDS[0]).rename(root / "val" / "n0"), "classes that the training set lacks: n0"),
        (lambda root: [path.unlink() for path in (root / "train" / WNIDS[1]).iterdir()], WNIDS[1]),
        (lambda root: (root / "train" / WNIDS[1]).rename(root / "other"), "single class"),
    ],
)
def test_what_is_no_imagenet_says_how_to_get_it(tmp_path: Path, spoil: Callable[[Path], Any], says: str) -> None:
    write(tmp_path)
    spoil(tmp_path / "imagenet")
    with pytest.raises(PactlError, match=says) as caught:
        load_dataset("imagenet", tmp_path)
    for word in ("image-net.org", "ILSVRC2012_img_train.tar", "train/WNID", "--data-dir"):
        assert word in caught.value.hint


# --- Archives ---------------------------------------------------------------------------------------------------------


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def tar(members: dict[str, bytes], mode: Any = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in members.items():
            add(archive, name, content)
    return out.getvalue()


def devkit() -> bytes:
    """Return a development kit with the files that torchvision reads. Only the second image is of the first class."""
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [(number + 1, wnid, f"word {wnid}", "", 0) for number, wnid in enumerate(WNIDS)]
    meta: Any = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": np.array(rows, dtype=kinds)})
    place = "ILSVRC2012_devkit_t12/data"
    truth = b"2\n1\n2\n"
    return tar({f"{place}/meta.mat": meta.getvalue(), f"{place}/ILSVRC2012_validation_ground_truth.txt": truth}, "w:gz")


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with three small archives, their checksums as torchvision expects them."""
    root = tmp_path / "data" / "imagenet"
    root.mkdir(parents=True)
    train = {f"{wnid}.tar": tar({f"{wnid}_{i}.JPEG": jpeg(i) for i in range(2)}) for wnid in WNIDS}
    contents = {
        "devkit": devkit(),
        "train": tar(train),
        "val": tar({f"ILSVRC2012_val_{i}.JPEG": jpeg(50 + i) for i in range(3)}),
    }
    for part, content in contents.items():
        name = torchvisions.ARCHIVE_META[part][0]
        (root / name).write_bytes(content)
        monkeypatch.setitem(torchvisions.ARCHIVE_META, part, (name, md5(content).hexdigest()))
    return tmp_path / "data"


def test_archives_are_unpacked_once(archives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset("imagenet", archives)
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.test is not None
    assert data.test.labels.tolist() == [0, 1, 1]
    second = archives / "imagenet" / "val" / WNIDS[0] / "ILSVRC2012_val_1.JPEG"
    assert second.read_bytes() == jpeg(51)
    assert {path.name for path in (archives / "imagenet").iterdir()} == {
        *("train", "val"),
        *(name for name, _ in torchvisions.ARCHIVE_META.values()),
    }
    monkeypatch.setattr(torchvisions, "ImageNet", None)
    assert load_dataset("imagenet", archives).train.sha256() == data.train.sha256()


@pytest.mark.parametrize("part", ["devkit", "train", "val"])
@pytest.mark.parametrize("change", [lambda data: data[:-600], lambda data: None])
def test_archives_that_are_truncated_or_missing_leave_nothing(
    archives: Path, part: str, change: Callable[[bytes], bytes | None]
) -> None:
    path = archives / "imagenet" / torchvisions.ARCHIVE_META[part][0]
    content = change(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    if part == "val" and content is None:
        assert load_dataset("imagenet", archives).test is None
        return
    with pytest.raises(PactlError, match="imagenet") as caught:
        load_dataset("imagenet", archives)
    assert "--data-dir" in caught.value.hint
    whole = {"val": ["train"]}.get(part, [])
    assert [place.name for place in (archives / "imagenet").iterdir() if place.is_dir()] == whole
