"""The run directory: the only thing that passes between subcommands.

Every file is written whole or not at all: to a temporary name in the same directory,
flushed to the disk, renamed. A stage is `complete` in `manifest.json` only once all its
files are, with their sha256; a killed run leaves a directory that says `running`.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import reprlib
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from hashlib import sha256
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
from pactl_cli.errors import FAILED, MissingError, PactlError, reason, shell_command
from pactl_cli.runs.config_file import LARGEST, config_text, parse_config
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
    """`manifest.json`."""

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
    """A directory of one run. `open` an existing one, or `create` one."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def create(cls, path: Path, kind: str, *, force: bool = False) -> RunDirectory:
        """An empty run directory, its stage `kind` marked as running.

        Raises:
            PactlError: if the place is not empty and not `force`d, not a directory, or not writable.
        """
        try:
            if path.exists() and not path.is_dir():
                raise PactlError(f"--out {path} is not a directory", "choose another place")
            if not is_vacant(path):
                if not force:
                    raise PactlError(f"--out {path} is not empty", "choose another place, or give --resume or --force")
                if not (path / MANIFEST).exists():
                    raise PactlError(f"--out {path} holds something that is no run", "--force replaces only a run")
            path.mkdir(parents=True, exist_ok=True)
            require_writable(path, "--out ")
            run = cls(path, Manifest(kind=kind, versions=package_versions()))
            run.set_stage(kind, "running")
            run.clear()
        except OSError as error:
            raise PactlError(f"--out {path} cannot be written: {error.strerror}", "choose another place") from error
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run directory.

        Raises:
            PactlError: if it is none, or was written by a newer version.
        """
        hint = "name a directory that pactl train printed"
        try:
            if not path.is_dir():
                raise MissingError(f"{path} is not a run directory: there is no such directory", hint)
            if (path / RESUME).is_symlink():
                raise PactlError(f"{path / RESUME} is a link, and what it leads to is not the run's", "remove it")
            data = read_plain_file(path / MANIFEST, _LARGEST_MANIFEST)
            content = json.loads(data, object_pairs_hook=_each_once)
        except FileNotFoundError as error:
            raise MissingError(f"{path} is not a run directory: it has no {MANIFEST}", hint) from error
        except (OSError, ValueError, RecursionError) as error:
            raise PactlError(f"{path / MANIFEST} cannot be read: {reason(error)}", hint) from error
        schema = content.get("schema_version") if isinstance(content, dict) else None
        require_schema(path, schema, SCHEMA_VERSION)
        try:
            manifest = Manifest.model_validate(content)
            if odd := manifest.files.keys() - set(FILES):
                raise PactlError(f"{path / MANIFEST} is altered: it vouches for {reprlib.repr(min(odd))}", hint)
            return cls(path, manifest)
        except ValidationError as error:
            first = error.errors()[0]
            found = f"{'.'.join(map(str, first['loc']))} {reprlib.repr(first['input'])}"
            raise PactlError(f"{path / MANIFEST} is altered: {found}: {first['msg']}", hint) from error

    def require_complete(self, stage: str, but: Collection[str] = ()) -> None:
        """Raises PactlError unless the stage is complete and all files but some are as they were left."""
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
        """What its files together take on the disk, where holes count for nothing."""
        files = (self.path / name for name in FILES)
        return sum(bytes_on_disk(os.lstat(file)) for file in files if os.path.lexists(file))

    def is_complete(self) -> bool:
        """Whether training has ended."""
        return self.manifest.stages.get(self.manifest.kind) == "complete"

    def altered(self) -> list[Path]:
        """Finished files that are not as the manifest says."""
        return [self.path / name for name, digest in self.manifest.files.items() if self.sha256_of(name) != digest]

    def sha256_of(self, name: str) -> str:
        """A file's sha256; "" if it is missing, no plain file, or larger than any that pactl writes."""
        try:
            with open_plain_file(self.path / Path(name).name) as file:
                status = os.fstat(file.fileno())
                if status.st_size > _largest(name) or has_holes(status):  # a petabyte of them takes no space, but days
                    return ""
                digest = sha256()
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        except (OSError, ValueError):
            return ""
        return digest.hexdigest()

    def set_stage(self, stage: str, state: Literal["running", "complete"], files: tuple[str, ...] = ()) -> None:
        """Records a stage's state and the hashes of the files it finished."""
        self.manifest.stages[stage] = state
        for name in files:
            self.manifest.files[name] = self.sha256_of(name)
        self.write_text(MANIFEST, self.manifest.model_dump_json(indent=2) + "\n")

    def restart_stage(self, stage: str, withdrawn: tuple[str, ...]) -> None:
        """Marks a stage as running again: the manifest no longer vouches for its files, then those withdrawn go."""
        for name in (*withdrawn, METRICS):
            self.manifest.files.pop(name, None)
        self.set_stage(stage, "running")
        for name in withdrawn:
            self.remove(name)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes a file atomically.

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
        """Writes a UTF-8 file atomically."""
        self.write_bytes(name, text.encode())

    def write_config(self, settings: dict[str, Any]) -> None:
        """Writes `config.yml`."""
        self.write_text(CONFIG, config_text(settings))

    def read_config(self) -> dict[str, Any]:
        """The settings of `config.yml`, unchecked."""
        return parse_config(self.read_bytes(CONFIG, LARGEST), self.path / CONFIG)

    def read_settings(self) -> TrainSettings:
        """Return the settings of `config.yml`, which are of the run's kind.

        Raises:
            PactlError: if the file holds something else.
        """
        return KINDS[self.manifest.kind].settings.parse(self.read_config())

    def read_bytes(self, name: str, limit: int = _LARGEST_TEXT) -> bytes:
        """A file's bytes.

        Raises:
            PactlError: if it is missing, unreadable, no plain file or larger than `limit`.
        """
        try:
            return read_plain_file(self.path / name, limit)
        except (OSError, ValueError) as error:
            raise PactlError(f"{self.path / name} cannot be read: {reason(error)}") from error

    def write_arrays(self, name: str, arrays: dict[str, NDArray[np.int64]]) -> None:
        """Writes integer arrays as one `.npz` file."""
        buffer = BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        self.write_bytes(name, buffer.getvalue())

    def read_arrays(self, name: str) -> dict[str, NDArray[np.int64]]:
        """The integer arrays of an `.npz` file as `write_arrays` writes it: uncompressed, so no larger than the file.

        Raises:
            PactlError: if it is missing, unreadable or holds something else.
        """
        try:
            with open_plain_file(self.path / name) as file:
                if has_holes(os.fstat(file.fileno())):
                    raise ValueError("it has holes")
                if os.fstat(file.fileno()).st_size > _LARGEST_ARRAYS:
                    raise ValueError("it is larger than any that pactl writes")
                arrays = stored_arrays(file, self.path / name)
        except FileNotFoundError as error:
            raise PactlError(f"{self.path / name} is missing") from error
        except (OSError, ValueError) as error:
            raise PactlError(f"{self.path / name} cannot be read: {reason(error)}") from error
        if any(array.dtype != np.int64 or array.ndim != 1 for array in arrays.values()):
            raise PactlError(f"{self.path / name} does not hold indices")
        return arrays

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Adds one line to `metrics.jsonl`.

        Raises:
            PactlError: with exit code 1 if the disk refuses.
        """
        try:
            with (self.path / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise PactlError(f"{self.path / METRICS} cannot be written: {error.strerror}", exit_code=FAILED) from error

    def keep_metrics(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Drops the lines of `metrics.jsonl` for which `keep(record)` is false, and one that a kill has cut short."""
        if not os.path.lexists(self.path / METRICS):
            return
        lines = whole_lines(self.read_bytes(METRICS))
        self.write_bytes(METRICS, b"".join(line for line, record in lines if keep(record)))

    def read_metrics(self) -> list[dict[str, Any]]:
        """The records of `metrics.jsonl`; none where there is no such file."""
        if not os.path.lexists(self.path / METRICS):
            return []
        return [record for _, record in whole_lines(self.read_bytes(METRICS))]

    def clear(self) -> None:
        """Removes every file but the manifest."""
        for name in FILES[1:]:
            self.remove(name)
        self.remove_resume()
        self.sweep()

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Removes what a kill in the middle of a write has left."""
        for folder in (self.path, self.path / RESUME):
            for file in folder.glob(".*"):
                if _is_temporary(file):
                    file.unlink(missing_ok=True)

    def remove_resume(self) -> None:
        """Removes the state that only `--resume` needs."""
        folder = self.path / RESUME
        if folder.is_symlink():  # what it leads to is not ours
            folder.unlink()
        elif folder.is_dir():
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()


def require_schema(path: Path, schema: Any, own: int) -> None:
    """Raises PactlError, naming who reads it, if the number is that of an earlier or a later form of a file."""
    if type(schema) is not int or schema < 1 or schema == own:
        return
    if schema > own:
        raise PactlError(f"{path} was written by a newer version of pactl", "upgrade pactl")
    if schema == 1:
        raise PactlError(f"{path} was written by pactl 0.1.0, which is the version that reads it", "or train again")
    raise PactlError(f"{path} was written by a development version before 0.2.0, which alone reads it", "train again")


def replace_file(target: Path, data: bytes | Iterable[bytes]) -> None:
    """Writes a file whole or not at all: a temporary file in the same directory, flushed to the disk and renamed."""
    with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            for piece in [data] if isinstance(data, bytes) else data:
                file.write(piece)
            file.flush()
            _sync(file.fileno())
            with suppress(OSError):  # of a file system without modes, such as a Windows drive's
                os.chmod(file.name, 0o644)
            os.replace(file.name, target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _sync(descriptor: int) -> None:
    """Flushes a file to the disk, where the file system knows how to."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _largest(name: str) -> int:
    """The size in bytes of the largest file of that name that pactl writes."""
    return {".npz": _LARGEST_ARRAYS, ".safetensors": LARGEST_TENSORS}.get(Path(name).suffix, _LARGEST_TEXT)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, none of whose keys occurs twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key occurs twice")
    return content


def _is_temporary(path: Path) -> bool:
    """Whether a name is one that `write_bytes` writes under."""
    return any(path.name.startswith(f".{name}.") for name in (*FILES, *_RESUMED))


def is_vacant(path: Path) -> bool:
    """Whether a place is absent, empty, or has nothing but what a kill before the first write has left."""
    try:
        return not path.exists() or all(map(_is_temporary, path.iterdir()))
    except OSError as error:
        raise PactlError(f"--out {path} cannot be read: {error.strerror}", "choose another place") from error


def require_writable(path: Path, option: str = "") -> None:
    """Raises PactlError unless files can be made in a directory."""
    try:
        TemporaryFile(dir=path).close()
    except OSError as error:
        raise PactlError(f"{option}{path} cannot be written: {error.strerror}", "choose another place") from error


def package_versions() -> dict[str, str]:
    """Of this program, Python and what results may depend on, by name."""
    packages = {name: version(name) for name in _PACKAGES}
    return {"pactl": __version__, "python": platform.python_version(), **packages}
