"""The options of the published scripts and their counterparts here, for errors and `docs/published-scripts.md`."""

from __future__ import annotations

import re
from typing import Any

OPTIONS = (
    (
        "`--log_dir`",
        "`--out`",
        "a [run directory](run-directory.md): `net.cfg.yml` is now `config.yml`, `sgd_model.pt` is now "
        "`checkpoint.safetensors`",
    ),
    (
        "`--prenet_cfg_path`, `--cfg_path`, `--transfer`",
        "the argument of `transfer` and `bound`",
        "a run directory, or any file in it",
    ),
    ("`--data_dir`, `DATADIR`", "`--data-dir`, `PACTL_DATA_DIR`", "see [data sets](data-sets.md) for the layout"),
    (
        "`--dataset`",
        "`--dataset`",
        "`digits` if not given; also `npz:PATH`, `folder:PATH`, `csv:PATH` and `parquet:PATH`",
    ),
    (
        "`--model-name`",
        "`--model-name`",
        "old names are understood ([names](catalogue.md)), those of timm are gone; `module:function` names your own",
    ),
    (
        "`--base_width`, `--seed`, `--batch_size`, `--epochs`, `--lr`, `--momentum`, `--weight_decay`, "
        "`--warmup_epochs`, `--warmup_lr`",
        "the same, of `train`, `transfer` and `prior`",
        "epochs, batch and rate have defaults for each data set; without `--warmup-lr` the warm-up ends at `--lr`",
    ),
    (
        "`--optimizer`",
        "`--optimizer`",
        "the same recipes; `adam_cos` if not given; phases are shares of the run, not numbers of epochs",
    ),
    ("`--intrinsic_dim`", "`--intrinsic-dim`", "0 trains all weights; by default one dimension for ten examples"),
    (
        "`--intrinsic_mode`",
        "`--intrinsic-mode`",
        "the same ten; `rdkronqr` if not given; `dense` has entries of one size and random signs; the same seed gives "
        "a different P",
    ),
    (
        "`--train_subset`, `--indices_path`",
        "the same, of `train`, `transfer` and `prior`",
        "without a file the permutation has a fixed seed and is the same every time; `prior` itself hands the "
        "complement to `bound`",
    ),
    (
        "`--label_noise`",
        "`--label-noise`",
        "applied once, from a separate random stream; its rate, four digits, costs 14 bits",
    ),
    ("`--num_workers`", "`--num-workers`", "only streamed data need workers"),
    ("`--device_id`", "`--device cuda:1`, `CUDA_VISIBLE_DEVICES`", "CPUs work, too"),
    (
        "`--levels`, `--quant-epochs`, `--use_kmeans`",
        "the same, of `bound`",
        "used with `--codebook kmeans` or `bins`; the default is a grid, which needs no number of levels",
    ),
    (
        "`--misc-extra-bits`",
        "`--misc-extra-bits` of `bound`",
        "never negative; not needed for choices that the message encodes",
    ),
    ("`--lr` of `compute_bound.py`", "`--lr` of `bound`", "in units of the coordinates' spread"),
    ("`--posterior_scale`, `--encoding_type`", "gone", "neither was in use"),
)
"""The options there, the options here, and what has changed."""


def options_table() -> str:
    """Return the table for the documentation, in Markdown."""
    lines = [("there", "here", "what has changed"), ("---",) * 3, *OPTIONS]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def hint(error: Any) -> str:
    """Return the counterpart of an unknown option, if the published scripts have it; "" for any other error."""
    option = str(getattr(error, "option_name", "")).replace("_", "-")
    for there, here, changed in OPTIONS:
        if option and f"`{option}`" in there.replace("_", "-"):
            return f"of the published scripts; here: {_plain(here)}; {_plain(changed)}"
    return ""


def _plain(text: str) -> str:
    """Return Markdown without its marks."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("`", "")
