"""The table of networks, and their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pactl_cli.catalogue.objects import is_handed
from pactl_cli.catalogue.references import CODE, parse_reference
from pactl_cli.catalogue.tables import Row, Table
from pactl_cli.errors import MissingError, PactlError


@dataclass(frozen=True)
class Model(Row):
    """A network.

    Attributes:
        made_by: a function of the number of classes, the specification of inputs and the width.
        width: its default base width; None if it has none.
        batch_statistics: whether it has BatchNorm.
        aliases: its names in published work.
        package: the package that defines it.
        arguments: the arguments that `made_by` takes before all others.
    """

    width: int | None = None
    batch_statistics: bool = False
    aliases: tuple[str, ...] = ()
    package: str = "pactl"
    arguments: tuple[str, ...] = ()


_OWN = "pactl_cli.models.networks"
_RESNETS = "pactl_cli.models.resnets"
_LENET5 = "two 5x5 convolutions and two dense layers; 431,080 parameters on MNIST"
_FC = "two hidden layers; 199,210 parameters on MNIST"
_LAYER13S = "nine 3x3 convolutions with BatchNorm; 63,738 parameters on CIFAR-10"
_LENET = "two 5x5 convolutions and three dense layers; 44,426 parameters on MNIST"
_RESNET20 = "nine residual blocks, shortcuts without weights; 269,818 parameters on CIFAR-10"
_RESNET18K = "ResNet-18 for small images; 11,173,962 parameters on CIFAR-10"
_BAG = "the mean of the vectors of a text's tokens, and a dense layer; for sequences of tokens"
_CONVNET = "three 3x3 convolutions with BatchNorm, and a dense layer; 29,178 parameters on MNIST"
_MLP = "one hidden layer, with a linear skip connection; for tables"

TIMM = "timm"
"""The package whose networks are `timm:NAME`; they are too many for rows of their own."""

OWN_MODELS = (
    Model("lenet5", _LENET5, f"{_OWN}:lenet5", 20, aliases=("LeNet5",)),
    Model("fc", _FC, f"{_OWN}:fc", 200, aliases=("fc_784_10",)),
    Model("layer13s", _LAYER13S, f"{_OWN}:layer13s", 8, True, ("Layer13s",)),
    Model("lenet", _LENET, f"{_OWN}:lenet", 6, aliases=("LeNet",)),
    Model("resnet20", _RESNET20, f"{_RESNETS}:resnet20", 16, True),
    Model("resnet18k", _RESNET18K, f"{_RESNETS}:resnet18k", 64, True),
    Model("mlp", _MLP, f"{_OWN}:mlp", 64),
    Model("bag", _BAG, f"{_OWN}:bag", 64),
    Model("convnet", _CONVNET, f"{_OWN}:convnet", 16, True),
)

_TORCHVISION = """
squeezenet1_0 1248424 | efficientnet_b0 5288548 bn | efficientnet_b1 7794184 bn | alexnet 61100840
convnext_base 88591464 | convnext_large 197767336 | convnext_small 50223688 | convnext_tiny 28589128
densenet121 7978856 bn | densenet161 28681000 bn | densenet169 14149480 bn | densenet201 20013928 bn
efficientnet_b2 9109994 bn | efficientnet_b3 12233232 bn | efficientnet_b4 19341616 bn | efficientnet_b5 30389784 bn
efficientnet_b6 43040704 bn | efficientnet_b7 66347960 bn | efficientnet_v2_l 118515272 bn
efficientnet_v2_m 54139356 bn | efficientnet_v2_s 21458488 bn | googlenet 6624904 bn | inception_v3 23834568 bn
maxvit_t 30919624 bn | mnasnet0_5 2218512 bn | mnasnet0_75 3170208 bn | mnasnet1_0 4383312 bn | mnasnet1_3 6282256 bn
mobilenet_v2 3504872 bn | mobilenet_v3_large 5483032 bn | mobilenet_v3_small 2542856 bn
regnet_x_16gf 54278536 bn | regnet_x_1_6gf 9190136 bn | regnet_x_32gf 107811560 bn | regnet_x_3_2gf 15296552 bn
regnet_x_400mf 5495976 bn | regnet_x_800mf 7259656 bn | regnet_x_8gf 39572648 bn | regnet_y_128gf 644812894 bn
regnet_y_16gf 83590140 bn | regnet_y_1_6gf 11202430 bn | regnet_y_32gf 145046770 bn | regnet_y_3_2gf 19436338 bn
regnet_y_400mf 4344144 bn | regnet_y_800mf 6432512 bn | regnet_y_8gf 39381472 bn
resnet101 44549160 bn | resnet152 60192808 bn | resnet18 11689512 bn | resnet34 21797672 bn | resnet50 25557032 bn
resnext101_32x8d 88791336 bn | resnext101_64x4d 83455272 bn | resnext50_32x4d 25028904 bn
shufflenet_v2_x0_5 1366792 bn | shufflenet_v2_x1_0 2278604 bn | shufflenet_v2_x1_5 3503624 bn
shufflenet_v2_x2_0 7393996 bn | squeezenet1_1 1235496
swin_b 87768224 | swin_s 49606258 | swin_t 28288354 | swin_v2_b 87930848 | swin_v2_s 49737442 | swin_v2_t 28351570
vgg11 132863336 | vgg11_bn 132868840 bn | vgg13 133047848 | vgg13_bn 133053736 bn
vgg16 138357544 | vgg16_bn 138365992 bn | vgg19 143667240 | vgg19_bn 143678248 bn
vit_b_16 86567656 | vit_b_32 88224232 | vit_h_14 632045800 | vit_l_16 304326632 | vit_l_32 306535400
wide_resnet101_2 126886696 bn | wide_resnet50_2 68883240 bn
"""
"""torchvision's classification models: name, parameters for 1,000 classes in colour, `bn` where there is BatchNorm."""

