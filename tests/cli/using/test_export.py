"""`pactl export`: files of every kind answer as `pactl predict` does, say what they are, and are looked at first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from numpy.typing import NDArray

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.commands.next_steps import location_options
from pactl_cli.data.loading import load_dataset
from pactl_cli.runs.settings import BoundSettings
from pactl_cli.stages import exporting
from pactl_cli.stages.classifier import Classifier, load
from pactl_cli.stages.model_card import model_card

Call = Callable[..., Any]
Answers = Callable[[NDArray[Any]], NDArray[Any]]

HAS_ONNX = all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
KINDS = [".safetensors", ".pt2", pytest.param(".onnx", marks=pytest.mark.skipif(not HAS_ONNX, reason="NO ONNX HERE"))]
SMALL = ("--model-name", "resnet20", "--base-width", 4, "--intrinsic-dim", 20, "--epochs", 4, "--lr", 0.1)


def opened(file: Path, classifier: Classifier) -> tuple[Answers, dict[str, Any]]:
    """Return the logits that a file gives, by another program's means, and its metadata."""
    if file.suffix == ".onnx":
        onnx, onnxruntime = map(pytest.importorskip, ("onnx", "onnxruntime"))
        [said] = [row.value for row in onnx.load(file).metadata_props if row.key == "pactl"]
        session = onnxruntime.InferenceSession(file)
        return lambda images: session.run(None, {session.get_inputs()[0].name: images})[0], json.loads(said)
    if file.suffix == ".pt2":
        files = {"pactl.json": ""}
        module = torch.export.load(file, extra_files=files).module()
        return lambda images: module(torch.from_numpy(images)).detach().numpy(), json.loads(files["pactl.json"])
    data = file.read_bytes()
    said = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["pactl"]
    facts, network = json.loads(said), classifier.network.network
    network.load_state_dict(safetensors.torch.load(data))
    mean, std = (torch.tensor(facts["preparation"][name]).view(-1, 1, 1) for name in ("mean", "std"))
    return lambda images: network((torch.from_numpy(images) / 255 - mean) / std).detach().numpy(), facts


def require_same_labels(pactl: Call, run: Path, file: Path, images: NDArray[Any]) -> dict[str, Any]:
    """Check that a file gives the labels of `pactl predict`, or else that rounding explains it; return its metadata."""
    np.save("inputs.npy", images)
    lines = [json.loads(line) for line in pactl("predict", run, "inputs.npy", "--json").out.splitlines()]
    answers, facts = opened(file, load(run, device="cpu"))
    logits = np.concatenate([answers(part) for part in np.array_split(images, 7)])  # of several sizes
    differs = logits.argmax(1) != [line["label"] for line in lines]
    explained = np.array([line["margin"] for line in lines]) < 1e-4 * np.abs(logits).max(1)
    assert len(lines) == len(images)
    assert not (differs & ~explained).any()
    return facts


@pytest.fixture(params=["dense", "normed"])
def run(request: pytest.FixtureRequest, pactl: Call, npz: Path, certified: Path) -> Path:
    if request.param == "normed":
        assert pactl("train", "--dataset", f"npz:{npz}", *SMALL, "--out", "normed").code == 0
        assert pactl("bound", "normed", "--quant-epochs", 1).code == 0
    return certified if request.param == "dense" else Path("normed")


@pytest.mark.parametrize("ending", KINDS)
def test_a_file_answers_as_predict_does(pactl: Call, run: Path, npz: Path, ending: str) -> None:
    file = Path(f"mine{ending}")
    done = pactl("export", run, "--to", file)
    assert (done.code, done.out) == (0, f"{file}\n"), done.err
    document = json.loads((run / "bound.json").read_text())
    counted = f"of {document['bound_examples']:,}, and {document['errors']:,} are certified"
    assert f"{file} was loaded again: on S it makes" in done.err
    assert counted in done.err
    facts = require_same_labels(pactl, run, file, np.load(npz)["x_test"][:, None])
    assert facts["certificate_sha256"] == sha256((run / "bound.json").read_bytes()).hexdigest()
    assert facts["statement"] == document["statement"]
    assert facts["class_names"] == ["0", "1", "2"]
    assert "exists already" in pactl("export", run, "--to", file).complaint(2)
    assert pactl("export", run, "--to", file, "--force").code == 0


@pytest.mark.parametrize("ending", KINDS)
def test_without_the_data_logits_are_compared(pactl: Call, photographs: Path, ending: str) -> None:
    options = ("--image-size", 8, *SMALL)
    assert pactl("train", "--dataset", f"folder:{photographs}", *options, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 1).code == 0
    here = photographs.rename("moved")
    done = pactl("export", "run", "--to", f"x{ending}")
    assert (done.code, done.out) == (0, f"x{ending}\n")
    assert "on 64 fixed inputs its logits are those of the certified classifier" in done.err
    named = pactl("export", "run", "--to", f"y{ending}", "--dataset", f"folder:{here}")
    assert "on S it makes" in named.err
    wrong = pactl("export", "run", "--to", f"z{ending}", "--dataset", "folder:nowhere")
    assert wrong.complaint(2)
    assert not Path(f"z{ending}").exists()


