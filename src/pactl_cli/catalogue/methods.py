"""The tables of projectors, codebooks, bounds, recipes, views and sources."""

from __future__ import annotations

from dataclasses import dataclass

from pactl_cli.catalogue.networks import TIMM
from pactl_cli.catalogue.references import CODE, Reference, parse_reference
from pactl_cli.catalogue.tables import Row, Table

_KRONECKER, _FILM = "pactl_cli.subspace.kronecker", "pactl_cli.subspace.film"

HEAD_ALONE = "head"
"""The projector on the head alone, which keeps all other weights."""

PROJECTORS = Table(
    "--intrinsic-mode",
    "Projectors",
    (
        Row(
            "rdkronqr",
            "Kronecker product of two orthonormal factors, rows permuted; any size",
            f"{_KRONECKER}:rdkronqr",
        ),
        Row("dense", "random signs; small networks", "pactl_cli.subspace.dense:dense"),
        Row("sparse", "few random signs; small networks", "pactl_cli.subspace.sparse:sparse"),
        Row("fastfood", "diagonal and Hadamard matrices; any size", "pactl_cli.subspace.fastfood:fastfood"),
        Row(
            "rkron",
            "sum of two one-sided Gaussian factors, rows permuted; up to 2 sqrt(D) d = 2.7e9",
            f"{_KRONECKER}:rkron",
        ),
        Row("rdkron", "Kronecker product of two Gaussian factors, rows permuted; any size", f"{_KRONECKER}:rdkron"),
        Row("film", "random signs on normalisation layers and the head only", f"{_FILM}:film"),
        Row("filmrdkron", "rdkron and film together", f"{_FILM}:filmrdkron"),
        Row("filmrdkronqr", "rdkronqr and film together", f"{_FILM}:filmrdkronqr"),
        Row(
            "stfilmkronqr",
            "normalisation parameters directly, rdkronqr on the others; networks with normalisation",
            f"{_FILM}:stfilmkronqr",
        ),
        Row(HEAD_ALONE, "rdkronqr on the head alone, or each of its weights directly; any size", f"{_FILM}:head"),
    ),
)
"""`made_by` names a function of the layout, d, the seed and a name for random streams that returns a `Projector`."""


@dataclass(frozen=True)
class Codebook(Row):
    """A way to quantise.

    Attributes:
        made_by: a function of the number of levels, or of None, that returns a `Quantiser`.
        form: the `module:class` of the codebook in a message; rows with the same form only differ in how they find it.
        takes_levels: whether the user chooses the number of levels.
    """

    form: str
    takes_levels: bool = False


_FORMS, _QUANTISERS = "pactl_cli.certificate.codebook", "pactl_cli.subspace.quantise"

CODEBOOKS = Table(
    "--codebook",
    "Codebooks",
    (
        Codebook("grid", "equal steps about zero, of one learned size", f"{_QUANTISERS}:grid", f"{_FORMS}:Grid"),
        Codebook("kmeans", "free levels, started by k-means", f"{_QUANTISERS}:kmeans", f"{_FORMS}:FreeLevels", True),
        Codebook("bins", "free levels, started by uniform bins", f"{_QUANTISERS}:bins", f"{_FORMS}:FreeLevels", True),
    ),
)

_RISK_BOUNDS = "pactl_cli.certificate.risk_bounds"

BOUNDS = Table(
    "bounds",
    "Bounds",
    (
        Row("binomial", "exact inversion of the binomial tail: the headline", f"{_RISK_BOUNDS}:binomial_bound"),
        Row("kl", "inverse of the binary relative entropy, by Seeger and Maurer", f"{_RISK_BOUNDS}:kl_bound"),
        Row("catoni", "Catoni's, minimised over lambda: the published one", f"{_RISK_BOUNDS}:catoni_bound"),
        Row("mcallester", "McAllester's, by Pinsker's inequality", f"{_RISK_BOUNDS}:mcallester_bound"),
    ),
)
"""`made_by` names a function of errors, examples, bits and delta, all by name, that returns the bound."""

HEADLINE = "binomial"
"""The bound that a certificate states."""

_RECIPES = "pactl_cli.training.recipes"

