"""Trackers of experiments: TensorBoard, MLflow, trackio and W&B, each loaded only when it is named.

The run directory stays the record: when a tracker fails, the command goes on without it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from io import StringIO
from math import isfinite
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Protocol

from pactl_cli.errors import PactlError, on_one_line
from pactl_cli.runs.directory import CERTIFICATE, CONFIG, METRICS, RunDirectory

if TYPE_CHECKING:
    from pactl_cli.certificate.certificate import Certificate
    from pactl_cli.problem.display import Display

PROJECT = "pactl"
_NOT_NUMBERS = {
    "side_information",
    "configuration",
    "made_with",
    "ledger",
    "at_other_deltas",
    "schema_version",
    "format",
}
_LONGEST_PARAMETER = 500


@dataclass(frozen=True)
class Tracked:
    """The run that a tracker follows.

    Attributes:
        path: the run directory.
        id: the identity of the run; another run in the same directory has another one.
        settings: the settings of its training.
        part: the part of the run, "" for its training; TensorBoard replaces earlier events of the same part.
        begins: whether the part begins now; false if it is resumed.
    """

    path: Path
    id: str
    settings: dict[str, Any]
    part: str
    begins: bool

    @classmethod
    def at(cls, path: Path, part: str, *, begins: bool) -> Tracked:
        """Return the run in a directory that holds its settings."""
        config = path / CONFIG
        identity = sha256(config.read_bytes() + str(config.stat().st_mtime_ns).encode()).hexdigest()[:12]
        return cls(path.resolve(), identity, RunDirectory.open(path).read_config(), part, begins)

    @property
    def name(self) -> str:
        """The run's name, that of its directory."""
        return self.path.name


class Tracker(Protocol):
    """A tracker of one run."""

    def numbers(self, values: dict[str, float], step: int) -> None:
        """Record numbers of a step."""

    def certificate(self, values: dict[str, float], file: Path) -> None:
        """Record a certificate: its numbers and its file."""

    def end(self, *, failed: bool) -> None:
        """End the recording."""


class _TensorBoard:
    """TensorBoard's event files in the run directory."""

    def __init__(self, run: Tracked) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.path / "tensorboard" / run.part
        if any(place.is_symlink() for place in (folder, folder.parent) if place != run.path):
            raise OSError(f"{folder} is a link, not a folder of the run's own")
        for file in folder.glob("events.out.tfevents.*") if run.begins else ():
            file.unlink()
        self._writer = SummaryWriter(str(folder))
        self._writer.add_text("settings", "\n".join(f"    {name}: {value}" for name, value in run.settings.items()))

    def numbers(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, new_style=True, double_precision=True)
        self._writer.flush()

    def certificate(self, values: dict[str, float], file: Path) -> None:
        self._writer.add_text("certificate", "".join(f"    {line}\n" for line in file.read_text("utf-8").splitlines()))
        self.numbers(values, 0)

    def end(self, *, failed: bool) -> None:
        self._writer.close()


class _MLflow:
    """A run of the experiment `pactl`, or `$MLFLOW_EXPERIMENT_NAME`, at `$MLFLOW_TRACKING_URI`."""

    def __init__(self, run: Tracked) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric = MlflowClient(), Metric
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        known = self._client.search_runs([experiment], f"tags.pactl_id = '{run.id}'", max_results=1)
        if not known:
            known = [self._client.create_run(experiment, run_name=run.name, tags={"pactl_id": run.id})]
            settings = [Param(each, str(value)[:_LONGEST_PARAMETER]) for each, value in run.settings.items()]
            self._client.log_batch(known[0].info.run_id, params=settings)
        self._id = known[0].info.run_id

    def numbers(self, values: dict[str, float], step: int) -> None:
        now = int(time() * 1000)
        self._client.log_batch(self._id, [self._metric(name, value, now, step) for name, value in values.items()])

    def certificate(self, values: dict[str, float], file: Path) -> None:
        self.numbers(values, 0)
        self._client.log_artifact(self._id, str(file))

    def end(self, *, failed: bool) -> None:
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