_TORCHVISION_ALIASES = {"squeezenet1_0": ("squeezenet", "SqueezeNet"), "efficientnet_b0": ("surgery_efficientnet_b0",)}


def _torchvision_models() -> Iterator[Model]:
    """Yield a row for each entry of the table above."""
    for entry in _TORCHVISION.replace("\n", "|").strip("|").split("|"):
        name, parameters, *mark = entry.split()
        yield Model(
            name,
            f"torchvision's; {int(parameters):,} parameters for 1,000 classes in colour",
            "pactl_cli.models.torchvision_models:torchvision_network",
            batch_statistics=bool(mark),
            aliases=_TORCHVISION_ALIASES.get(name, ()),
            package="torchvision",
            arguments=(name,),
        )


MODELS = Table("--model-name", "Networks", (*OWN_MODELS, *_torchvision_models()))

MODEL_CHOICES = (
    f"{', '.join(row.name for row in OWN_MODELS)}, a torchvision classification model, timm:NAME, "
    "or your own MODULE:FUNCTION"
)


def model_name(text: str) -> str:
    """Return the name of a network, given its name, `torchvision:NAME`, a published alias or `module:function`.

    Raises:
        PactlError: if there is no such network.
    """
    packages = frozenset(row.package for row in MODELS.values())
    reference = parse_reference(text, packages | {TIMM})
    if reference.scheme == TIMM and re.fullmatch(r"\w+(\.\w*)?", reference.name):
        return f"{TIMM}:{reference.name.partition('.')[0]}"  # the rest names weights
    if reference.scheme in packages and reference.name in MODELS:
        text = reference.name
    if reference.scheme == CODE:
        return text
    if ":" in text and text not in MODELS:
        raise PactlError(f"--model-name {text!r} is not a module and a function", "write MODULE:FUNCTION")
    aliases = {alias: row.name for row in MODELS.values() for alias in row.aliases}
    return MODELS.resolve(aliases.get(text, text), MODEL_CHOICES)


def model_entry(name: str) -> Model:
    """Return the row of a network, from the table or made for one of timm.

    Raises:
        KeyError: if there is none.
    """
    package, _, own = name.partition(":")
    if package != TIMM:
        return MODELS[name]
    return Model(name, "timm's", "pactl_cli.models.timm_models:timm_network", package=TIMM, arguments=(own,))


def is_brought(name: str) -> bool:
    """Return True if a name stands for the user's own code, as it belongs to no row and to no package."""
    return name not in MODELS and parse_reference(name, frozenset({TIMM})).scheme == CODE


def standing_for(named: str | None, recorded: str | None) -> str | None:
    """Return the recorded name if it was handed over from Python and the user now names code, else the named one."""
    return recorded if is_handed(recorded) and named is not None and is_brought(named) else named


def require_named(needed: str | None, named: str | None, whose: str) -> None:
    """Raise MissingError if a network is code that the user has not named on the command line.

    Args:
        needed: the name of the network; None if unknown.
        named: the network that the user has named.
        whose: whose network it is, for the message.
    """
    if needed is not None and is_brought(needed) and standing_for(named, needed) != needed:
        if is_handed(needed):
            hint = "hand it over again, or name it: --model-name MODULE:FUNCTION"
            raise MissingError(f"the network of {whose} was handed over from Python, as {needed}", hint)
        raise MissingError(
            f"the network of {whose} is code, {needed}, which is not loaded unasked",
            f"if you trust it: --model-name {needed}",
        )
