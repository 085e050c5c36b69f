"""The settings of a run, validated before anything is loaded; the command line's options are made from these models."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from pactl_cli import catalogue
from pactl_cli.certificate.format import DEFAULT_SEED, MOST_DELTAS
from pactl_cli.certificate.name_patterns import NamePattern
from pactl_cli.certificate.questions import (
    ABSTAIN,
    ABSTAIN_ERROR,
    COST,
    ERROR,
    GROUPS,
    SHOWN,
    Question,
    Wanted,
    listed,
)
from pactl_cli.errors import option_name
from pactl_cli.runs.fields import (
    CERTIFICATE,
    DATA,
    MACHINE,
    NETWORK,
    QUANTISATION,
    SUBSPACE,
    TRAINING,
    Settings,
    checked,
    named_in,
    setting,
)

MAX_SEED = 2**63 - 1
MAX_WORKERS = 64

DatasetName = Annotated[str, checked(catalogue.dataset_entry)]
ModelName = Annotated[str, checked(catalogue.model_name)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
_DEVICE = setting("auto", MACHINE, "auto, cpu, cuda, cuda:1 or mps")
_DATA_DIR = setting(None, DATA, "folder of named data sets", shown="$PACTL_DATA_DIR or the cache")
_BY_DATASET = "by data set"
_IN_FILES_ALONE = setting(None, "", "the run that this one continues")


class TrainSettings(Settings):
    """The settings of a trained run, enough to run it again; None stands for a default that is filled in later."""

    command = "train"

    dataset: DatasetName = setting("digits", DATA, "a name, or npz:, folder:, csv: or parquet:PATH")
    data_dir: Path | None = _DATA_DIR
    image_size: int | None = setting(None, DATA, "side of images; paid for", ge=1, le=4096, shown="own, or source's")
    channels: Literal["first", "last"] | None = setting(None, DATA, "channel axis, first or last", shown="by shape")
    label: str | None = setting(None, DATA, "a table's column of labels", shown="none")
    text: str | None = setting(None, DATA, "a table's column of texts", shown="none")
    missing: Literal["refuse", "constant"] = setting("refuse", DATA, "refuse, or constant: fill in 0")
    categories: dict[str, tuple[str, ...]] | None = setting(
        None,
        DATA,
        "a table's categories, YAML",
        shown="calibration's",
        metavar="FILE",
    )
    tokenizer: str = setting("bytes", DATA, "bytes, words or a file")
    sequence_length: int = setting(256, DATA, "tokens read of each text", ge=1, le=1 << 16)
    text_form: Literal["padded", "bagged", "masked"] = setting("padded", DATA, "padded, bagged or masked")
    fonts: Path | None = setting(None, DATA, "folder of fonts, for glyphs", shown="installed")
    class_names: tuple[str, ...] | None = setting(None, "", "names of the classes in the data")
    train_subset: float = setting(1.0, DATA, "share used as S; negative: rest", ge=-1, le=1)
    indices_path: Path | None = setting(None, DATA, "a permutation, .npy", shown="a fixed one")
    label_noise: float = setting(0.0, DATA, "share of random labels; paid for", ge=0, le=1)
    duplicates: Literal["keep", "drop", "refuse"] = setting("keep", DATA, "exact copies: keep, drop, refuse")
    calibration_examples: int | None = setting(None, DATA, "left out of S, for statistics", ge=0, shown="512 or 0")
    normalise: Literal["source", "fixed", "calibration", "published"] | None = setting(
        None, DATA, "source, fixed, calibration or published", shown="source, fixed; tables: calibration"
    )
    model_name: ModelName | None = setting(None, NETWORK, "a name or your own MODULE:FUNCTION", shown=_BY_DATASET)
    base_width: int | None = setting(None, NETWORK, "width of the network", ge=1, le=4096, shown="the network's own")
    source: str | None = setting(None, NETWORK, "what to start from: transfer's SOURCE", shown="the seed")
    source_dataset: DatasetName | None = setting(None, DATA, "a source run's own data", shown="as named")
    weights: Path | None = setting(None, NETWORK, "the source's weights: a file", shown="downloaded")
    head: str | None = setting(None, NETWORK, "the source's head, a layer", shown="its last")
    freeze: Annotated[str, checked(NamePattern)] = setting(
        "", NETWORK, "names of frozen weights; paid for", metavar="REGEX", shown="none"
    )
    lora_rank: int = setting(0, NETWORK, "rank of changes of dense layers; paid for", ge=0, le=4096)

    intrinsic_dim: int | None = setting(
        None,
        SUBSPACE,
        "d; 0: all weights, or theta0 alone",
        ge=0,
        shown="one for ten examples",
    )
    intrinsic_mode: Annotated[str, named_in(catalogue.PROJECTORS)] = setting(
        next(iter(catalogue.PROJECTORS)), SUBSPACE, "projector"
    )
    seed: int = setting(DEFAULT_SEED, SUBSPACE, "seed of all random draws", ge=0, le=MAX_SEED)

    optimizer: Annotated[str, named_in(catalogue.RECIPES)] = setting("adam_cos", TRAINING, "optimiser and schedule")
    continued: Path | None = setting(None, TRAINING, "a run to train for more epochs", shown="none", metavar="RUN")
    epochs_before: int = setting(0, "", "epochs of the continued run", ge=0)
    epochs: int | None = setting(None, TRAINING, "passes over S", ge=1, shown=_BY_DATASET)
    batch_size: int | None = setting(None, TRAINING, "examples per step", ge=1, shown=_BY_DATASET)
    lr: float | None = setting(None, TRAINING, "learning rate", gt=0, shown=_BY_DATASET)
    momentum: float = setting(0.9, TRAINING, "momentum of the SGD recipes", ge=0, lt=1)
    weight_decay: float = setting(5e-4, TRAINING, "decay of the SGD and AdamW recipes", ge=0)
    warmup_epochs: float = setting(0.0, TRAINING, "warm-up from 0 before the schedule", ge=0)
    warmup_lr: float | None = setting(None, TRAINING, "learning rate after the warm-up", gt=0, follows="lr")
    augment: Annotated[str, named_in(catalogue.VIEWS)] | None = setting(
        None, TRAINING, "random view of images", shown=_BY_DATASET
    )
    smoothing: float = setting(0.0, TRAINING, "label smoothing", ge=0, lt=1)
    ema: float = setting(0.0, TRAINING, "decay of the average of weights", ge=0, lt=1)
    rate_weight: float = setting(0.0, TRAINING, "price of the message's bits in the loss", ge=0)
    rate_from: float = setting(0.5, TRAINING, "share of the run before that price", ge=0, le=1)

    device: Device = _DEVICE
    precision: Literal["auto", "fp32", "tf32", "bf16"] = setting("auto", MACHINE, "auto, fp32, tf32 or bf16")
    compile: bool = setting(False, MACHINE, "a training step as one CUDA graph")
    num_workers: Annotated[int, Field(ge=0, le=MAX_WORKERS)] | Literal["auto"] = setting(
        "auto", MACHINE, "processes that decode large data"
    )

    @model_validator(mode="before")
    @classmethod
    def _named_by_source(cls, values: Any) -> Any:
        """Let a source that is the user's own network name the network."""
        code = catalogue.code_of(values.get("source"))
        return values | {"model_name": code} if code and values.get("model_name") is None else values

    @field_validator("label_noise")
    @classmethod
    def _four_digits(cls, rate: float) -> float:
        if rate != round(rate, 4):
            raise ValueError("must have at most four decimal digits, as many as a message carries")
        return rate

    @field_validator("train_subset")
    @classmethod
    def _some_examples(cls, share: float) -> float:
        if share == 0:
            raise ValueError("must not be 0: it leaves no example")
        return share

    @property
    def has_source(self) -> bool:
        """Whether training starts from a source: inputs are fitted to it; without calibration its statistics stay."""
        return self.source is not None

    @model_validator(mode="after")
    def _sources_fit(self) -> Self:
        """Check the settings about a source, and that data which can only make a source do so."""
        if not self.has_source:
            said = [n for n in ("source_dataset", "weights", "head") if getattr(self, n) is not None]
            if said or self.normalise == "source":
                name = said[0] if said else "normalise"
                raise ValueError(f"{option_name(name)} {getattr(self, name)}: there is no --source")
        makes_source = self.command == "train" and self.intrinsic_dim == 0
        if self.command == "train" and self.has_source and not makes_source:
            raise ValueError(
                f"--source {self.source}: train makes a better source of it with --intrinsic-dim 0; to certify, "
                f"pactl transfer {self.source}"
            )
        if catalogue.dataset_entry(self.dataset).is_source and not makes_source:
            raise ValueError(
                f"--dataset {self.dataset}: its examples are no independent draws, and can only make a source (train "
                "--intrinsic-dim 0)"
            )
        if len(catalogue.joined(self.dataset)) > 1 and not makes_source:
            raise ValueError(
                f"--dataset {self.dataset}: several data sets can only make a source (train --intrinsic-dim 0); a "
                "certificate is about one"
            )
        return self


