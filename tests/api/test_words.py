"""What people read: errors in words of Python, notes, progress, a table in a notebook."""

from __future__ import annotations

import sys
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pactl_cli as pactl
from pactl_cli.api.keywords import settings_of, translated
from pactl_cli.api.screen import Screen
from pactl_cli.errors import PactlError
from pactl_cli.runs.kinds import KINDS
from pactl_cli.runs.settings import BoundSettings


@pytest.mark.parametrize(
    ("shell", "python"),
    [
        ("--intrinsic-dim 0: must be 1 or more", "intrinsic_dim=0: must be 1 or more"),
        ("choose another --batch-size, so that", "choose another batch_size, so that"),
        ("try a smaller --lr; the last checkpoint is kept", "try a smaller lr; the last checkpoint is kept"),
        ("--resume and --force exclude each other", "resume=True and force=True exclude each other"),
        ("--no-use-kmeans", "use_kmeans=False"),
        ("--normalise calibration needs at least 2", 'normalise="calibration" needs at least 2'),
        ("--codebook grid and --no-use-kmeans", 'codebook="grid" and use_kmeans=False'),
        ("--levels is for --codebook kmeans or bins", 'levels is for codebook="kmeans" or bins'),
        ("--dataset npz:my.npz: x_train is empty", 'dataset="npz:my.npz": x_train is empty'),
        ("--dataset folder:my photos: there is no train/", 'dataset="folder:my photos": there is no train/'),
        ("--dataset csv:a b.csv has no texts: --text", 'dataset="csv:a b.csv" has no texts: text'),
        ("--dataset 'mnits' is not known", "dataset='mnits' is not known"),
        ("name a function: --dataset MODULE:FUNCTION", "name a function: dataset=MODULE:FUNCTION"),
        ("--device cuda is not available", 'device="cuda" is not available'),
        ("--lr 1e-3, --delta 0.05)", "lr=1e-3, delta=0.05)"),
        ("--continue runs/a: it is theta0", 'continued="runs/a": it is theta0'),
        ("--duplicates drop counts each once", 'duplicates="drop" counts each once'),
        ("--certify cost needs a file: --cost FILE", 'certify="cost" needs a file: cost=FILE'),
        ("--certify top-7: there are 3 classes", 'certify="top-7": there are 3 classes'),
        ("a larger --abstain-error)", "a larger abstain_error)"),
        ("--groups my.csv has 3 groups", 'groups="my.csv" has 3 groups'),
        ("give another --headline", "give another headline"),
        ("see pactl train --help", "see help(pactl.train)"),
        ("go on with: pactl train --out runs/x --resume", "go on with: pactl train --out runs/x --resume"),
        ("run pactl bound runs/x --force; or give --force", "run pactl bound runs/x --force; or give force=True"),
        ("--unheard-of 3 stays", "--unheard-of 3 stays"),
        ("no option at all - here", "no option at all - here"),
    ],
)
def test_an_option_is_a_keyword(shell: str, python: str) -> None:
    assert translated(shell) == python


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: pactl.train(intrinsic_dims=3), "train has no setting intrinsic_dims (did you mean intrinsic_dim?)"),
        (lambda: pactl.bound("run", epochs=3), "bound has no setting epochs (did you mean quant_epochs?)"),
        (lambda: pactl.verify("run", zzz=3), "verify has no setting zzz (see help(pactl.verify))"),
        (lambda: pactl.train(class_names=("a",)), "train has no setting class_names"),
        (lambda: pactl.train(delta=3), "train has no setting delta"),
        (
            lambda: pactl.train(intrinsic_dim=-1, lr=0, epochs=2.5),
            "intrinsic_dim=-1: must be 0 or more; epochs=2.5: must be a whole number; lr=0: must be above 0",
        ),
        (lambda: pactl.train(resume=True), "resume=True needs out (name the run directory to resume)"),
        (lambda: pactl.train(dataset="mnits"), "dataset='mnits' is not known (did you mean mnist?"),
        (lambda: pactl.bound("nowhere"), "nowhere is not a run directory: there is no such directory"),
    ],
)
def test_an_error_names_the_keyword(call: Any, said: str) -> None:
    with pytest.raises(PactlError) as caught:
        call()
    assert str(caught.value).startswith(said)
    assert "--" not in str(caught.value)


