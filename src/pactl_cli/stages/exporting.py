"""`pactl export`: a certified classifier as a file for other programs, checked before it is written."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from pactl_cli import __version__
from pactl_cli.certificate.format import NUMERICAL_MARGIN
from pactl_cli.certificate.guarantees import THRESHOLDS
from pactl_cli.certificate.questions import ABSTAIN
from pactl_cli.errors import FAILED, MissingError, PactlError, not_written
from pactl_cli.models.brought import described
from pactl_cli.models.independence import agree
from pactl_cli.models.inputs import ONLY, Inputs
from pactl_cli.models.preparation import Prepared
from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Display
from pactl_cli.problem.problem import Problem
from pactl_cli.problem.reloading import reload_problem
from pactl_cli.runs.checkpoint import plain_tensors
from pactl_cli.runs.copying import require_other_file
from pactl_cli.runs.directory import RunDirectory, replace_file
from pactl_cli.stages.classifier import Classifier, accepted, load
from pactl_cli.training.counting import count
from pactl_cli.training.tallies import Tally

_METADATA = "pactl"
"""The name of the block of metadata, as JSON, in every kind of file."""
_FIXED = 64
"""The number of inputs on which logits are compared if the data are missing."""
_ALL_NUMBERS = "all numbers"
_ONNX = ("onnx", "onnxscript", "onnxruntime")

Answers = Callable[[Inputs], Sequence[Tensor]]
"""A function from inputs to logits and, if the classifier abstains, which inputs it accepts."""


@dataclass(frozen=True)
class _Form:
    """A kind of file.

    Attributes:
        write: returns the file's content for a classifier and its metadata.
        read: returns the answers that a file gives.
        packages: packages that it needs; the first one names pactl's extra.
    """

    write: Callable[[Classifier, str], bytes]
    read: Callable[[bytes, Classifier], Answers]
    packages: tuple[str, ...] = ()


def export(path: Path, target: Path, named: Named, display: Display, *, force: bool = False) -> Classifier:
    """Write a run's certified classifier to a file, of the kind that its name says, and return the classifier.

    Before the file is written, its content is loaded again: its errors on S are counted if the data are present;
    otherwise its logits on fixed inputs are compared with the classifier's. A note tells the user which of the two.

    Args:
        path: the run directory, which may be a stranger's.
        target: the file.
        named: the data and network that the user names.
        force: replace an existing file.

    Raises:
        PactlError: if the file exists, or something must be named or installed; exit code 1 if the network cannot be
            exported, or answers differently once it is loaded again.
    """
    form = _form(target)
    require_free(target, "--to", force=force)
    if absent := [package for package in form.packages if find_spec(package) is None]:
        raise MissingError(f"--to {target} needs the package {absent[0]}", f"pip install 'pactl[{form.packages[0]}]'")
    classifier = load(path, model_name=named.model_name, device="cpu")
    problem = _problem(path, named, display)
    with display.progress(f"writing {target.name}"), warnings.catch_warnings(action="ignore"):
        try:
            data = form.write(classifier, json.dumps(metadata(classifier)))
            answers = form.read(data, classifier)
        except Exception as error:  # exporters raise almost anything
            said = f"--to {target}: the network cannot be exported so: {described(error)}"
            raise PactlError(said, "try --to NAME.safetensors", FAILED) from error
    loaded = _Loaded(answers, classifier)
    said = _counted(loaded, classifier, problem, display) if problem else _compared(loaded, classifier)
    try:
        replace_file(target, data)
    except OSError as error:
        raise not_written(f"--to {target}", error) from error
    display.warn(f"{target} was loaded again: {said}")
    return classifier


def require_free(target: Path, option: str, *, force: bool) -> None:
    """Raise PactlError if a file cannot be written, belongs to a run, or exists and `force` is not set."""
    require_other_file(target, option)
    if not target.parent.is_dir():
        raise PactlError(f"{option} {target}: there is no directory {target.parent}", "make it first")
    if target.exists() and not force:
        raise PactlError(f"{option} {target} exists already", "choose another name, or --force replaces it")


def metadata(classifier: Classifier) -> dict[str, Any]:
    """Return the metadata of an exported file: preparation of inputs, names of classes, and the certificate."""
    certificate, network = classifier.certificate, classifier.network
    guarantees = {each.what: each.claim for each in certificate.guarantees}
    also: dict[str, Any] = {"guarantees": guarantees} if guarantees else {}
    if classifier.margin is not None:
        also["abstains_below"] = classifier.margin
    return {
        "made_by": f"pactl {__version__}",
        "network": {name: certificate.configuration[name] for name in ("model_name", "base_width")},
        "inputs": classifier.spec.as_dict(),
        "preparation": {
            "bytes_divided_by": 255,
            "mean": network.get_buffer("_mean").flatten().tolist(),
            "std": network.get_buffer("_std").flatten().tolist(),
            "normalises": _ALL_NUMBERS if network.every_number else "bytes",
            "image_size": certificate.configuration["image_size"],
            "table": classifier.calibrated.encoding and classifier.calibrated.encoding.as_dict(),
        },
        "class_names": classifier.class_names,
        "statement": certificate.statement,
        "error_bound": certificate.error_bound,
        "delta": certificate.delta,
        "certificate_sha256": sha256(certificate.to_bytes()).hexdigest(),
        "message_sha256": certificate.message_sha256,
        **also,
    }


def _form(target: Path) -> _Form:
    """Return the kind of file that a name's ending asks for."""
    form = _FORMS.get(target.suffix)
    if form is None:
        raise PactlError(f"--to {target}: a file of that kind is not written", f"end it with {', '.join(_FORMS)}")
    return form