class TransferSettings(TrainSettings):
    """The settings of a transfer."""

    command = "transfer"
    source: str = setting("", NETWORK, "a run, torchvision:NAME, timm:NAME, ...")
    continued: Path | None = _IN_FILES_ALONE


class PriorSettings(TrainSettings):
    """The settings of a run with a data-dependent prior."""

    command = "prior"
    train_subset: float = setting(
        0.5, DATA, "the prior's share of the training set, S is the rest; negative: all but that share", ge=-1, le=1
    )
    prior_epochs: int | None = setting(None, TRAINING, "passes over the prior's examples", ge=0, follows="epochs")
    prior_lr: float | None = setting(None, TRAINING, "learning rate of the prior", gt=0, follows="lr")
    continued: Path | None = _IN_FILES_ALONE


MAX_LEVELS = 256
AUTOMATIC_LEVELS = "3,5,7,11,15"


def _level_counts(text: str) -> str:
    """Return a checked list of numbers of levels."""
    counts = (AUTOMATIC_LEVELS if text == "auto" else text).split(",")
    if not all(count.strip().isdecimal() and 1 <= int(count) <= MAX_LEVELS for count in counts):
        raise ValueError(f"must be auto, or whole numbers from 1 to {MAX_LEVELS} with commas between them")
    if len(counts) > MAX_LEVELS:
        raise ValueError(f"must be at most {MAX_LEVELS} numbers")
    return ",".join(str(int(count)) for count in counts) if text != "auto" else text


