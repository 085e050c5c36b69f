"""ImageNet in torchvision's layout: 1.3 million photographs, streamed."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from pactl_cli.data.dataset import Dataset
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.decoding import Frame
from pactl_cli.data.files.image_listing import list_images
from pactl_cli.data.files.progress import Progress
from pactl_cli.data.streaming import streamed
from pactl_cli.errors import MissingError, PactlError

FRAME = Frame((3, 224, 224), shorter_side=256)

_DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
_ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}
_HINT = (
    "it cannot be downloaded freely: register at image-net.org, and put "
    f"{', '.join([_DEVKIT, *_ARCHIVES.values()])}, or their images as train/WNID/*.JPEG and val/WNID/*.JPEG, into a "
    "folder imagenet; then name the directory above it with --data-dir"
)


def load_imagenet(name: str, data_dir: DataDirectory, progress: Progress) -> Dataset:
    """Load the photographs in `imagenet/train/WNID/` and `imagenet/val/WNID/`. Unpack the archives if only they exist.

    Raises:
        MissingError: if there are none, or only archives and the data directory must not be written.
        PactlError: if the archives are truncated or altered.
    """
    root = data_dir.path / "imagenet"
    packed = [part for part, name in _ARCHIVES.items() if os.path.exists(root / name)]
    parts = [part for part in _ARCHIVES if part in packed or os.path.isdir(root / part)]
    if "train" not in parts:
        raise MissingError(f"imagenet is not in {data_dir.path}", _HINT)
    for part in parts:
        if not os.path.isdir(root / part):
            if not data_dir.may_write:
                raise MissingError(
                    f"imagenet is not unpacked in {root / part}, and this command unpacks nothing",
                    "name the directory that has it with --data-dir, or unpack it with pactl train --dataset imagenet",
                )
            _unpack(root, part)
    try:
        folders = {"train": list_images(root / "train")}
        classes = folders["train"].classes
        if "val" in parts and len(classes) > 1:
            folders["val"] = list_images(root / "val", classes)
    except OSError as error:
        raise PactlError(f"imagenet: {error}", _HINT) from error
    if len(classes) < 2:
        raise PactlError(f"imagenet: {root / 'train'} has a single class", _HINT)
    examples = {part: streamed(folder.samples, FRAME) for part, folder in folders.items()}
    return Dataset(name, len(classes), examples["train"], examples.get("val"))


def _unpack(root: Path, part: str) -> None:
    """Let torchvision check and unpack one part into a scratch directory, and move it into place."""
    from torchvision.datasets import ImageNet

    try:
        with TemporaryDirectory(prefix="pactl-unpack-", dir=root) as scratch:
            for archive in (_DEVKIT, *_ARCHIVES.values()):
                (Path(scratch) / archive).symlink_to(root.resolve() / archive)
            ImageNet(scratch, part)
            (Path(scratch) / part).rename(root / part)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise PactlError(f"imagenet: {root / _ARCHIVES[part]} cannot be unpacked: {reason}", _HINT) from error