RECIPES = Table(
    "--optimizer",
    "Recipes",
    (
        Row("adam_cos", "Adam, cosine to 0", f"{_RECIPES}:ADAM_COS"),
        Row("adam", "Adam, constant", f"{_RECIPES}:ADAM"),
        Row("adamw", "AdamW, cosine to lr/100", f"{_RECIPES}:ADAMW"),
        Row(
            "awsc",
            "Adam, warm-stable-cosine: linear from lr/100 for 1 %, constant to 15 %, cosine to lr/10",
            f"{_RECIPES}:AWSC",
        ),
        Row("sgd", "SGD with momentum, cosine to lr/100", f"{_RECIPES}:SGD_COS"),
        Row("sgd_cos", "the same as sgd", f"{_RECIPES}:SGD_COS"),
        Row("sgd_cos10", "SGD with momentum, cosine to lr/10", f"{_RECIPES}:SGD_COS10"),
        Row("sgd_only", "SGD with momentum, constant", f"{_RECIPES}:SGD_ONLY"),
        Row("ssc", "SGD, constant for a fifth, then cosine to lr/100", f"{_RECIPES}:SSC"),
        Row("wsc", "SGD, linear from lr/100 for 1 %, constant to 15 %, cosine to lr/10", f"{_RECIPES}:WSC"),
        Row("rmsprop", "RMSprop, cosine to 0", f"{_RECIPES}:RMSPROP"),
        Row("adamw_cycle", "AdamW, one cycle: up from lr/25 for 10 %, down to lr/250,000", f"{_RECIPES}:ADAMW_CYCLE"),
    ),
)
"""`made_by` names a `Recipe`."""


@dataclass(frozen=True)
class View(Row):
    """A random view of training examples, never of counted examples.

    Attributes:
        made_by: a function of an epoch's `pactl_cli.data.views.Draws`, the images of a batch, shape (m, C, H, W), and
            their indices among all examples, that returns as many images of that shape. If `per_image`, a function of
            one image and the height and width of the view, that draws from torch's own generator.
        per_image: whether it is drawn image by image: from a tensor or, for a file that is scaled, the whole picture.
    """

    per_image: bool = False


NO_VIEW = "none"
COLOUR_VIEW = "crop-mirror"
"""The default view of colour images of bytes, unless the data set has another."""

_VIEWS = "pactl_cli.data.views"
_DISTORTIONS = "pactl_cli.data.distortions"

VIEWS = Table(
    "--augment",
    "Views",
    (
        View(NO_VIEW, "each example as it is", f"{_VIEWS}:as_it_is"),
        View(
            COLOUR_VIEW, "a crop of the image in a black frame of four pixels, mirrored or not", f"{_VIEWS}:crop_mirror"
        ),
        View(
            "resized-crop", "a crop of 8 to 100 % of the area, resized, mirrored or not", f"{_VIEWS}:resized_crop", True
        ),
        View("crop", "the same crop as crop-mirror, not mirrored", f"{_VIEWS}:crop"),
        View("affine", "turned by at most 0.2 radians, sheared, scaled and shifted a little", f"{_DISTORTIONS}:affine"),
        View("elastic", "as affine, then bent by three sine waves", f"{_DISTORTIONS}:elastic"),
        View("trivial", "one random operation of torchvision's TrivialAugmentWide", "pactl_cli.data.trivial:trivial"),
    ),
)

RUN = "run"
"""The source that needs no scheme: its name is a path."""

SOURCES = Table(
    "SOURCE",
    "Sources",
    (
        Row(RUN, "the final weights of a run directory, named by its path", "pactl_cli.sources.trained_run:load"),
        Row("torchvision", "torchvision:NAME, a network that it pretrained", "pactl_cli.sources.torchvision:load"),
        Row(TIMM, "timm:NAME, a network that it pretrained; an optional extra", "pactl_cli.sources.timm:load"),
        Row(CODE, "your own network, with --weights FILE", "pactl_cli.sources.brought:load"),
    ),
)
"""`made_by` names a function of the source without its scheme, the settings of the run and the display of progress; it
returns the `Start`."""


def source_reference(text: str) -> Reference:
    """Return the scheme and the name of a source: a scheme of the table or else, for a path, a run directory.

    >>> source_reference("torchvision:resnet18")
    Reference(scheme='torchvision', name='resnet18')
    >>> source_reference("runs/mnist").scheme
    'run'
    >>> source_reference("nets:small").scheme
    'module:function'
    """
    reference = parse_reference(text, frozenset(SOURCES) - {RUN, CODE})
    return reference if reference.scheme in SOURCES else Reference(RUN, text)


def code_of(source: object) -> str | None:
    """Return the name of the user's own network if a source is one, else None."""
    return source if isinstance(source, str) and source_reference(source).scheme == CODE else None