def _deltas(text: str) -> str:
    """Return a checked list of failure probabilities."""
    try:
        deltas = [float(part) for part in text.split(",")]
    except ValueError:
        deltas = []
    if not deltas or not all(0 < delta <= 0.5 for delta in deltas):
        raise ValueError("must be above 0 and at most 0.5, or several such numbers with commas between them")
    if len(set(deltas)) < len(deltas) or len(deltas) > MOST_DELTAS:
        raise ValueError(f"must name each number once, and at most {MOST_DELTAS}")
    return text


MAX_PRICES = 8
AUTOMATIC_PRICES = 2


def _prices(text: str) -> float | str:
    """Return checked prices of a bit: one number, or `auto`, `auto:N` or a list of numbers and `auto` as text."""
    automatic, _, many = text.partition(":")
    if automatic == "auto" and many.isdecimal() and 1 <= int(many) <= MAX_PRICES:
        return f"auto:{int(many)}"
    try:
        found = [part if part.strip() == "auto" else float(part) for part in text.split(",")]
    except ValueError:
        found = [-1.0]
    if len(found) > MAX_PRICES or not all(part == "auto" or 0 <= float(part) < inf for part in found):
        raise ValueError("must be auto, auto:N, or 0 or more, or several such numbers with commas between them")
    if len(found) == 1:
        return found[0]
    return ",".join(part.strip() if isinstance(part, str) else f"{part:g}" for part in found)