class _Trackio:
    """A run of the project `pactl`, or `$TRACKIO_PROJECT`, in trackio's own directory."""

    def __init__(self, run: Tracked) -> None:
        import trackio

        named = {"project": os.environ.get("TRACKIO_PROJECT", PROJECT), "name": f"{run.name}-{run.id}"}
        quiet = {"auto_log_cpu": False, "auto_log_gpu": False, "embed": False}
        self._run = trackio.init(**named, config=run.settings, resume="allow", **quiet)
        self._finish = trackio.finish  # the run's own method would print something when the process exits

    def numbers(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def certificate(self, values: dict[str, float], file: Path) -> None:
        self._run.log(values, step=0)
        self._run.log_artifact(file, type="certificate")

    def end(self, *, failed: bool) -> None:
        self._finish()


class _WeightsAndBiases:
    """A run of the project `pactl`, or `$WANDB_PROJECT`, in the mode `$WANDB_MODE`."""

    def __init__(self, run: Tracked) -> None:
        import wandb

        if wandb.setup().settings.mode in ("online", "shared") and not wandb.login(prompt=False):
            raise PactlError("there is no key for it: wandb login, or WANDB_MODE=offline")
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        settings = wandb.Settings(silent=True, console="off")
        who: Any = {"project": project, "name": run.name, "id": run.id, "resume": "allow"}
        self._run = wandb.init(**who, config=run.settings, settings=settings)
        self._grouped: set[str] = set()

    def numbers(self, values: dict[str, float], step: int) -> None:
        group = next(iter(values)).rpartition("/")[0]
        if group not in self._grouped:  # W&B's own step only grows, while steps start again with each stage
            self._run.define_metric(f"{group}/*", step_metric=f"{group}/step")
            self._grouped.add(group)
        self._run.log(values | {f"{group}/step": step})

    def certificate(self, values: dict[str, float], file: Path) -> None:
        self._run.summary.update(values)
        self._run.log_artifact(file, name=f"{CERTIFICATE}-{self._run.id}", type="certificate")

    def end(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


TRACKERS: dict[str, Callable[[Tracked], Tracker]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "trackio": _Trackio,
    "wandb": _WeightsAndBiases,
}
"""The trackers by the name of the package that each needs, which is also the name of pactl's extra."""


def known_tracker(name: str | None) -> str | None:
    """Return the name of a tracker, checked.

    Raises:
        PactlError: if there is no such tracker, or its package is not installed.
    """
    if name is not None and name not in TRACKERS:
        raise PactlError(f"--log {name}: there is no such tracker", f"choose from {', '.join(TRACKERS)}")
    if name is not None and find_spec(name) is None:
        raise PactlError(f"--log {name} needs {name}, which is not installed", f"pip install 'pactl[{name}]'")
    return name


class Log:
    """A connection that sends a run's lines of metrics and its certificate to a tracker, until that fails."""

    def __init__(self, name: str, path: Path, display: Display, *, part: str = "", begins: bool = True) -> None:
        self._name, self._path, self._display = name, path, display
        self._part, self._begins = part, begins
        self._tracker: Tracker | None = None
        self.has_failed = False

    def line(self, record: dict[str, Any]) -> None:
        """Send a line of metrics."""

        def send(tracker: Tracker) -> None:
            if values := numbers(record):
                tracker.numbers(values, record.get("step", record.get("epoch", 0)))

        self._send(send)

    def certificate(self, certificate: Certificate) -> None:
        """Send a certificate."""
        values = numbers_of(certificate)
        self._send(lambda tracker: tracker.certificate(values, self._path / CERTIFICATE))

    def end(self, *, failed: bool) -> None:
        """End the recording of a tracker that has received something, even if it has failed."""
        if self._tracker is not None:
            self._send(lambda tracker: tracker.end(failed=failed), even_so=True)

    def _send(self, what: Callable[[Tracker], None], *, even_so: bool = False) -> None:
        """Call `what` with the tracker, silently; after an exception, do not call the tracker again but for its end."""
        if self.has_failed and not even_so:
            return
        try:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                if self._tracker is None:
                    self._tracker = TRACKERS[self._name](Tracked.at(self._path, self._part, begins=self._begins))
                what(self._tracker)
        except Exception as error:
            if self.has_failed:
                return
            self.has_failed = True
            said = on_one_line(str(error))[:200] or type(error).__name__
            self._display.warn(
                f"--log {self._name} has failed and gets nothing more: {said} ({METRICS} has everything)"
            )


@contextmanager
def tracking(name: str | None, path: Path, display: Display, *, begins: bool) -> Iterator[Callable[[Any], None] | None]:
    """Yield a function that takes the lines of metrics of a training run; None without a tracker."""
    if name is None:
        yield None
        return
    log, failed = Log(name, path, display, begins=begins), True
    try:
        yield log.line
        failed = False
    finally:
        log.end(failed=failed)


def track_certified(name: str | None, certified: list[tuple[Path, Certificate]], display: Display) -> None:
    """Send to a tracker the certificates that `bound` has written, and its lines of metrics."""
    if name is None:
        return
    for path, certificate in certified:
        log = Log(name, path, display, part="bound")
        for record in _lines_of_bound(path):
            log.line(record)
        log.certificate(certificate)
        log.end(failed=False)
        if log.has_failed:
            return


def _lines_of_bound(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of metrics that `bound` wrote; nothing if the file cannot be read."""
    with suppress(PactlError):
        yield from (record for record in RunDirectory.open(path).read_metrics() if record.get("stage") == "bound")


def numbers(record: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a line of metrics; their names tell its stage and the message that was tried.

    >>> numbers({"stage": "bound", "epoch": 2, "error": 0.5, "attempt": {"codebook": "grid", "price": 2.5}})
    {'bound/grid-2.5/epoch': 2, 'bound/grid-2.5/error': 0.5}
    """
    attempt = (record.get("attempt") or {}).values()
    words = [str(each) for each in (*attempt, record.get("search")) if each is not None]
    group = "/".join(filter(None, (str(record.get("stage")), re.sub(r"[^\w.-]", "-", "-".join(words)))))
    return {f"{group}/{name}": value for name, value in _finite(record) if name != "step"}


def numbers_of(certificate: Certificate) -> dict[str, float]:
    """Return the numbers of a certificate, by names such as `certificate/bits.symbols`."""
    facts = certificate.model_dump(exclude=_NOT_NUMBERS)
    nested = {f"{name}.{part}": value for name, of in facts.items() for part, value in _finite(of)}
    others = {f"error_bound_at_delta_{each.delta:g}": each.error_bound for each in certificate.at_other_deltas}
    return {f"certificate/{name}": value for name, value in (dict(_finite(facts)) | nested | others).items()}


def _finite(facts: Any) -> Iterator[tuple[str, float]]:
    """Yield the finite numbers of a dict with their names; nothing of anything else."""
    for name, value in facts.items() if isinstance(facts, dict) else ():
        if isinstance(value, int | float) and isfinite(value):
            yield name, +value