def _problem(path: Path, named: Named, display: Display) -> Problem | None:
    """Return the problem of a run; None if its data are missing, and the user has not said where they are."""
    try:
        return reload_problem(RunDirectory.open(path), named, "cpu", display, only_read=True)
    except MissingError:
        if named.dataset or named.data_dir:
            raise
        return None


class _Loaded(nn.Module):
    """An exported classifier, loaded again, whose errors can be counted."""

    def __init__(self, answers: Answers, classifier: Classifier) -> None:
        super().__init__()
        self._answers, self._margin = answers, classifier.margin

    def forward(self, inputs: Inputs) -> Tensor:
        """Return its logits.

        Raises:
            PactlError: if it accepts inputs on which the classifier would abstain with these logits, or the reverse.
        """
        logits, *acceptance = self._answers(inputs)
        if self._margin is None:
            return logits
        slack = NUMERICAL_MARGIN * logits.abs().amax(1)
        surely, perhaps = (accepted(logits, self._margin + sign * slack) for sign in (1, -1))
        if not ((surely <= acceptance[0]) & (acceptance[0] <= perhaps)).all():
            raise _wrong("abstains on other inputs than the certified one")
        return logits


def _wrong(what: str) -> PactlError:
    """Return the error of a file that does not hold the certified classifier."""
    return PactlError(f"the exported classifier {what}", "report this as a bug; nothing was written", FAILED)


def _counted(loaded: _Loaded, classifier: Classifier, problem: Problem, display: Display) -> str:
    """Return in words how often an exported classifier errs and abstains on S.

    Raises:
        PactlError: if this disagrees with the certificate.
    """
    certificate = classifier.certificate
    abstention = certificate.guarantee(ABSTAIN)
    tally = Tally([ABSTAIN], len(classifier.class_names))
    with display.progress("counting errors") as advance:
        counts = count(loaded, problem.sample, advance, observe=tally.add)
    if not counts.plain <= certificate.errors <= counts.doubtful:
        raise _wrong(f"makes {counts.plain:,} errors on S, and {certificate.errors:,} are certified")
    said = f"on S it makes {counts.plain:,} errors of {counts.examples:,}, and {certificate.errors:,} are certified"
    if abstention is None or abstention.threshold is None:
        return said
    found = tally.total(problem.world)
    wrong, refused = abstention.threshold, abstention.threshold + len(THRESHOLDS)
    for place in (wrong, refused):
        (least, _), (most, _) = found[[0, -1], :, place].tolist()
        event = abstention.events[place]
        if not least <= event.errors <= most:
            raise _wrong(f'has "{event.name}" {least:,} times on S, and {event.errors:,} are certified')
    return f"{said}; it abstains on {found[0, 0, refused]:,}, and {abstention.events[refused].errors:,} are certified"


