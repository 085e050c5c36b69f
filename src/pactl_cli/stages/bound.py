"""`pactl bound`: open the runs, check that they are comparable, certify each."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.errors import PactlError, shell_command
from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Display
from pactl_cli.problem.problem import Problem
from pactl_cli.problem.reloading import reload_problem
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.claim import claimed
from pactl_cli.runs.copying import copy_run, require_place
from pactl_cli.runs.directory import CERTIFICATE, CLASSIFIER, MESSAGE, METRICS, RunDirectory, require_writable
from pactl_cli.runs.following import FollowedRun
from pactl_cli.runs.plain_files import require_no_folder
from pactl_cli.runs.settings import BoundSettings
from pactl_cli.stages.certifying import Candidate, candidate
from pactl_cli.stages.guaranteeing import Inquiry
from pactl_cli.stages.succession import Earlier, earlier_certificate, require_same_files, successor
from pactl_cli.stages.workbench import STAGE

Certified = tuple[Path, Certificate]
"""A run directory, and the certificate in it."""

_WRITTEN = (MESSAGE, CLASSIFIER, CERTIFICATE)
"""The files of a certified run; the certificate is written last."""


@dataclass(frozen=True)
class Shelf:
    """The place for certificates.

    Attributes:
        out: a directory for a certified copy of a single run; None writes into the runs' own directories.
        force: replace existing files, and even a better certificate.
    """

    out: Path | None = None
    force: bool = False


_IN_PLACE = Shelf()


def bound(
    paths: list[Path], settings: BoundSettings, display: Display, world: World = ALONE, shelf: Shelf = _IN_PLACE
) -> list[Certified]:
    """Certify the runs, and write each certificate into its run directory or into `shelf.out`.

    A run keeps an earlier certificate that is better and answers the same question, unless `shelf.force` is set.
    Nothing is written or withdrawn before all certificates are known. Each message carries its configuration, so all
    certificates hold at once, and the user may choose the best. Several processes share training and counting; rank 0
    writes.

    Returns:
        The directories with their certificates, in the order of `paths`.

    Raises:
        PactlError: exit code 2 if a run cannot be certified, 1 if fine-tuning fails.
    """
    with ExitStack() as claims:
        runs = world.from_first(lambda: _opened(paths, claims, shelf))
        if not world.leads:
            runs = [FollowedRun(run.path, run.manifest) for run in runs]
        earlier: list[Earlier] = [None] * len(runs)
        if shelf == _IN_PLACE:
            earlier = world.from_first(lambda: [earlier_certificate(run, settings) for run in runs])
        named = Named(settings.data_dir, settings.dataset, settings.model_name, settings.tokenizer)
        reloaded = (reload_problem(run, named, settings.device, display, world) for run in runs)
        problems = [problem.abstaining(settings.question.abstains) for problem in reloaded]
        _require_comparable([run.path for run in runs], problems)
        inquiries = [Inquiry.of(settings, problem) for problem in problems]
        for run, before, inquiry in zip(runs, earlier, inquiries, strict=True):
            require_same_files(run, before, inquiry)
        candidates = [
            candidate(run, problem, settings, inquiry, display)
            for run, problem, inquiry in zip(runs, problems, inquiries, strict=True)
        ]
        chosen = [
            successor(before, found, problem, settings, display)
            for before, found, problem in zip(earlier, candidates, problems, strict=True)
        ]
        written = [_write(found, before, shelf, world) for found, before in zip(chosen, earlier, strict=True)]
        return list(zip(written, (found.certificate for found in chosen), strict=True))


def best_of(certified: list[Certified]) -> Certified:
    """Return the entry with the least bound, the first one if several have it."""
    return min(certified, key=lambda entry: entry[1].loss)


def _opened(paths: list[Path], claims: ExitStack, shelf: Shelf) -> list[RunDirectory]:
    """Return the runs at some paths, each once, complete, and locked if certificates are written into them."""
    places = {path.resolve(): path for path in reversed(paths)}
    if shelf.out is not None:
        if len(places) > 1:
            raise PactlError(f"--out {shelf.out} is for one run, not {len(places)}", "certify them one by one")
        run = RunDirectory.open(paths[0])
        run.require_complete(run.manifest.kind, but=(*_WRITTEN, METRICS))
        require_place(run.path, shelf.out, force=shelf.force)
        return [run]
    for path in places:
        claims.enter_context(claimed(path))
    runs = [RunDirectory.open(path) for path in reversed(places.values())]
    for run in runs:
        run.require_complete(run.manifest.kind, but=_WRITTEN)
        require_writable(run.path)
        for name in (*_WRITTEN, METRICS):
            require_no_folder(run.path / name)
    return runs


def _require_comparable(paths: list[Path], problems: list[Problem]) -> None:
    """Raise PactlError if a run makes only a source, or if runs differ in something that no message encodes."""
    for path, problem in zip(paths, problems, strict=True):
        if not problem.kind.certifies(problem.settings):
            brought = problem.task.brought
            command = shell_command("transfer", path, model_name=brought.name if brought else None)
            raise PactlError(
                f"{path} has trained all its weights (d = 0), for which there is no message",
                f"use it as a source: {command} --dataset ANOTHER",
            )
    populations = [problem.population() for problem in problems] if len(problems) > 1 else []
    networks = {problem.task.brought.name if problem.task.brought else "the catalogue's" for problem in problems}
    differs = f"have different networks of your own, {' and '.join(sorted(networks))}" if len(networks) > 1 else ""
    for path, population in zip(paths, populations, strict=False):
        if population != populations[0]:
            differs = f"were trained on different examples or from different weights ({path} and {paths[0]})"
    if len({pool for problem in problems if (pool := problem.calibration_pool_sha256)}) > 1:
        differs = "draw their calibration examples from different permutations"
    if differs:
        raise PactlError(
            f"the runs {differs}, which their messages do not encode",
            "choosing between them by their certificates would be cheating: certify one of them",
        )


def _write(found: Candidate, earlier: Earlier, shelf: Shelf, world: World) -> Path:
    """Write a certificate, and return its directory."""
    if shelf.out is None:
        if found.certificate != earlier:
            _replace_certificate(found)
        return found.run.path
    if world.leads:
        with suppress(OSError):  # copy_run reports the error better
            shelf.out.mkdir(parents=True, exist_ok=True)
        with claimed(shelf.out):
            _replace_certificate(replace(found, run=copy_run(found.run, shelf.out, force=shelf.force)))
    return shelf.out


def _replace_certificate(found: Candidate) -> None:
    """Replace the certificate of a run, if it has one, by this one."""
    run = found.run
    run.sweep()
    run.restart_stage(STAGE, _WRITTEN)
    if found.metrics is not None:
        run.keep_metrics(lambda record: record.get("stage") != STAGE)
    for record in found.metrics or ():
        run.append_metrics(record)
    for name, content in zip(_WRITTEN, (found.message, found.classifier, found.certificate.to_bytes()), strict=True):
        run.write_bytes(name, content)
    run.set_stage(STAGE, "complete", (*_WRITTEN, METRICS))
