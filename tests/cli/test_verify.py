"""`pactl verify` finds every alteration of a run directory, and of the data."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Call = Callable[..., Any]

FILES = ("message.bin", "checkpoint.safetensors", "config.yml", "indices.npz", "bound.json")


@pytest.fixture
def disputed(pactl: Call) -> Call:
    """`disputed(run)`: verification fails with exit code 1 and one line, which is returned; None where it passes."""

    def check(run: Path) -> str | None:
        done = pactl("verify", run)
        return done.complaint(1) if done.code else None

    return check


def test_an_untouched_run_verifies(disputed: Call, certified: Path) -> None:
    assert disputed(certified) is None


# --- Plain alterations: the manifest is as it was ---------------------------------------------------------------------


def alterations(size: int, every: bool) -> list[int]:
    """Byte positions: the first, the middle, the last and some at random, or all."""
    return list(range(size)) if every else sorted({0, size // 2, size - 1, *random.Random(size).sample(range(size), 5)})


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])
@pytest.mark.parametrize("name", FILES)
def test_a_byte_that_was_turned(disputed: Call, certified: Path, name: str, every: bool) -> None:
    good = (certified / name).read_bytes()
    for place in alterations(len(good), every):
        changed = good[place] ^ (1 << place % 8)
        (certified / name).write_bytes(good[:place] + bytes([changed]) + good[place + 1 :])
        assert name in (disputed(certified) or ""), f"byte {place}"
    (certified / name).write_bytes(good)
    assert disputed(certified) is None


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_lengthened_or_removed(disputed: Call, certified: Path, name: str) -> None:
    good = (certified / name).read_bytes()
    for content in (good[: len(good) // 2], good[:-1], b"", good + b"\0", good + b"\n"):
        (certified / name).write_bytes(content)
        assert name in (disputed(certified) or "")
    (certified / name).unlink()
    assert name in (disputed(certified) or "")


def test_no_byte_of_the_manifest_leads_astray(pactl: Call, certified: Path) -> None:
    """Turned, it is refused as a bad run directory or as a disputed one, or it was of no account."""
    good = (certified / "manifest.json").read_bytes()
    for place in range(0, len(good), 29):
        (certified / "manifest.json").write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        done = pactl("verify", certified)
        assert not done.code or done.complaint(done.code)
        assert done.code in (0, 1, 2)


# --- Forgeries: the manifest agrees -----------------------------------------------------------------------------------


def test_without_any_fingerprints_every_file_still_counts(disputed: Call, certified: Path, agree: Call) -> None:
    """A forger may drop the manifest's fingerprints altogether."""
    agree(certified, files={})
    assert disputed(certified) is None
    for name in ("message.bin", "config.yml", "indices.npz", "bound.json"):
        good = (certified / name).read_bytes()
        for content in (good[: len(good) // 2], b"", bytes(len(good))):
            (certified / name).write_bytes(content)
            assert disputed(certified), name
        (certified / name).unlink()
        assert disputed(certified), name
        (certified / name).write_bytes(good)


Leaf = tuple[str | int, ...]


def leaves(value: Any, path: Leaf = ()) -> Iterator[tuple[Leaf, Any]]:
    """Every value in a JSON document that holds no others, with the way to it."""
    if isinstance(value, dict | list) and value:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def with_leaf(document: Any, path: Leaf, value: Any) -> Any:
    """A copy of the document with one value replaced."""
    copy = json.loads(json.dumps(document))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


def lies(value: Any) -> list[Any]:
    """Other values that a forger might write in the place of one."""
    match value:
        case bool():
            return [not value, int(value)]
        case int():
            return [value - 1, value + 1, 0 if value else 7, -1, value + 0.5, str(value), None, value == 1]
        case float():
            return [value * 0.9, value * 1.1 + 1e-3, value * (1 + 1e-6) + 1e-8, 0.5 if value == 0 else 0, None, "x"]
        case str():
            return ["", value[:-1], value + " ", value.swapcase() if value.swapcase() != value else "x", None, 3]
        case None:
            return [0, 0.5, "x", []]
        case _:
            return [None, [1], {"x": 1}, "x"]


@pytest.fixture
def rich(pactl: Call, trained: Path) -> Path:
    """A certified run whose certificate has every part."""
    options = ("--quant-epochs", 3, "--misc-extra-bits", 3.5, "--compare-posthoc", "--codebook", "kmeans")
    assert pactl("bound", trained, *options, "--delta", ".05,.001").code == 0
    return trained


UNCHECKED: dict[Leaf, float] = {
    ("train_nll_bits",): 1e-3,
    **{("side_information", "network", "answers", place): 1e-3 for place in range(6)},
}
"""Numbers that two machines may compute differently, and the relative difference that is allowed them."""


@pytest.mark.slow
def test_every_value_of_a_certificate_is_derived_anew(disputed: Call, rich: Path, agree: Call) -> None:
    """Each is changed alone, the manifest's fingerprint made to agree."""
    good = json.loads((rich / "bound.json").read_text())
    believed = []
    for path, value in leaves(good):
        for lie in lies(value) if path[0] != "made_with" else ():  # a note, which verify says it does not look at
            if json.dumps(lie) == json.dumps(value):
                continue
            if isinstance(lie, float) and path in UNCHECKED and abs(lie / value - 1) < UNCHECKED[path]:
                continue
            agree(rich, "bound.json", with_leaf(good, path, lie))
            if disputed(rich) is None:
                believed.append((".".join(map(str, path)), value, lie))
    assert not believed, "\n".join(map(str, believed))


@pytest.mark.parametrize("part", range(6))
def test_no_number_can_be_improved(disputed: Call, rich: Path, agree: Call, part: int) -> None:
    """A sixth of them: each lowered a little."""
    good = json.loads((rich / "bound.json").read_text())
    values = [(path, v) for path, v in leaves(good) if path[0] != "made_with"]
    numbers = [(path, v) for path, v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    assert len(numbers) > 36
    for path, value in numbers[part::6]:
        agree(rich, "bound.json", with_leaf(good, path, value - 1 if isinstance(value, int) else value * 0.9))
        assert value == 0.0 or disputed(rich), path


def test_parts_of_a_certificate_cannot_be_dropped_or_added(disputed: Call, rich: Path, agree: Call) -> None:
    good = json.loads((rich / "bound.json").read_text())
    changed = [{k: v for k, v in good.items() if k != dropped} for dropped in good]
    changed += [{**good, "note": "checked"}]
    changed += [with_leaf(good, ("assumptions",), good["assumptions"][1:])]
    changed += [with_leaf(good, ("assumptions",), [*good["assumptions"], "It is certain."])]
    changed += [with_leaf(good, ("side_information",), {})]
    changed += [with_leaf(good, ("ledger",), [])]
    changed += [with_leaf(good, ("ledger",), good["ledger"] * 2)]
    for document in changed:
        agree(rich, "bound.json", document)
        assert disputed(rich), document.keys() ^ good.keys() or document


def test_a_certificate_says_each_thing_once(disputed: Call, certified: Path, agree: Call) -> None:
    """Of a key that is given twice, one reader takes the first value and another the last."""
    text = (certified / "bound.json").read_text()
    agree(certified, "bound.json", re.sub(r"\{", '{"error_bound": 0.001, ', text, count=1))
    assert disputed(certified)


SETTINGS = {
    "seed": 138,
    "dataset": "digits",
    "train_subset": 0.8,
    "label_noise": 0.1,
    "calibration_examples": 3,
    "normalise": "published",
    "model_name": "layer13s",
    "base_width": 17,
    "intrinsic_dim": 21,
    "intrinsic_mode": "dense",
    "indices_path": "order.npy",
}
"""Settings of which something in the certificate speaks, and other values for them."""


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_matters(disputed: Call, certified: Path, agree: Call, tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "order.npy", np.arange(300)[::-1])
    text = (certified / "config.yml").read_text()
    forged = re.sub(rf"^{name}: .*$", f"{name}: {SETTINGS[name]}", text, flags=re.MULTILINE)
    assert forged != text
    agree(certified, "config.yml", forged)
    assert disputed(certified)


def test_settings_that_are_no_settings(disputed: Call, certified: Path, agree: Call) -> None:
    text = (certified / "config.yml").read_text()
    for forged in ("", "[]", text + "more: 1\n", text + "seed: 1\n", text.replace("lr: 0.1\n", ""), "a: &a [*a]"):
        agree(certified, "config.yml", forged)
        assert disputed(certified), forged


def test_indices_that_were_changed(disputed: Call, certified: Path, agree: Call) -> None:
    with np.load(certified / "indices.npz") as file:
        good = dict(file)
    changed: list[dict[str, Any]] = [
        good | {"bound": good["bound"][:-1]},
        good | {"bound": good["bound"][::-1]},
        good | {"bound": np.r_[good["bound"][:-1], good["bound"][0]]},
        good | {"calibration": good["bound"][:3]},
        good | {"prior": good["bound"][:3]},
        good | {"bound": good["bound"].astype(np.int32)},
        good | {"bound": good["bound"].astype(object)},
        good | {"more": good["bound"]},
        {name: array for name, array in good.items() if name != "prior"},
        {},
    ]
    for arrays in changed:
        np.savez(certified / "indices.npz", allow_pickle=True, **arrays)
        agree(certified)
        assert disputed(certified)


def test_a_checkpoint_of_something_else(disputed: Call, certified: Path, agree: Call) -> None:
    from safetensors.numpy import load, save

    good = load((certified / "checkpoint.safetensors").read_bytes())["w"]
    zeros, nan = np.zeros_like(good), np.where(np.arange(len(good)) == 3, np.float32("nan"), good)
    for tensors in ({"w": zeros}, {"w": nan}, {"w": good[:-1]}, {"w": good.astype(np.float64)}, {"v": good}, {}):
        agree(certified, "checkpoint.safetensors", save(tensors))
        assert disputed(certified), tensors
    agree(certified, "checkpoint.safetensors", b"no tensors")
    assert disputed(certified)


@pytest.mark.parametrize("option", ["--seed", "--lr"])
def test_the_message_of_another_run(
    pactl: Call, disputed: Call, certified: Path, agree: Call, npz: Path, quick: Any, tmp_path: Path, option: str
) -> None:
    other = tmp_path / "other"
    options = (*quick, "--train-subset", 0.9, option, 2)
    assert pactl("train", "--dataset", f"npz:{npz}", *options, "--out", other).code == 0
    assert pactl("bound", other, "--quant-epochs", 0).code == 0
    agree(certified, "message.bin", (other / "message.bin").read_bytes())
    assert disputed(certified)
    certificate = json.loads((certified / "bound.json").read_text())
    certificate["message_sha256"] = json.loads((other / "bound.json").read_text())["message_sha256"]
    agree(certified, "bound.json", certificate)
    assert disputed(certified)
    agree(certified, "bound.json", (other / "bound.json").read_bytes())
    assert disputed(certified), "its settings, or its training error, are another's"


def test_data_that_were_changed(
    pactl: Call, disputed: Call, tmp_path: Path, arrays: dict[str, Any], quick: Any, agree: Call
) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    run = Path(pactl("train", "--dataset", f"npz:{path}", *quick).out.strip())
    assert pactl("bound", run, "--quant-epochs", 2).code == 0
    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda a: a["x_train"].__setitem__((0, 0, 0), a["x_train"][0, 0, 0] ^ 1),
        lambda a: a["x_train"].__setitem__((299, 7, 7), a["x_train"][299, 7, 7] ^ 128),
        lambda a: a["y_train"].__setitem__(123, (a["y_train"][123] + 1) % 3),
        lambda a: a.update(x_train=a["x_train"][::-1].copy(), y_train=a["y_train"][::-1].copy()),
        lambda a: a.update(x_train=a["x_train"][:-1], y_train=a["y_train"][:-1]),
        lambda a: a.update(x_train=a["x_train"] / np.float32(255), x_test=a["x_test"] / np.float32(255)),
        lambda a: a.update(y_test=(a["y_test"] + 1) % 3),
        lambda a: [a.pop("x_test"), a.pop("y_test")],
    ]
    for change in changes:
        altered = {name: array.copy() for name, array in arrays.items()}
        change(altered)
        np.savez(path, **altered)
        assert disputed(run)
    np.savez(path, **arrays)
    assert disputed(run) is None
    agree(run, data_sha256="0" * 64)
    assert disputed(run)


def test_a_certificate_put_back_into_a_run_that_went_on_without_it(
    disputed: Call, certified: Path, trained: Path
) -> None:
    for name in ("message.bin", "bound.json", "metrics.jsonl"):
        shutil.copy(certified / name, trained / name)
    manifest = json.loads((trained / "manifest.json").read_text())
    manifest["stages"]["bound"] = "complete"
    (trained / "manifest.json").write_text(json.dumps(manifest))
    assert "metrics.jsonl" in (disputed(trained) or "")
