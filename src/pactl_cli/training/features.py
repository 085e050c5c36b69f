"""Features for training the head alone: the layers before it never change, so they are computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pactl_cli.data.dataset import Examples, LabelledExamples
from pactl_cli.models.layers import find_head, head_names, trained_parameters
from pactl_cli.models.preparation import Prepared
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.training.counting import batch_size
from pactl_cli.training.objectives import NetworkObjective
from pactl_cli.training.precision import full_precision


@dataclass(frozen=True)
class TrainingInputs:
    """A network and the examples that it is trained on.

    Attributes:
        examples: examples of inputs, or of the features that the head takes in their place.
        network: the network.
        is_still: whether all layers but the head stay unchanged, and the head's output is the logits.
        head: the name of the head if the examples are features, else None.
    """

    examples: LabelledExamples
    network: Prepared
    is_still: bool = False
    head: str | None = None

    @contextmanager
    def under(self, objective: NetworkObjective) -> Iterator[LabelledExamples]:
        """Yield the examples for an objective; within the context, its network takes them as inputs."""
        objective.is_still = self.is_still
        with self.network.entered_at(self.head):
            yield self.examples


def head_alone(module: nn.Module) -> str | None:
    """Return the name of a network's head if nothing else is trained and no weights are shared, else None.

    Args:
        module: a prepared network, or one with weights theta0 + P w.
    """
    network = prepared_of(module)
    trained = module.names if isinstance(module, SubspaceModule) else trained_parameters(network)
    head = {f"network.{name}" for name in head_names(network.network)}
    is_shared = len(list(network.named_parameters(remove_duplicate=False))) > len(list(network.parameters()))
    return find_head(network.network)[0][0] if head.issuperset(trained) and head and not is_shared else None


def prepared_of(module: nn.Module) -> Prepared:
    """Return the prepared network in a module that is trained."""
    network = module.network if isinstance(module, SubspaceModule) else module
    assert isinstance(network, Prepared)
    return network


@torch.no_grad()
def features_of(
    network: Prepared, head: str, examples: LabelledExamples, advance: Callable[[int, int], None], most_bytes: int
) -> TrainingInputs:
    """Return features to train a head on, if its output is the logits and they fit in `most_bytes`; else the examples.

    Args:
        network: the network as it is counted, with its batch statistics.
        head: the name of its head.
        advance: a function that is called with (examples computed, examples in total).
    """
    calls: list[tuple[tuple[Tensor, ...], Tensor, int]] = []
    device = examples.labels.device
    parts = torch.arange(len(examples), device=device).split(batch_size(examples.spec, device))
    features, done = torch.zeros(0), 0
    layer = network.network.get_submodule(head)
    handle = layer.register_forward_hook(lambda _, inputs, output: calls.append((inputs, output, output._version)))
    try:
        with full_precision(), closing(examples.batches(parts)) as batches:
            for batch in batches:
                calls.clear()
                logits = network.eval()(batch.inputs)
                if len(calls) != 1 or logits is not calls[0][1] or logits._version != calls[0][2] or not calls[0][0]:
                    return TrainingInputs(examples, network)
                taken = calls[0][0][0]
                if not done and taken[0].numel() * taken.element_size() * len(examples) > most_bytes:
                    return TrainingInputs(examples, network, is_still=True)
                features = features if done else taken.new_empty((len(examples), *taken.shape[1:]))
                features[done : done + len(taken)] = taken
                done += len(taken)
                advance(done, len(examples))
    finally:
        handle.remove()
    return TrainingInputs(Examples(features, examples.labels), network, is_still=True, head=head)
