"""The run directory, through which subcommands pass on their results.

Every file is written whole or not at all: under a temporary name in the same directory, flushed to the disk, renamed.
`manifest.json` calls a stage `complete` once all its files are, and has their sha256. A killed run stays `running`.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import reprlib
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from hashlib import file_digest
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pactl_cli import __version__
from pactl_cli.data.files.arrays import stored_arrays
from pactl_cli.errors import BAD_INPUT, FAILED, MissingError, PactlError, not_written, reason, shell_command
from pactl_cli.runs.config_file import config_text, read_plain_config
from pactl_cli.runs.finishing import finishing
from pactl_cli.runs.kinds import KINDS
from pactl_cli.runs.metrics import whole_lines
from pactl_cli.runs.plain_files import bytes_on_disk, has_holes, open_plain_file, read_plain_file
from pactl_cli.runs.settings import TrainSettings

MANIFEST = "manifest.json"
CONFIG = "config.yml"
INIT = "init.safetensors"
CHECKPOINT = "checkpoint.safetensors"
INDICES = "indices.npz"
METRICS = "metrics.jsonl"
MESSAGE = "message.bin"
CLASSIFIER = "classifier.safetensors"
CERTIFICATE = "bound.json"
RESUME = "resume"
FILES = (MANIFEST, CONFIG, INIT, CHECKPOINT, INDICES, METRICS, MESSAGE, CLASSIFIER, CERTIFICATE)

_RESUMED = ("state.safetensors", "source.safetensors", "beginning.safetensors")

SCHEMA_VERSION = 3
_LARGEST_TEXT = 1 << 26
_LARGEST_MANIFEST = 1 << 20
_LARGEST_ARRAYS = 1 << 32
LARGEST_TENSORS = 1 << 36
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn")


def _known_kind(name: str) -> str:
    if name not in KINDS:
        raise ValueError(f"must be one of {', '.join(KINDS)}")
    return name


class Manifest(BaseModel):
    """The content of `manifest.json`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    schema_version: int = Field(default=SCHEMA_VERSION, ge=SCHEMA_VERSION, le=SCHEMA_VERSION)
    kind: Annotated[str, AfterValidator(_known_kind)]
    parent: str | None = None
    stages: dict[str, Literal["running", "complete"]] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    data_sha256: str | None = None
    train_sha256: str | None = None
    test_sha256: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    device: str = ""