@pytest.mark.parametrize("ending", KINDS)
@pytest.mark.parametrize("has_data", [True, False])
def test_a_file_that_answers_otherwise_is_not_there(
    pactl: Call, certified: Path, npz: Path, monkeypatch: pytest.MonkeyPatch, ending: str, has_data: bool
) -> None:
    form = exporting._FORMS[ending]

    def wrong(data: bytes, classifier: Classifier) -> Callable[[Any], list[torch.Tensor]]:
        right = form.read(data, classifier)
        return lambda inputs: [right(inputs)[0].flip(1)]

    monkeypatch.setitem(exporting._FORMS, ending, replace(form, read=wrong))
    if not has_data:
        monkeypatch.setattr(exporting, "_problem", lambda *_: None)
    Path(f"x{ending}").write_text("old")
    said = pactl("export", certified, "--to", f"x{ending}", "--force").complaint(1)
    assert ("errors on S" if has_data else "has other logits") in said
    assert Path(f"x{ending}").read_text() == "old"


@pytest.mark.parametrize("kind", ["table", "texts", "mapping", "kept statistics"])
@pytest.mark.parametrize("ending", KINDS)
def test_other_inputs_and_networks(pactl: Call, request: pytest.FixtureRequest, kind: str, ending: str) -> None:
    quick, data, named = ("--intrinsic-dim", 8, "--epochs", 2), list[object](), list[object]()
    if kind == "table":
        data = [f"csv:{request.getfixturevalue('people')}", "--label", "y", "--missing", "constant"]
    elif kind == "kept statistics":
        npz = request.getfixturevalue("npz")
        assert pactl("train", "--dataset", f"npz:{npz}", *SMALL, "--intrinsic-dim", 0, "--out", "source").code == 0
        data = [f"folder:{request.getfixturevalue('photographs')}", "--image-size", 8, "--calibration-examples", 0]
    else:
        data = [f"folder:{request.getfixturevalue('reviews')}", "--sequence-length", 16]
    if kind == "mapping":
        named = ["--model-name", f"{request.getfixturevalue('networks')}:masked"]
        data += ["--text-form", "masked"]
    command = ["transfer", "source"] if kind == "kept statistics" else ["train"]
    assert pactl(*command, "--dataset", *data, *quick, *named, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 1, *named).code == 0
    done = pactl("export", "run", "--to", f"x{ending}", *named)
    assert (done.code, done.out) == (0, f"x{ending}\n"), done.err


def test_a_name_of_no_kind_and_a_place_that_is_none(pactl: Call, certified: Path) -> None:
    assert "end it with .safetensors, .pt2, .onnx" in pactl("export", certified, "--to", "x.pth").complaint(2)
    assert "there is no directory nowhere" in pactl("export", certified, "--to", "nowhere/x.pt2").complaint(2)
    assert "no identifier" in pactl("export", certified, "--to", "x.pt2", "--license", "a: b").complaint(2)
    assert not list(Path().glob("x.*"))


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_files_of_runs_and_one_place_for_two_are_refused(pactl: Call, certified: Path, force: tuple[str, ...]) -> None:
    before = {path.name: path.read_bytes() for path in certified.iterdir()}
    for place in (certified / "classifier.safetensors", certified / "message.bin"):
        to, card = (place, "README.md") if place.suffix == ".safetensors" else ("x.safetensors", place)
        said = pactl("export", certified, "--to", to, "--card", card, *force).complaint(2)
        assert f"{place} is a directory, or has the name of a file of runs" in said
    said = pactl("export", certified, "--to", "m.pt2", "--card", f"../{Path.cwd().name}/m.pt2", *force)
    assert "is the file of --to" in said.complaint(2)
    assert before == {path.name: path.read_bytes() for path in certified.iterdir()}
    assert not [name for name in ("x.safetensors", "README.md", "m.pt2") if Path(name).exists()]


