"""`pactl export`: a certified classifier as a file for other programs, looked at again before it is there."""

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
"""The name of the block in every kind of file, as JSON."""
_FIXED = 64
"""Inputs on which logits are compared where the data are not at hand."""
_ALL_NUMBERS = "all numbers"
_ONNX = ("onnx", "onnxscript", "onnxruntime")

Answers = Callable[[Inputs], Sequence[Tensor]]
"""Logits, and where the classifier abstains also which inputs are accepted."""


@dataclass(frozen=True)
class _Form:
    """A kind of file.

    Attributes:
        write: what makes it of a classifier and the metadata.
        read: what gives the answers of such a file again, for inputs like those of the classifier.
    """

    write: Callable[[Classifier, str], bytes]
    read: Callable[[bytes, Classifier], Answers]
    packages: tuple[str, ...] = ()


def export(path: Path, target: Path, named: Named, display: Display, *, force: bool = False) -> Classifier:
    """Write the classifier of a run's certificate as a file of the kind that its name says, and return it.

    Before the file is there, it is loaded again: its errors on S are counted where the data are at hand, else its
    logits compared with the classifier's on fixed inputs. Which of the two is told to who waits.

    Args:
        path: of the run directory, which may be a stranger's.
        target: of the file.
        named: what the user says of data and network.
        force: replace a file that is there.

    Raises:
        PactlError: if the place is taken, or something has to be named or installed; with exit code 1 if the network
            cannot be exported, or does something else in the file.
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
        except Exception as error:  # exporters raise almost anything at a network that they cannot take
            said = f"{target} cannot be made of this network: {described(error)}"
            raise PactlError(said, "--to NAME.safetensors", FAILED) from error
    loaded = _Loaded(answers, classifier)
    said = _counted(loaded, classifier, problem, display) if problem else _compared(loaded, classifier)
    try:
        replace_file(target, data)
    except OSError as error:
        raise not_written(f"--to {target}", error) from error
    display.warn(f"{target} was loaded again: {said}")
    return classifier


def require_free(target: Path, option: str, *, force: bool) -> None:
    """Raise PactlError if no file can be made at a place, or it is a run's, or, unless forced, there is one."""
    require_other_file(target, option)
    if not target.parent.is_dir():
        raise PactlError(f"{option} {target} is not the name of a file in a directory", "choose another place")
    if target.exists() and not force:
        raise PactlError(f"{option} {target} is there already", "choose another name, or --force replaces it")


def metadata(classifier: Classifier) -> dict[str, Any]:
    """Return what goes with the weights: how inputs are prepared, what the logits stand for, and the certificate."""
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
    """Return the kind of file that a name asks for."""
    form = _FORMS.get(target.suffix)
    if form is None:
        raise PactlError(f"--to {target} is of no kind that can be written", f"end it with {', '.join(_FORMS)}")
    return form


def _problem(path: Path, named: Named, display: Display) -> Problem | None:
    """Return the problem of a run; None where its data are not at hand, and the user has not said where they are."""
    try:
        return reload_problem(RunDirectory.open(path), named, "cpu", display, only_read=True)
    except MissingError:
        if named.dataset or named.data_dir:
            raise
        return None


class _Loaded(nn.Module):
    """What was exported, as something whose errors can be counted: it says at once if it accepts other inputs."""

    def __init__(self, answers: Answers, classifier: Classifier) -> None:
        super().__init__()
        self._answers, self._margin = answers, classifier.margin

    def forward(self, inputs: Inputs) -> Tensor:
        """Return its logits.

        Raises:
            PactlError: if it accepts inputs on which the classifier abstains with these logits, or the reverse.
        """
        logits, *acceptance = self._answers(inputs)
        if self._margin is None:
            return logits
        slack = NUMERICAL_MARGIN * logits.abs().amax(1)
        surely, perhaps = (accepted(logits, self._margin + sign * slack) for sign in (1, -1))
        if not ((surely <= acceptance[0]) & (acceptance[0] <= perhaps)).all():
            raise _wrong("abstains on other inputs than the one that was certified")
        return logits


def _wrong(what: str) -> PactlError:
    """Return the error of a file that is something else than it should be."""
    return PactlError(f"the exported classifier {what}", "report this as a bug; nothing was written", FAILED)


def _counted(loaded: _Loaded, classifier: Classifier, problem: Problem, display: Display) -> str:
    """Return how often an exported classifier errs on S, and abstains, in words.

    Raises:
        PactlError: if that is not what was certified.
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
    """Return that answers agree on fixed inputs, in words.

    Raises:
        PactlError: if they do not.
    """
    inputs = classifier.spec.fixed_inputs(_FIXED, "export")
    if not agree(classifier(inputs), loaded(inputs)):
        raise _wrong("answers otherwise than the one that was certified")
    return f"on {_FIXED} fixed inputs its logits are those of the certified classifier; the data are not at hand"


# --- The answers of a file --------------------------------------------------------------------------------------------


class _Abstaining(nn.Module):
    """A network that says, beside its logits, which inputs are accepted."""

    def __init__(self, network: nn.Module, margin: float) -> None:
        super().__init__()
        self.network, self._margin = network, margin

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return logits and acceptance, shapes (m, classes) and (m,)."""
        logits = self.network(inputs)
        return logits, accepted(logits, self._margin)


def _answers(network: Callable[[Inputs], Any]) -> Answers:
    """Return the answers of a network that gives logits alone, or two outputs."""

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
    """Return a network as torch follows it, for batches of any size."""
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
