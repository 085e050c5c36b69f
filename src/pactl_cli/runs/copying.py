"""Copies of runs without their certificates, and checks that output replaces nothing of a run."""

from __future__ import annotations

from pathlib import Path

from pactl_cli.errors import FAILED, PactlError, reason
from pactl_cli.runs.directory import (
    CHECKPOINT,
    CONFIG,
    FILES,
    INDICES,
    INIT,
    METRICS,
    RunDirectory,
    replace_file,
    require_free,
    require_writable,
)
from pactl_cli.runs.plain_files import open_plain_file

_COPIED = (CONFIG, INIT, CHECKPOINT, INDICES)


def require_place(source: Path, place: Path, *, force: bool) -> None:
    """Raise PactlError unless a copy of a run can be made at a place."""
    inside, outside = place.resolve(), source.resolve()
    if inside == outside or outside in inside.parents:
        raise PactlError(f"--out {place} lies in {source}, which stays as it is", "choose another place")
    require_free(place, force=force, ways="--force")
    require_writable(next(folder for folder in (inside, *inside.parents) if folder.is_dir()), "--out ")


def require_other_file(path: Path, option: str) -> None:
    """Raise PactlError if an output file has the name of a directory, or of a file of a run."""
    if path.is_dir() or path.name in FILES:
        raise PactlError(f"{option} {path} is a directory, or has the name of a file of runs", "name another file")


def copy_run(source: RunDirectory, place: Path, *, force: bool) -> RunDirectory:
    """Copy a complete run without its certificate, and return the copy.

    Raises:
        PactlError: if the place is taken or cannot be written, or the files have changed since the run was opened.
    """
    kind, known = source.manifest.kind, source.manifest.files
    run = RunDirectory.create(place, kind, force=force)
    copied = tuple(name for name in _COPIED if name in known)
    for name in (*copied, METRICS) if METRICS in known else copied:
        _copy_file(source.path / name, run.path / name)
    if METRICS in known:
        run.keep_metrics(lambda record: record.get("stage") != "bound")
    run.manifest = source.manifest.model_copy(update={"stages": {}, "files": {}})
    run.set_stage(kind, "running", copied)
    if changed := [name for name in copied if run.manifest.files[name] != known[name]]:
        raise PactlError(f"{source.path / changed[0]} has changed meanwhile", "certify it again", FAILED)
    run.set_stage(kind, "complete", (METRICS,) if METRICS in known else ())
    return run


def _copy_file(source: Path, target: Path) -> None:
    """Copy a file of any size, whole or not at all."""
    try:
        with open_plain_file(source) as file:
            replace_file(target, iter(lambda: file.read(1 << 24), b""))
    except (OSError, ValueError) as error:
        raise PactlError(f"{source} cannot be copied to {target}: {reason(error)}", exit_code=FAILED) from error
