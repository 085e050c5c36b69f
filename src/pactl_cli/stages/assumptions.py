"""The side information of a certificate, and sentences on the assumptions that no program can check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pactl_cli import catalogue
from pactl_cli.catalogue import dataset_in_words
from pactl_cli.certificate.format import FORMAT
from pactl_cli.certificate.guarantees import Guarantee
from pactl_cli.certificate.questions import COST, GROUPS
from pactl_cli.errors import quoted
from pactl_cli.problem.network_facts import NetworkFacts
from pactl_cli.problem.problem import Problem
from pactl_cli.runs.start import Start

NOT_SEEN = "Theta0 was not trained on"
"""The beginning of the sentence that stands if not all training data of theta0 are available."""


def side_information(problem: Problem, network: NetworkFacts) -> dict[str, Any]:
    """Return the facts that the receiver needs beside the message; all of them are fixed before S is seen."""
    parts = problem.partition
    return {
        "classes": problem.dataset.classes,
        "class_names": problem.settings.class_names and list(problem.settings.class_names),
        "inputs": problem.dataset.spec.as_dict(),
        "tokenizer_sha256": problem.dataset.tokenizer_sha256,
        "train_examples": problem.task.train_examples,
        "task": problem.task.as_dict(),
        "train_sha256": problem.fingerprints.train,
        "test_sha256": problem.fingerprints.test,
        "theta0_sha256": problem.blueprint.theta0_sha256,
        "source": problem.blueprint.start and problem.blueprint.start.origin,
        "network": network.as_dict(),
        "excluded_examples": len(parts.excluded),
        "copies_left_out": len(parts.copies),
        "repetitions_dropped": len(parts.repeated),
        "repetitions_counted": problem.repetitions,
        "indices_sha256": parts.sha256(),
    }


def assumptions(problem: Problem, network: NetworkFacts, guarantees: Sequence[Guarantee] = ()) -> tuple[str, ...]:
    """Return the assumptions that the program cannot check, in sentences."""
    return (
        *_on_the_task(problem),
        *_on_the_data(problem),
        *_on_theta0(problem),
        *_on_the_network(problem, network),
        *_on_the_question(guarantees),
        *problem.sample.assumptions,
    )


def _on_the_question(guarantees: Sequence[Guarantee]) -> Iterator[str]:
    """Yield sentences on the guarantees beside the error."""
    whats = [each.what for each in guarantees]
    if whats:
        yield (
            f"The guarantees beside the error ({', '.join(whats)}), and their shares of delta, were fixed before "
            "looking at the examples."
        )
    if GROUPS in whats:
        yield "Which group each example belongs to was fixed before looking at the classifier's answers."
    if COST in whats:
        yield "The costs of answers were fixed before looking at the examples."


def _on_the_task(problem: Problem) -> Iterator[str]:
    """Yield sentences on facts that were fixed before anybody looked at the examples."""
    dataset = dataset_in_words(problem.task.dataset)
    yield (
        f"The {len(problem.sample):,} examples that were counted are independent draws from the distribution that "
        "the certificate is about."
    )
    if others := _made_from(problem):
        yield (
            f"They are also independent of {others}: none shows the same thing as one of those, was made from one, was "
            "used to make one, or has a common original with one."
        )
    yield (
        f"Which examples are counted, the name of the data set ({dataset}), delta, and the message format "
        f"(number {FORMAT}) with everything that its names stand for were fixed before looking at the examples."
    )
    yield (
        f"The number of classes ({problem.dataset.classes}), which number stands for which class, the number of "
        "examples, the shape of an input, and how inputs are written as numbers (scale, inversion, the order of "
        "channels or columns) are known in advance, not learned from the sample."
    )
    yield from _on_the_writing(problem)
    yield "Another machine's logits differ by less than half the numerical margin, relative to the largest logit."
    if problem.settings.label_noise:
        yield (
            "In this distribution, labels are replaced by uniform ones with probability "
            f"{problem.settings.label_noise}; the program's fixed stream of random numbers for this has nothing to do "
            "with the examples."
        )
    if problem.settings.indices_path is not None:
        yield "The permutation of --indices-path was not chosen by looking at the examples."


def _on_the_writing(problem: Problem) -> Iterator[str]:
    """Yield sentences on how tables and texts become numbers."""
    if problem.blueprint.encoding is not None:
        yield (
            "The names of the table's columns, what each holds (numbers, truth values or categories), how missing "
            "values are treated, and the categories that the user listed are known in advance too."
        )
    if problem.dataset.spec.vocabulary is not None:
        yield (
            f"The number of tokens ({problem.dataset.spec.vocabulary:,}), and which number stands for which token, are "
            "known in advance too."
        )
    if problem.dataset.tokenizer_sha256 is not None:
        yield (
            "The tokenizer that splits the texts, whose file has the sha256 in side_information, was not made or "
            "chosen by looking at the examples that are counted."
        )


def _made_from(problem: Problem) -> str:
    """Return in words the other data that the classifier was made from; "" if there are none."""
    parts = problem.partition
    made_from = []
    if len(parts.prior):
        made_from.append(f"the {len(parts.prior):,} examples of the prior")
    elif len(parts.calibration):
        made_from.append(f"the {len(parts.calibration):,} calibration examples")
    if problem.settings.has_source:
        made_from.append("what theta0 was trained on" if not len(parts.prior) else "what the prior started from saw")
    return " and ".join(made_from)


def _on_the_data(problem: Problem) -> Iterator[str]:
    """Yield sentences on changes of examples, and on copies among them."""
    parts = problem.partition
    yield (
        "None of the examples that are counted, left out, or used for calibration or the prior was changed, added or "
        "removed after looking at them: side_information has fingerprints of all of these and of the test set."
    )
    if len(parts.prior) or len(parts.calibration):
        apart = "prior" if len(parts.prior) else "calibration"
        left_out = f"{len(parts.copies):,} were left out" if len(parts.copies) else "there were none"
        yield (
            f"Exact copies of {apart} examples are recognised ({left_out}); copies that were encoded anew, cropped or "
            "changed are not, and it is assumed that there are none."
        )
    if len(parts.repeated):
        yield (
            f"{len(parts.repeated):,} exact copies of counted examples were dropped; the rest is assumed to be "
            "independent draws."
        )
    if problem.repetitions:
        yield (
            f"{problem.repetitions:,} of the counted examples are exact copies of other counted examples. They are "
            "assumed to be independent draws all the same; copies that somebody made are not (--duplicates drop counts "
            "each once)."
        )


def _on_theta0(problem: Problem) -> Iterator[str]:
    """Yield sentences on the weights that training started from."""
    start, counted = problem.blueprint.start, len(problem.sample)
    if start is None:
        return
    weights = "The weights theta0"
    if problem.kind.has_prior:
        yield (
            f"The prior, the weights theta0, was trained only on the {len(problem.partition.prior):,} examples "
            f"recorded for it, and was not chosen by looking at the {counted:,} that are counted."
        )
        weights = "The weights that the prior's training started from"
    if not problem.settings.has_source:
        return
    yield (
        f"{weights}, from what the run calls {quoted(start.origin)}, were not chosen by looking at the {counted:,} "
        "examples."
    )
    yield (
        "The data that theta0 was trained on, what was left out of them, and the settings of that training were not "
        "chosen by looking at them either."
    )
    yield from _on_its_lineage(start, problem.task.dataset)
    if excluded := len(problem.partition.excluded):
        yield (
            f"{excluded:,} examples that theta0 was trained on, in the same form or another, were removed before "
            "counting: the certificate is about other examples."
        )
    if not start.seen_is_complete:
        others = "any others of them" if excluded else "any of them"
        yield f"{NOT_SEEN} {others}: not all of its training data are available to compare."
    yield (
        "Copies of images that theta0 was trained on are recognised if both were made from the same bytes: unchanged, "
        "as 0 .. 1 or -1 .. 1, repeated in three channels, in a frame of equal width, or as the program fits images to "
        "a network; if the bytes have at least 16 values, also at another scale, as negatives, as luma, or as svhn28 "
        "is made from svhn. Copies of texts are recognised if they have the same words, however they were split or "
        "cut. Other copies are not recognised, such as images encoded anew, resized, cropped otherwise or changed, or "
        "rows of a table in other units; it is assumed that there are none."
    )


def _on_its_lineage(start: Start, dataset: str) -> Iterator[str]:
    """Yield sentences on the trainings that led to theta0."""
    siblings = catalogue.dataset_entry(dataset).siblings
    named = dict.fromkeys(name for training in start.lineage for name in training.dataset.split(","))
    yield from (row.assumes for name in named if (row := catalogue.DATASETS.get(name)) and row.assumes)
    for training in start.lineage:
        if training.dataset in siblings:
            yield (
                f"{dataset} has the pictures of {training.dataset}, on which theta0 was trained: pictures that theta0 "
                "has seen are recognised and left out."
            )
        if training.permuted:
            yield (
                f"The permutation that selected examples of {dataset_in_words(training.dataset)} for the training of "
                "theta0 was not chosen by looking at the examples that are counted here."
            )


def _on_the_network(problem: Problem, network: NetworkFacts) -> Iterator[str]:
    """Yield sentences on the network, and on the code that defines it."""
    model = problem.configuration.model_name
    if problem.task.brought:
        yield (
            f"The network {problem.task.brought.name}, brought by the user, was not chosen by looking at these "
            "examples, and is a function of one example at a time; this was tested on a few examples only."
        )
    elif not network.defined_by.startswith("pactl "):
        yield (
            f"The network {model} is what {network.defined_by} defines; that version was not chosen by "
            "looking at the examples."
        )