class BoundSettings(Settings):
    """The settings of quantising and certifying a trained run."""

    command = "bound"
    codebook: Annotated[str, named_in(catalogue.CODEBOOKS)] = setting(
        "grid", QUANTISATION, f"how coordinates are rounded: {', '.join(catalogue.CODEBOOKS)}"
    )
    levels: Annotated[str, BeforeValidator(str), AfterValidator(_level_counts)] = setting(
        "7", QUANTISATION, "levels of kmeans and bins; auto or a list such as 5,7,11 tries several"
    )
    use_kmeans: bool | None = setting(
        None, QUANTISATION, "the published flag: --codebook kmeans or bins", shown="as --codebook says"
    )
    quant_epochs: int = setting(30, QUANTISATION, "epochs of fine-tuning through the quantiser", ge=0)
    lr: float = setting(0.2, QUANTISATION, "learning rate of fine-tuning, in units of the coordinates' spread", gt=0)
    rate_weight: Annotated[float | str, BeforeValidator(str), AfterValidator(_prices)] = setting(
        "auto", QUANTISATION, "price of the message's bits in the loss; auto:N or a list such as 2,4,8 tries several"
    )
    batch_size: int | None = setting(None, QUANTISATION, "examples per step", ge=1, shown="as trained")
    delta: Annotated[float | str, BeforeValidator(str), AfterValidator(_deltas)] = setting(
        "0.05",
        CERTIFICATE,
        "probability that the certificate fails, > 0 and <= 0.5; in a list such as .05,.01 the first chooses the "
        "message, and all hold at once",
    )
    misc_extra_bits: Annotated[float, AfterValidator(lambda bits: bits + 0.0)] = setting(  # -0.0 becomes 0.0
        0.0, CERTIFICATE, "bits for choices that the message does not carry", ge=0
    )
    certify: Annotated[tuple[str, ...], BeforeValidator(listed)] = setting(
        (),
        CERTIFICATE,
        f"what to guarantee jointly with the error: {SHOWN}; repeat the option for several",
        metavar="WHAT",
        shown="none",
    )
    headline: str = setting(ERROR, CERTIFICATE, "the guarantee that chooses the message", metavar="WHAT")
    abstain_error: float | None = setting(
        None, CERTIFICATE, "error on accepted examples that abstaining aims at", gt=0, lt=1, shown=f"{ABSTAIN_ERROR}"
    )
    groups: Path | None = setting(None, CERTIFICATE, "file with the group of each training example, for groups")
    cost: Path | None = setting(None, CERTIFICATE, "file with a matrix of costs from 0 to 1, for cost")
    compare_posthoc: bool = setting(False, CERTIFICATE, "compare with the published path, without fine-tuning")
    data_dir: Path | None = setting(
        None, DATA, "folder of named data sets", shown="where training found them, if their checksums are known"
    )
    dataset: DatasetName | None = setting(
        None, DATA, "new place of your own data: csv:PATH, npz:PATH, ...", shown="where training found them"
    )
    tokenizer: str | None = setting(None, DATA, "new place of the runs' tokenizer", shown="where training found it")
    model_name: ModelName | None = setting(
        None,
        NETWORK,
        "the runs' network, if it is your own code or very large",
        shown="none is loaded unasked",
    )
    device: Device = _DEVICE

    @property
    def deltas(self) -> tuple[float, ...]:
        """The failure probabilities, that of the headline first."""
        return tuple(map(float, str(self.delta).split(",")))

    @property
    def question(self) -> Question:
        """The guarantees that are asked for."""
        wanted = [Wanted.parse(text) for text in self.certify]
        implied = {ABSTAIN: self.abstain_error, GROUPS: self.groups, COST: self.cost}
        wanted += [Wanted(what) for what, given in implied.items() if given is not None]
        return Question.of(wanted, self.headline, self.abstain_error or ABSTAIN_ERROR)

    @property
    def groups_file(self) -> Path | None:
        """The file with the groups."""
        return self.groups or self._file_of(GROUPS)

    @property
    def cost_file(self) -> Path | None:
        """The file with the costs."""
        return self.cost or self._file_of(COST)

    def _file_of(self, what: str) -> Path | None:
        """Return the file that `--certify` names with a guarantee."""
        files = [each.file for each in map(Wanted.parse, self.certify) if each.what == what and each.file]
        return Path(files[0]) if files else None

    @model_validator(mode="after")
    def _question_makes_sense(self) -> Self:
        try:
            question = self.question
        except ValueError as error:
            said = str(error)
            raise ValueError(said if said.startswith("--") else f"--certify: {said}") from error
        for what, file in ((GROUPS, self.groups_file), (COST, self.cost_file)):
            if what in question.shares and file is None:
                raise ValueError(f"--certify {what} needs a file: --{what} FILE")
        return self

    @property
    def made_with(self) -> dict[str, str | int | float | None]:
        """The settings that decide which message is found, and that no receiver needs."""
        names = ("quant_epochs", "lr", "rate_weight", "batch_size")
        levels = self.levels if catalogue.CODEBOOKS[self.effective_codebook].takes_levels else None
        return {"codebook": self.effective_codebook, "levels": levels} | {name: getattr(self, name) for name in names}

    @property
    def fixed_prices(self) -> list[float | None]:
        """The prices to try; None for the automatic one."""
        listed = str(self.rate_weight).split(",") if ":" not in str(self.rate_weight) else ["auto"]
        return [None if price == "auto" else float(price) for price in listed]

    @property
    def automatic_prices(self) -> int:
        """The number of prices that the program chooses to try; 0 if they are listed."""
        automatic, _, many = str(self.rate_weight).partition(":")
        return int(many or AUTOMATIC_PRICES) if automatic == "auto" else 0

    @property
    def level_counts(self) -> list[int | None]:
        """The numbers of levels to try; [None] if the codebook chooses its own."""
        if not catalogue.CODEBOOKS[self.effective_codebook].takes_levels:
            return [None]
        return [int(count) for count in (AUTOMATIC_LEVELS if self.levels == "auto" else self.levels).split(",")]

    @model_validator(mode="after")
    def _levels_are_free(self) -> Self:
        if "codebook" in self.model_fields_set and self.codebook != self.effective_codebook:
            flag = f"--{'' if self.use_kmeans else 'no-'}use-kmeans"
            raise ValueError(f"--codebook {self.codebook} and {flag} exclude each other: give one of them")
        takers = [row.name for row in catalogue.CODEBOOKS.values() if row.takes_levels]
        if "levels" in self.model_fields_set and self.effective_codebook not in takers:
            name = self.effective_codebook
            raise ValueError(f"--levels is for --codebook {' or '.join(takers)}: a {name} has as many as it needs")
        return self

    @property
    def effective_codebook(self) -> str:
        """The codebook, which the published flag overrides."""
        if self.use_kmeans is None:
            return self.codebook
        return "kmeans" if self.use_kmeans else "bins"
