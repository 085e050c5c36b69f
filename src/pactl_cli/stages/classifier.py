"""The certified classifier of a run, decoded from its directory alone."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from pactl_cli import catalogue
from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.configuration import silent
from pactl_cli.certificate.format import CALIBRATION
from pactl_cli.certificate.message import Message
from pactl_cli.certificate.questions import ABSTAIN
from pactl_cli.certificate.task import Task
from pactl_cli.errors import PactlError, printable, quoted
from pactl_cli.models.inputs import ONLY, Inputs, InputSpec, TensorSpec
from pactl_cli.models.normalisation import running_statistics
from pactl_cli.models.preparation import Prepared
from pactl_cli.problem.blueprint import Blueprint
from pactl_cli.problem.consent import require_own_network
from pactl_cli.problem.machine import find_device
from pactl_cli.problem.memory import Work, require_modest
from pactl_cli.problem.network_facts import NetworkFacts
from pactl_cli.problem.reloading import start_of, trained_coordinates
from pactl_cli.runs.calibrated import Calibrated
from pactl_cli.runs.directory import CERTIFICATE, CLASSIFIER, CONFIG, MESSAGE, RunDirectory
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.stages.claims import claimed_message, intact_certificate, open_certified, require_arithmetic
from pactl_cli.stages.evidence import coordinates_of
from pactl_cli.subspace.module import set_weights
from pactl_cli.training.precision import full_precision

_LARGEST_MESSAGE = 1 << 26
_MOST_CLASSES = 100_000


def accepted(logits: Tensor, margin: float | Tensor | None) -> Tensor:
    """Return which examples a classifier answers, shape (m,); it abstains on the others.

    It answers if all logits are finite, and the two largest differ by at least the margin.

    Args:
        logits: shape (m, classes).
        margin: one number, or one for each example; None answers all.

    >>> accepted(torch.tensor([[0.0, 2.0], [0.0, 0.5], [0.0, torch.inf]]), 1.0)
    tensor([ True, False, False])
    """
    if margin is None:
        return torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    first, second = logits.float().topk(2, dim=1).values.unbind(1)
    return (first - second >= margin) & logits.isfinite().all(1)


class Classifier(nn.Module):
    """A certified classifier in evaluation mode: raw inputs in, logits out, shape (m, classes).

    It takes examples in the form of the data: images as bytes, shape (m, C, H, W), tokens, or a mapping of tensors. For
    a table, it takes the features that `calibrated.encoding` makes of the rows.

    Attributes:
        network: the network with the weights that the message decodes to, and the preparation of its inputs.
        certificate: the certificate of the run.
        class_names: one name for each logit; numbers, if classes have no names.
        spec: the shape and type of an input.
        settings: the settings of training, which say how data are read.
        calibrated: statistics and encoding that were computed from the data.
    """

    def __init__(
        self, network: Prepared, certificate: Certificate, spec: InputSpec, settings: TrainSettings, given: Calibrated
    ) -> None:
        super().__init__()
        self.network, self.certificate, self.spec, self.settings = network, certificate, spec, settings
        self.calibrated = given
        names = settings.class_names or map(str, range(certificate.side_information["classes"]))
        self.class_names = tuple(map(printable, names))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Classifier:
        """Stay in evaluation mode, in which the classifier was certified."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.network.get_buffer("_mean").device

    @property
    def margin(self) -> float | None:
        """The margin between the two largest logits below which it abstains; None if it never abstains."""
        abstention = self.certificate.guarantee(ABSTAIN)
        return abstention.margin if abstention else None

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the logits of raw inputs, in full single precision.

        Raises:
            ValueError: if they have another shape than those that were certified, or are not bytes where those were.
        """
        given = {ONLY: inputs} if isinstance(inputs, Tensor) else inputs
        for name, own in self.spec.tensors:
            shape, dtype = given[name].shape[1:], given[name].dtype
            if shape != own.shape or (dtype == torch.uint8) != (own.dtype == torch.uint8):
                raise ValueError(f"the classifier takes {own}, not {TensorSpec(tuple(shape), dtype)}")
        with full_precision():
            logits: Tensor = self.network(inputs)
        return logits

    def accepts(self, inputs: Inputs) -> Tensor:
        """Return which raw inputs it answers, shape (m,); it abstains on the others."""
        return self.accepted(self(inputs))

    def accepted(self, logits: Tensor) -> Tensor:
        """Return which inputs it answers, given their logits, shape (m, classes)."""
        return accepted(logits, self.margin)


def load(path: Path, *, model_name: str | None = None, device: str = "auto") -> Classifier:
    """Return the certified classifier in a run directory, which may be a stranger's.

    This needs no data, and does not check the certificate against the data: `verify` does.

    Args:
        path: the run directory.
        model_name: the network; required if it is code or very large, because a run alone must not load either.
        device: the device for the classifier.

    Raises:
        PactlError: if there is no certificate, the files of the run disagree, or the network must be named.
    """
    place = find_device(device)
    run = open_certified(path, model_name=model_name)
    certificate = intact_certificate(run)
    require_arithmetic(run, certificate)
    require_own_network(run, model_name)
    claim = _Claim.of(run, certificate)
    catalogue.require_named(claim.message.configuration.model_name, model_name, str(run.path))
    blueprint = claim.blueprint()
    side = max(claim.spec.sides, default=0)
    require_modest(run, blueprint, Work(1, 1, side, claim.settings.has_source), model_name)
    agreed_network(run, certificate, blueprint, claim.task)
    return Classifier(claim.network(blueprint).to(place), certificate, claim.spec, claim.settings, claim.given)


@dataclass(frozen=True)
class _Claim:
    """Facts about a classifier on which all files of its run agree."""

    run: RunDirectory
    certificate: Certificate
    task: Task
    message: Message
    settings: TrainSettings
    classes: int
    spec: InputSpec
    given: Calibrated

    @classmethod
    def of(cls, run: RunDirectory, certificate: Certificate) -> _Claim:
        """Return the facts in a run directory.

        Raises:
            PactlError: if its files disagree.
        """
        settings, facts = run.read_settings(), certificate.side_information
        trained_coordinates(run, settings.intrinsic_dim or 0)  # its size limits the size of the decoded message
        if certificate.intrinsic_dim > (settings.intrinsic_dim or 0):
            raise PactlError(f"{run.path / CERTIFICATE} and {CONFIG} name different configurations")
        task, message = claimed_message(run, certificate, _LARGEST_MESSAGE)
        _require_same_configuration(run, task, message, settings)
        classes, names = facts.get("classes"), settings.class_names
        try:
            spec = InputSpec.from_dict(facts.get("inputs"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PactlError(f"{run.path / CERTIFICATE} does not describe the inputs") from error
        is_of_task = spec.kind == task.inputs and spec.channels == task.channels
        if type(classes) is not int or not 2 <= classes <= _MOST_CLASSES or not is_of_task:
            raise PactlError(f"{run.path / CERTIFICATE} does not say how many classes there are, or names other inputs")
        if (names and list(names)) != facts.get("class_names") or len(names or range(classes)) != classes:
            raise PactlError(f"{run.path / CERTIFICATE} and {CONFIG} name different classes")
        given = Calibrated.load(run, spec, certificate.classifier_sha256)
        if (given.statistics is not None) != (message.configuration.normalisation == CALIBRATION):
            raise PactlError(f"{run.path / CLASSIFIER} and {MESSAGE} disagree on whether inputs have statistics")
        return cls(run, certificate, task, message, settings, classes, spec, given)

    def blueprint(self) -> Blueprint:
        """Return the blueprint that rebuilds the classifier.

        Raises:
            PactlError: if theta0 is not the one of the certificate.
        """
        start = start_of(self.run, self.settings)
        found = Blueprint(
            self.message.configuration,
            self.classes,
            self.spec,
            start and start.for_classes(self.classes),
            self.settings.has_source and not self.given.examples,
            self.given.statistics,
            self.given.encoding,
        )
        if found.theta0_sha256 != self.certificate.side_information.get("theta0_sha256"):
            raise PactlError(f"the weights that {self.run.path} starts from are not those of {CERTIFICATE}")
        return found

    def network(self, blueprint: Blueprint) -> Prepared:
        """Return the network with the weights that the message decodes to, computed on the CPU for every device.

        Raises:
            PactlError: if the batch statistics in the run do not fit it.
        """
        module = blueprint.module()
        with torch.no_grad(), full_precision():
            network = blueprint.network_to_evaluate(module)
            assert isinstance(network, Prepared)
            set_weights(network, module.weights(coordinates_of(self.message, module)))
        if name := self.given.place_into(running_statistics(network.network)):
            raise PactlError(f"{self.run.path / CLASSIFIER} does not have the statistics of its network: {name}")
        return network


def _require_same_configuration(run: RunDirectory, task: Task, message: Message, settings: TrainSettings) -> None:
    """Raise PactlError if message and settings disagree on the configuration; the message w = 0 may differ in P."""
    said, own = message.configuration, settings.model_dump()
    free = {"normalisation"}
    if not len(message.symbols) and said == silent(said, task):
        free |= {"intrinsic_dim", "intrinsic_mode", "freeze", "lora_rank"}
    names = (field.name for field in fields(said) if field.name in own and field.name not in free)
    if any(getattr(said, name) != own[name] for name in names):
        raise PactlError(f"{run.path / MESSAGE} and {CONFIG} name different configurations")


def agreed_network(run: RunDirectory, certificate: Certificate, blueprint: Blueprint, task: Task) -> NetworkFacts:
    """Return the facts that a certificate states about its network, after checking them against the network here.

    Raises:
        PactlError: if the network here is another one.
    """
    here, name = blueprint.network_facts, blueprint.configuration.model_name
    try:
        claimed = NetworkFacts.from_json(certificate.side_information.get("network"))
    except ValueError as error:
        raise PactlError(f"{run.path / CERTIFICATE} {error}") from error
    if not claimed.is_like(here) and task.brought:
        raise PactlError(
            f"{name} is not the network that {run.path / CERTIFICATE} is about: its weights have other shapes, or its "
            "answers differ",
            "use the code that the certificate was made with",
        )
    if not claimed.is_like(here):
        raise PactlError(
            f"{run.path / CERTIFICATE} is about another network {name} than the one here: {quoted(claimed.defined_by)} "
            f"defined it, here it is {here.defined_by}",
            "use that version",
        )
    return claimed