class RunDirectory:
    """The directory of one run: `open` an existing one, or `create` one."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def create(cls, path: Path, kind: str, *, force: bool = False) -> RunDirectory:
        """Return a new, empty run directory, its stage `kind` marked as running.

        Raises:
            PactlError: if the place is not empty and `force` is not given, not a directory, or not writable.
        """
        try:
            require_free(path, force=force, ways="--resume or --force")
            path.mkdir(parents=True, exist_ok=True)
            require_writable(path, "--out ")
            run = cls(path, Manifest(kind=kind, versions=package_versions()))
            run.set_stage(kind, "running")
            run.clear()
        except OSError as error:
            raise not_written(f"--out {path}", error, BAD_INPUT) from error
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Return an existing run directory.

        Raises:
            PactlError: if it is no run directory, or another version of pactl wrote it.
        """
        hint = "name a directory that pactl train printed"
        try:
            if not path.is_dir():
                raise MissingError(f"{path} is not a run directory: there is no such directory", hint)
            if (path / RESUME).is_symlink():
                raise PactlError(f"{path / RESUME} is a link, not a folder of the run's own", "remove it")
            data = read_plain_file(path / MANIFEST, _LARGEST_MANIFEST)
            content = json.loads(data, object_pairs_hook=_each_once)
        except FileNotFoundError as error:
            raise MissingError(f"{path} is not a run directory: it has no {MANIFEST}", hint) from error
        except (OSError, ValueError, RecursionError) as error:
            raise PactlError(f"{path / MANIFEST} cannot be read: {reason(error)}", hint) from error
        schema = content.get("schema_version") if isinstance(content, dict) else None
        require_schema(path, schema, SCHEMA_VERSION)
        try:
            manifest = Manifest.model_validate_json(data)  # unlike json.loads, it takes no half of a surrogate pair
            if odd := manifest.files.keys() - set(FILES):
                raise PactlError(f"{path / MANIFEST} is altered: it vouches for {reprlib.repr(min(odd))}", hint)
            return cls(path, manifest)
        except ValidationError as error:
            first = error.errors()[0]
            found = f"{'.'.join(map(str, first['loc']))} {reprlib.repr(first['input'])}"
            raise PactlError(f"{path / MANIFEST} is altered: {found}: {first['msg']}", hint) from error

    def require_complete(self, stage: str, but: Collection[str] = ()) -> None:
        """Raise PactlError unless a stage is complete and no finished file is altered, except for those in `but`."""
        state = self.manifest.stages.get(stage)
        if state != "complete":
            begun = stage == self.manifest.kind
            raise PactlError(
                f"{self.path} is incomplete: its stage {stage} is {state or 'missing'}",
                finishing(self.path, stage, self.read_settings) if begun else f"run {shell_command(stage, self.path)}",
            )
        if altered := [path for path in self.altered() if path.name not in but]:
            raise PactlError(f"{altered[0]} is truncated, altered or missing", "run the stage again")

    def size_bytes(self) -> int:
        """Return the bytes that all its files take on the disk; holes do not count."""
        files = (self.path / name for name in FILES)
        return sum(bytes_on_disk(os.lstat(file)) for file in files if os.path.lexists(file))

    def is_complete(self) -> bool:
        """Return whether training is complete."""
        return self.manifest.stages.get(self.manifest.kind) == "complete"

    def altered(self) -> list[Path]:
        """Return the finished files that are not as the manifest says."""
        return [self.path / name for name, digest in self.manifest.files.items() if self.sha256_of(name) != digest]

    def sha256_of(self, name: str) -> str:
        """Return a file's sha256; "" if it is missing, no plain file, or larger than any that pactl writes."""
        try:
            with open_plain_file(self.path / Path(name).name) as file:
                status = os.fstat(file.fileno())
                if status.st_size > _largest(name) or has_holes(status):  # a petabyte of holes would take days to read
                    return ""
                return file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError):
            return ""

    def set_stage(self, stage: str, state: Literal["running", "complete"], files: tuple[str, ...] = ()) -> None:
        """Record a stage's state and the hashes of the files that it finished."""
        self.manifest.stages[stage] = state
        for name in files:
            self.manifest.files[name] = self.sha256_of(name)
        self.write_text(MANIFEST, self.manifest.model_dump_json(indent=2) + "\n")

    def restart_stage(self, stage: str, withdrawn: tuple[str, ...]) -> None:
        """Mark a stage as running again, and remove the files in `withdrawn` once the manifest does not name them."""
        for name in (*withdrawn, METRICS):
            self.manifest.files.pop(name, None)
        self.set_stage(stage, "running")
        for name in withdrawn:
            self.remove(name)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file atomically.

        Raises:
            PactlError: if the disk refuses.
        """
        target = self.path / name
        try:
            target.parent.mkdir(exist_ok=True)
            replace_file(target, data)
        except OSError as error:
            raise PactlError(f"{target} cannot be written: {error.strerror}", exit_code=FAILED) from error

    def write_text(self, name: str, text: str) -> None:
        """Write a UTF-8 file atomically."""
        self.write_bytes(name, text.encode())

    def write_config(self, settings: dict[str, Any]) -> None:
        """Write `config.yml`."""
        self.write_text(CONFIG, config_text(settings))

    def read_config(self) -> dict[str, Any]:
        """Return the settings of `config.yml`, unchecked."""
        return read_plain_config(self.path / CONFIG)

    def read_settings(self) -> TrainSettings:
        """Return the settings of `config.yml`, in the model of the run's kind.

        Raises:
            PactlError: if the file holds something else.
        """
        return KINDS[self.manifest.kind].settings.parse(self.read_config())

    def read_bytes(self, name: str, limit: int = _LARGEST_TEXT) -> bytes:
        """Return a file's bytes.

        Raises:
            PactlError: if it is missing, unreadable, no plain file or larger than `limit`.
        """
        try:
            return read_plain_file(self.path / name, limit)
        except (OSError, ValueError) as error:
            raise PactlError(f"{self.path / name} cannot be read: {reason(error)}") from error

    def write_arrays(self, name: str, arrays: dict[str, NDArray[np.int64]]) -> None:
        """Write integer arrays as one `.npz` file."""
        buffer = BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        self.write_bytes(name, buffer.getvalue())

    def read_arrays(self, name: str) -> dict[str, NDArray[np.int64]]:
        """Return the integer arrays of an uncompressed `.npz` file, as `write_arrays` writes it.

        Raises:
            PactlError: if it is missing, unreadable or holds something else.
        """
        try:
            with open_plain_file(self.path / name) as file:
                status = os.fstat(file.fileno())
                if has_holes(status) or status.st_size > _LARGEST_ARRAYS:
                    raise ValueError("it has holes, or is larger than any that pactl writes")
                arrays = stored_arrays(file, self.path / name)
        except FileNotFoundError as error:
            raise PactlError(f"{self.path / name} is missing") from error
        except (OSError, ValueError) as error:
            raise PactlError(f"{self.path / name} cannot be read: {reason(error)}") from error
        if any(array.dtype != np.int64 or array.ndim != 1 for array in arrays.values()):
            raise PactlError(f"{self.path / name} does not hold indices")
        return arrays

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add one line to `metrics.jsonl`.

        Raises:
            PactlError: with exit code 1 if the disk refuses.
        """
        try:
            with (self.path / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise PactlError(f"{self.path / METRICS} cannot be written: {error.strerror}", exit_code=FAILED) from error

    def keep_metrics(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Remove the lines of `metrics.jsonl` for which `keep(record)` is false, and one that a kill has cut short."""
        if not os.path.lexists(self.path / METRICS):
            return
        lines = whole_lines(self.read_bytes(METRICS))
        self.write_bytes(METRICS, b"".join(line for line, record in lines if keep(record)))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the records of `metrics.jsonl`; [] if there is no such file."""
        if not os.path.lexists(self.path / METRICS):
            return []
        return [record for _, record in whole_lines(self.read_bytes(METRICS))]

    def clear(self) -> None:
        """Remove every file but the manifest."""
        for name in FILES[1:]:
            self.remove(name)
        self.remove_resume()
        self.sweep()

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove temporary files that a kill in the middle of a write has left."""
        for folder in (self.path, self.path / RESUME):
            for file in folder.glob(".*"):
                if _is_temporary(file):
                    file.unlink(missing_ok=True)

    def remove_resume(self) -> None:
        """Remove the state that only `--resume` needs."""
        folder = self.path / RESUME
        if folder.is_symlink():  # its target is not ours
            folder.unlink()
        elif folder.is_dir():
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()


def require_schema(path: Path, schema: Any, own: int) -> None:
    """Raise PactlError, naming the version that reads it, if a file's schema is not our `own`."""
    if type(schema) is not int or schema < 1 or schema == own:
        return  # the file's own check reports anything but a positive number
    if schema > own:
        raise PactlError(f"{path} was written by a newer version of pactl", "upgrade pactl")
    if schema == 1:
        raise PactlError(f"{path} was written by pactl 0.1.0, and only that version reads it", "or train again")
    raise PactlError(f"{path} was written by a development version before 0.2.0, which alone reads it", "train again")


def replace_file(target: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file whole or not at all: a temporary file in the same directory is flushed to the disk and renamed."""
    with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            for piece in [data] if isinstance(data, bytes) else data:
                file.write(piece)
            file.flush()
            _sync(file.fileno())
            with suppress(OSError):  # a file system may have no modes, such as that of a Windows drive
                os.chmod(file.name, 0o644)
            os.replace(file.name, target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _sync(descriptor: int) -> None:
    """Flush a file to the disk, if the file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _largest(name: str) -> int:
    """Return the size in bytes of the largest file of that name that pactl writes."""
    return {".npz": _LARGEST_ARRAYS, ".safetensors": LARGEST_TENSORS}.get(Path(name).suffix, _LARGEST_TEXT)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; raise ValueError if one of its keys occurs twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key occurs twice")
    return content


def _is_temporary(path: Path) -> bool:
    """Return whether a path is a temporary file of `replace_file`."""
    return any(path.name.startswith(f".{name}.") for name in (*FILES, *_RESUMED))


def is_vacant(path: Path) -> bool:
    """Return whether a place is absent, empty, or has only temporary files that a kill has left."""
    try:
        return not path.exists() or all(map(_is_temporary, path.iterdir()))
    except OSError as error:
        raise PactlError(f"--out {path} cannot be read: {error.strerror}", "choose another place") from error


def require_free(path: Path, *, force: bool, ways: str) -> None:
    """Raise PactlError unless nothing is at `--out`, or, with `force`, another run; `ways` are the user's options."""
    if path.exists() and not path.is_dir():
        raise PactlError(f"--out {path} is not a directory", "choose another place")
    if not is_vacant(path):
        if not force:
            raise PactlError(f"--out {path} is not empty", f"choose another place, or give {ways}")
        if not (path / MANIFEST).exists():
            raise PactlError(f"--out {path} holds something that is no run", "--force replaces only a run")


def require_writable(path: Path, option: str = "") -> None:
    """Raise PactlError unless files can be created in a directory."""
    try:
        TemporaryFile(dir=path).close()
    except OSError as error:
        raise not_written(f"{option}{path}", error, BAD_INPUT) from error


def package_versions() -> dict[str, str]:
    """Return the versions of this program, of Python and of the packages that results may depend on, by name."""
    packages = {name: version(name) for name in _PACKAGES}
    return {"pactl": __version__, "python": platform.python_version(), **packages}