@torch.no_grad()
def _compared(loaded: _Loaded, classifier: Classifier) -> str:
    """Return in words that answers agree on fixed inputs.

    Raises:
        PactlError: if they do not.
    """
    inputs = classifier.spec.fixed_inputs(_FIXED, "export")
    if not agree(classifier(inputs), loaded(inputs)):
        raise _wrong("has other logits than the certified one")
    return f"on {_FIXED} fixed inputs its logits are those of the certified classifier; the data are missing"


# --- The answers of a file --------------------------------------------------------------------------------------------


class _Abstaining(nn.Module):
    """A network that returns its logits, and which inputs it accepts."""

    def __init__(self, network: nn.Module, margin: float) -> None:
        super().__init__()
        self.network, self._margin = network, margin

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return logits and acceptance, shapes (m, classes) and (m,)."""
        logits = self.network(inputs)
        return logits, accepted(logits, self._margin)


def _answers(network: Callable[[Inputs], Any]) -> Answers:
    """Return the answers of a network that gives logits, or logits and acceptance."""

    def answers(inputs: Inputs) -> Sequence[Tensor]:
        found = network(inputs)
        return (found,) if isinstance(found, Tensor) else tuple(found)

    return answers


# --- safetensors ------------------------------------------------------------------------------------------------------


def _write_safetensors(classifier: Classifier, said: str) -> bytes:
    return safetensors.torch.save(plain_tensors(dict(classifier.network.network.state_dict())), {_METADATA: said})


def _read_safetensors(data: bytes, classifier: Classifier) -> Answers:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    facts = json.loads(header["__metadata__"][_METADATA])
    said, margin = facts["preparation"], facts.get("abstains_below")
    network = deepcopy(classifier.network.network)
    for tensor in network.state_dict().values():
        tensor.zero_()
    network.load_state_dict(safetensors.torch.load(data))
    every_number = said["normalises"] == _ALL_NUMBERS
    prepared = Prepared(network, (said["mean"], said["std"]), code="", every_number=every_number)
    return _answers(prepared if margin is None else _Abstaining(prepared, margin))


# --- torch.export -----------------------------------------------------------------------------------------------------


def _program(classifier: Classifier) -> torch.export.ExportedProgram:
    """Return the network as torch.export traces it, for batches of any size."""
    inputs, batch = classifier.spec.fixed_inputs(2, "export"), {0: torch.export.Dim("batch", min=1)}
    shapes = batch if isinstance(inputs, Tensor) else dict.fromkeys(inputs, batch)
    network: nn.Module = classifier.network
    if classifier.margin is not None:
        network = _Abstaining(network, classifier.margin).eval()
    return torch.export.export(network, (inputs,), dynamic_shapes=(shapes,))


def _write_pt2(classifier: Classifier, said: str) -> bytes:
    buffer = BytesIO()
    torch.export.save(_program(classifier), buffer, extra_files={f"{_METADATA}.json": said})
    return buffer.getvalue()


def _read_pt2(data: bytes, classifier: Classifier) -> Answers:
    return _answers(torch.export.load(BytesIO(data)).module())


# --- ONNX -------------------------------------------------------------------------------------------------------------


def _write_onnx(classifier: Classifier, said: str) -> bytes:
    names = [name for name, _ in classifier.spec.tensors]
    outputs = ["logits"] if classifier.margin is None else ["logits", "accepted"]
    program = torch.onnx.export(
        _program(classifier), dynamo=True, input_names=names, output_names=outputs, verbose=False
    )
    assert program is not None
    program.model.metadata_props[_METADATA] = said
    return bytes(program.model_proto.SerializeToString())


def _read_onnx(data: bytes, classifier: Classifier) -> Answers:
    onnxruntime: Any = import_module("onnxruntime")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def answers(inputs: Inputs) -> Sequence[Tensor]:
        named = inputs if isinstance(inputs, Mapping) else {ONLY: inputs}
        found = session.run(None, {name: tensor.numpy() for name, tensor in named.items()})
        return [torch.from_numpy(output) for output in found]

    return answers


_FORMS = {
    ".safetensors": _Form(_write_safetensors, _read_safetensors),
    ".pt2": _Form(_write_pt2, _read_pt2),
    ".onnx": _Form(_write_onnx, _read_onnx, _ONNX),
}