def test_every_setting_of_a_command_is_a_keyword() -> None:
    assert {"dataset", "intrinsic_dim", "continued"} <= settings_of(KINDS["train"].settings)
    assert {"quant_epochs", "delta"} <= settings_of(BoundSettings)
    assert "class_names" not in settings_of(KINDS["train"].settings)


def test_every_name_of_the_interface_is_there_and_no_other() -> None:
    for name in pactl.__all__:
        assert getattr(pactl, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        pactl.trian  # noqa: B018
    assert pactl.risk.binomial_bound(errors=0, examples=100, bits=0, delta=0.05) == pytest.approx(0.0295, abs=1e-4)


def test_what_is_to_be_known_of_the_data_is_a_warning(arrays: Any, quick: Any, capfd: Any) -> None:
    X, y = arrays
    twice = np.concatenate([X, X]), np.concatenate([y, y])
    with pytest.warns(UserWarning, match=r'exact copies of others.*\(duplicates="drop" counts each once\)'):
        pactl.train(dataset=twice, **quick)
    assert capfd.readouterr() == ("", "")


def test_a_certificate_is_a_small_table_in_a_notebook(arrays: Any, quick: Any) -> None:
    run = pactl.train(dataset=arrays, **quick)
    assert "<table>" not in run._repr_html_()
    certificate = pactl.bound(run, dataset=arrays, quant_epochs=1)
    html = certificate._repr_html_()
    assert html.startswith("<table>")
    assert f"{certificate.errors} of 200 examples" in html
    assert "<th>confidence</th><td>95 %</td>" in html
    assert f"{certificate.paid_bits:,g} bits" in html
    assert "&quot;python:arrays&quot;" in html
    assert run._repr_html_().endswith(html)
    hostile = certificate.model_copy(update={"statement": "<script>alert(1)</script>"})
    assert "<script" not in hostile._repr_html_()


class _Notebook(SimpleNamespace):
    """A stand-in for IPython in a kernel."""

    shown: list[str]

    def update(self, html: str) -> None:
        self.shown.append(html)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> _Notebook:
    it = _Notebook(shown=[])
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    parts = SimpleNamespace(HTML=str, display=lambda html, display_id: it.update(html) or it)
    monkeypatch.setitem(sys.modules, "IPython.display", parts)
    return it


def test_a_notebook_shows_a_bar_and_takes_it_away(notebook: _Notebook, arrays: Any, quick: Any) -> None:
    with Screen(None).progress("counting <errors>") as advance:
        advance(1, 4)
        advance(2, 4)  # too soon to be shown
    assert notebook.shown == [
        "",
        '<div>counting &lt;errors&gt; <progress max="4" value="1"></progress> 1/4</div>',
        "",
    ]
    pactl.train(dataset=arrays, **quick)
    assert any("training" in html for html in notebook.shown)
    notebook.shown.clear()
    pactl.train(dataset=arrays, **quick, progress=False)
    assert notebook.shown == []


def test_nothing_is_printed_where_nobody_looks(arrays: Any, quick: Any, capfd: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pactl.bound(pactl.train(dataset=arrays, **quick), dataset=arrays, quant_epochs=1)
    assert capfd.readouterr() == ("", "")


def test_no_bits_are_none_with_either_sign() -> None:
    assert str(BoundSettings.parse({"misc_extra_bits": -0.0}).misc_extra_bits) == "0.0"
    with pytest.raises(PactlError, match="must be 0 or more"):
        BoundSettings.parse({"misc_extra_bits": -1e-9})