def test_onnx_that_is_not_installed_is_named(pactl: Call, certified: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    assert "pip install 'pactl[onnx]'" in pactl("export", certified, "--to", "x.onnx").complaint(2)


def test_a_network_that_cannot_be_exported_says_so(pactl: Call, npz: Path, tmp_path: Path) -> None:
    name = f"odd_{tmp_path.name}".replace("-", "_")
    Path(f"{name}.py").write_text(
        "from torch import nn\n"
        "class Odd(nn.Module):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__()\n"
        "        self.dense = nn.Linear(64, classes)\n"
        "    def forward(self, x):\n"
        "        return self.dense(x.flatten(1)) * (2 if float(x.flatten()[0].item()) > 9 else 1)\n"
        "def odd(classes, channels):\n"
        "    return Odd(classes)\n"
    )
    network = ("--model-name", f"{name}:odd")
    assert (
        pactl("train", "--dataset", f"npz:{npz}", *network, "--intrinsic-dim", 8, "--epochs", 1, "--out", "r").code == 0
    )
    assert pactl("bound", "r", "--quant-epochs", 0, *network).code == 0
    said = pactl("export", "r", "--to", "x.pt2", *network).complaint(1)
    assert "x.pt2: the network cannot be exported so" in said
    assert "--to NAME.safetensors" in said
    assert pactl("export", "r", "--to", "x.safetensors", *network).code == 0


# --- The card ---------------------------------------------------------------------------------------------------------


def front(card: str) -> tuple[dict[str, Any], str]:
    """Return what stands before a card's text, and the text."""
    before, facts, text = card.split("---\n", 2)
    assert not before
    return yaml.safe_load(facts), text


def test_a_card_says_what_was_certified(pactl: Call, certified: Path) -> None:
    done = pactl("export", certified, "--to", "x.safetensors", "--card", "README.md", "--license", "cc-by-4.0")
    assert (done.code, done.out) == (0, "x.safetensors\n")
    facts, text = front(Path("README.md").read_text("utf-8"))
    document = json.loads((certified / "bound.json").read_text())
    assert (facts["license"], facts["library_name"]) == ("cc-by-4.0", "pactl")
    [result] = facts["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == document["error_bound"]
    assert document["statement"] in text
    assert len(document["assumptions"]) == sum(
        line.startswith("- ") for line in text.partition("no program")[2].splitlines()
    )
    assert "pactl verify RUN_DIR" in text
    assert "exists already" in pactl("export", certified, "--to", "y.pt2", "--card", "README.md").complaint(2)
    assert not Path("y.pt2").exists()


def test_a_card_names_the_code_that_verify_needs(pactl: Call, npz: Path, tmp_path: Path) -> None:
    name = f"data_{tmp_path.name}".replace("-", "_")
    Path(f"{name}.py").write_text(
        f"import numpy as np\ndef data():\n    it = np.load({str(npz)!r})\n    return it['x_train'], it['y_train']\n"
    )
    data = ("--dataset", f"{name}:data")
    assert pactl("train", *data, "--intrinsic-dim", 8, "--epochs", 1, "--out", "r").code == 0
    assert pactl("bound", "r", "--quant-epochs", 0, *data).code == 0
    for named, file in (((), "x.safetensors"), (data, "y.safetensors")):
        assert pactl("export", "r", "--to", file, *named, "--card", "README.md", "--force").code == 0
        [command] = [line for line in Path("README.md").read_text().splitlines() if line.startswith("pactl verify")]
        assert command == f"pactl verify RUN_DIR --dataset {name}:data"
    assert pactl(*command.replace("RUN_DIR", "r").split()[1:]).code == 0
    certificate, config = load(Path("r")).certificate, Path("r/config.yml")
    config.write_text(config.read_text().replace(f"{name}:data", "python:ndarray"))
    assert location_options(Path("r"), certificate, BoundSettings())["dataset"] == "MODULE:FUNCTION"


def test_no_words_of_a_run_become_markup(certified: Path) -> None:
    classifier = load(certified)
    evil = "](https://evil.example) <script>alert(1)</script>\n---\n# Verified `x` | www.evil.example *b*"
    certificate = Certificate.model_construct(
        **dict(classifier.certificate)
        | {"statement": evil, "assumptions": (evil,), "dataset": evil, "data_sha256": evil, "message_sha256": evil}
        | {"side_information": dict(classifier.certificate.side_information) | {"source": evil}}
        | {"configuration": dict(classifier.certificate.configuration) | {"model_name": evil}}
    )
    classifier.certificate, classifier.class_names = certificate, (evil, evil, evil)
    card = model_card(classifier, Path(f"{evil}.pt2"), "other", {})
    facts, text = front(card)
    assert facts.keys() == {"license", "library_name", "pipeline_tag", "tags", "model-index"}
    outside = text.replace("\\\\", "").partition("```")[0]
    assert "<script" not in outside.replace("\\<", "")
    assert "://" not in outside
    assert "www.evil" not in outside
    assert not any(line.startswith(("# Verified", "---")) for line in outside.splitlines())
    assert "](" not in outside.replace("\\]", "")


def test_hugging_face_reads_the_card(pactl: Call, certified: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    assert pactl("export", certified, "--to", "x.safetensors", "--card", "README.md").code == 0
    data = hub.ModelCard.load("README.md").data
    assert data.eval_results[0].metric_type == "error_bound"
    assert data.library_name == "pactl"


@pytest.mark.slow
def test_ten_thousand_digits_of_mnist(pactl: Call, data_dir: Path) -> None:
    data = ("--data-dir", data_dir)
    train = ("train", "--dataset", "mnist", *data, "--intrinsic-dim", 100, "--epochs", 1, "--train-subset", 0.1)
    assert pactl(*train, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 1, *data).code == 0
    test = load_dataset("mnist", data_dir, may_write=False).test
    assert test is not None
    images = test.resident().images.numpy()
    assert images.shape == (10_000, 1, 28, 28)
    for file in map(Path, ["x.safetensors", "x.pt2", *(["x.onnx"] if HAS_ONNX else [])]):
        assert "on S it makes" in pactl("export", "run", "--to", file, *data).err
        require_same_labels(pactl, Path("run"), file, images)
